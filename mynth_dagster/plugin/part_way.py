"""What checks say of a run that failed before all of its partitions landed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from mynth_dagster.errors import name_some
from mynth_dagster.models.partition import Slice
from mynth_dagster.plugin.checks import ACCOUNTED_FOR

NOT_LANDED = "mynth/not_landed"
"""In the metadata of a check: partitions that its run failed before."""

_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def judged_part_way(
    results: Iterable[dg.AssetCheckResult],
    done: Mapping[dg.AssetKey, Mapping[Slice, Any]],
    slices: Sequence[Slice],
) -> list[dg.AssetCheckResult]:
    """Results over what is done of a run that was for these partitions."""
    told = []
    for result in results:
        assert result.asset_key is not None
        landed = done[result.asset_key]
        left = [slice_ for slice_ in slices if slice_ not in landed]
        told.append(_not_a_pass(result, left, is_any_landed=bool(landed)) if left else result)
    return told


def _not_a_pass(
    result: dg.AssetCheckResult, left: Sequence[Slice], *, is_any_landed: bool
) -> dg.AssetCheckResult:
    """
    What nobody judged is not passed: the blocking check fails, any other warns at least.

    Figures are of what landed; where nothing did there are none.
    """
    has_failed = not result.passed and result.severity is _ERROR
    is_error = has_failed or result.check_name == ACCOUNTED_FOR
    named = name_some([slice_.key for slice_ in left])
    return dg.AssetCheckResult(
        check_name=result.check_name,
        asset_key=result.asset_key,
        passed=False,
        severity=_ERROR if is_error else _WARN,
        metadata={**(result.metadata if is_any_landed else {}), NOT_LANDED: named},
    )
