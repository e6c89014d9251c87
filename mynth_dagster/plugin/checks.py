"""Checks: what must hold of finished tables, looked up in the tables themselves."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from mynth_dagster.errors import name_some
from mynth_dagster.models.partition import Slice
from mynth_dagster.tables.audit import Audit

ACCOUNTED_FOR = "every_prompt_accounted_for"


def accounted_for_spec(images: dg.AssetKey) -> dg.AssetCheckSpec:
    """The blocking check on `images`."""
    return dg.AssetCheckSpec(
        ACCOUNTED_FOR,
        asset=images,
        blocking=True,
        description="Every prompt row has as many images and image failures as it asked for, or "
        "exactly one failure. If this fails, the tables were changed or written by something "
        "else: collect the partition again.",
    )


def accounted_for_result(images: dg.AssetKey, audits: Mapping[Slice, Audit]) -> dg.AssetCheckResult:
    """One result over all partitions of a run; the worst wins."""
    bad = {slice_: audit for slice_, audit in audits.items() if not audit.passed}
    examples = [
        f"{s.key}: {', '.join(a.examples) or 'rows nobody asked for'}" for s, a in bad.items()
    ]
    return dg.AssetCheckResult(
        check_name=ACCOUNTED_FOR,
        asset_key=images,
        passed=not bad,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "mynth/rows": sum(audit.n_rows for audit in audits.values()),
            "mynth/unaccounted": sum(audit.n_unaccounted for audit in audits.values()),
            "mynth/strangers": sum(audit.n_strangers for audit in audits.values()),
            "mynth/examples": name_some(examples) or "none",
        },
    )
