"""How a run ends that failed before all of its partitions landed: what is recorded and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg

from mynth_dagster.engine.auto_resubmit import leave_to_sensor
from mynth_dagster.engine.stop import StopReason, passing_reason
from mynth_dagster.engine.submit import SubmitCounts
from mynth_dagster.errors import MynthError, name_some
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import format_usd
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.checks import ACCOUNTED_FOR
from mynth_dagster.plugin.failing import NOTHING_SENT, in_words, is_passing
from mynth_dagster.plugin.metadata import Metadata
from mynth_dagster.plugin.recording import record_some
from mynth_dagster.plugin.resource import MynthResource

NOT_LANDED = "mynth/not_landed"
"""In the metadata of a check: partitions that its run failed before."""

_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@contextmanager
def recording_part_way(
    context: dg.AssetExecutionContext,
    assets: BatchAssets,
    tables: Mapping[dg.AssetKey, Mapping[Slice, Metadata]],
    slices: Sequence[Slice],
    judge: Callable[[], Sequence[dg.AssetCheckResult]] = list,
    *,
    counts: SubmitCounts | None = None,
    on_outage: Callable[[StopReason], None] | None = None,
    then: str = "",
) -> Iterator[None]:
    """
    If the work ends early, record the finished partitions, and judge, before the run fails.

    A failure that passes, before any paid request, may be retried by Dagster.

    Args:
        counts: Of the paid requests; None in work that is free.
        on_outage: Called where Mynth was away, so that somebody goes on later.
        then: Added to what the failure says.
    """
    try:
        yield
    except BaseException as error:
        results = judged_part_way(judge(), tables, slices)
        record_some(context, assets.partitions, tables, checks=results)
        if not isinstance(error, MynthError):
            raise
        reason = passing_reason(error)
        if reason is not None and on_outage is not None:
            on_outage(reason)
        is_resumed = reason is not None and on_outage is not None and assets.resend
        next_step = _SENSOR_GOES_ON if is_resumed else ""
        raise dg.Failure(
            in_words(error, money=_money(counts), next_step=next_step) + then,
            allow_retries=is_passing(error) and (counts is None or counts.n_posts == 0),
        ) from error


_SENSOR_GOES_ON = "the completion sensor starts a run that goes on, some minutes later."


def _money(counts: SubmitCounts | None) -> str:
    if counts is None or not counts.n_posts:
        return NOTHING_SENT
    reserved = format_usd(counts.reserved_units)
    return f"{counts.n_accepted} tasks were created, {reserved} reserved by this run."


def later(
    mynth: MynthResource, assets: BatchAssets, slices: Sequence[Slice], *, code: str = ""
) -> Callable[[StopReason], None]:
    """What leaves these partitions to the sensor; ``code`` instead of the reason's own."""

    def leave(reason: StopReason) -> None:
        stop = replace(reason, code=code or reason.code)
        asyncio.run(leave_to_sensor(mynth.engine_settings(), assets.batch, slices, stop))

    return leave


def will_send(context: dg.AssetExecutionContext, assets: BatchAssets) -> bool:
    """Whether this run goes on to send all rows; of a look at prompts nobody may be made to pay."""
    step, steps = f"{assets.batch.name}__submit", context.run.step_keys_to_execute
    if steps is not None and step not in steps:
        return False
    if assets.key("tasks") not in context.job_def.asset_layer.executable_asset_keys:
        return False
    ops: Any = context.run.run_config.get("ops", {})
    return not (ops.get(step, {}).get("config") or {}).get("prompt_ids")


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
