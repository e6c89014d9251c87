"""
The asset checks, which judge a run's partitions by the tables and the ledger, never by Mynth.

Each gives one result for a run over all its partitions: the worst of them wins, and is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

import dagster as dg

from mynth_dagster.errors import name_some
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.batch_settings import Checks
from mynth_dagster.models.money import format_usd, units_from_usd, usd_from_units
from mynth_dagster.plugin.metadata import failure_rate, name_rows
from mynth_dagster.tables.audit import Audit
from mynth_dagster.tables.images import FilesSummary
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import UNRATED, ResultsSummary, add_example


def percent(share: float) -> str:
    """Format a share as a percentage, as exact as it was given."""
    return f"{share * 100:g}%"


def thresholds(what: str, warn: float, error: float) -> str:
    """Describe when a check warns and fails; ``what`` is whose share it judges, with its verb."""
    fails = f", fails if {_more_than(error)}" if error < 1 else ""
    return f"Warns if {_more_than(warn)} of a partition's {what}{fails}."


def _more_than(share: float) -> str:
    return f"more than {percent(share)}" if share else "any"


# The check of content ratings: which levels images have, and which they must not have.


CONTENT_RATING = "content_rating"

Levels = Mapping[Slice, Mapping[str, int]]


def content_rating_spec(
    images: dg.AssetKey, forbidden: Sequence[str], unrated_share_warn: float
) -> dg.AssetCheckSpec:
    """Make the check's spec: levels that are forbidden, and the share that may stay unrated."""
    return dg.AssetCheckSpec(
        CONTENT_RATING,
        asset=images,
        description=f"No image has a forbidden level ({', '.join(forbidden) or 'none is named'}), "
        f"and {_unrated_in_words(unrated_share_warn)}. "
        "If it fails: look at `rating_level` in `images` before anybody else does, and edit these "
        "prompts. Ratings describe; borderline images may be rated otherwise another time.",
    )


def _unrated_in_words(share_warn: float) -> str:
    if not share_warn:
        return "every image could be rated"
    return f"at most {percent(share_warn)} of a partition's images could not be rated"


def content_rated(
    images: dg.AssetKey,
    summaries: Sequence[ResultsSummary],
    forbidden: Sequence[str],
    unrated_share_warn: float,
) -> dg.AssetCheckResult:
    """Check that no image has a forbidden level, and that enough could be rated."""
    by_slice = {summary.slice: _with_unrated(summary) for summary in summaries}
    levels = sum((Counter(found) for found in by_slice.values()), Counter[str]())
    n_forbidden = sum(levels[level] for level in forbidden)
    bad = _forbidden(by_slice, forbidden) + _unrated(by_slice, unrated_share_warn)
    n_rated = levels.total()
    rows = (
        (level, summary.images_by_level[level], examples)
        for summary in summaries
        for level, examples in summary.rows_by_level.items()
        if bad and level in (*forbidden, UNRATED)
    )
    return dg.AssetCheckResult(
        check_name=CONTENT_RATING,
        asset_key=images,
        passed=not bad,
        severity=dg.AssetCheckSeverity.ERROR if n_forbidden else dg.AssetCheckSeverity.WARN,
        metadata={
            "mynth/images_by_level": dg.MetadataValue.json(dict(levels)),
            **{f"mynth/share_{level}": round(n / n_rated, 4) for level, n in levels.items()},
            "mynth/forbidden": n_forbidden,
            "mynth/rows": _as_in_rows(rows),
            "mynth/partitions": name_some(bad) or "none",
        },
    )


def _with_unrated(summary: ResultsSummary) -> dict[str, int]:
    """Count images without a rating and without an error as not rated, too."""
    levels = dict(summary.images_by_level)
    n_silent = summary.n_images - sum(levels.values())
    return {**levels, UNRATED: levels.get(UNRATED, 0) + n_silent} if n_silent > 0 else levels


def _forbidden(by_slice: Levels, forbidden: Sequence[str]) -> list[str]:
    return [
        f"{slice_.key}: {found[level]} {level}"
        for slice_, found in by_slice.items()
        for level in forbidden
        if level in found
    ]


def _unrated(by_slice: Levels, share_warn: float) -> list[str]:
    shares = {
        s: found.get(UNRATED, 0) / sum(found.values()) for s, found in by_slice.items() if found
    }
    return [f"{s.key}: {share:.1%} not rated" for s, share in shares.items() if share > share_warn]


ACCOUNTED_FOR = "every_prompt_accounted_for"
PROMPTS_VALID = "prompts_valid"
FAILURE_RATE = "failure_rate"
NOTHING_OPEN = "nothing_unresolved"
WITHIN_BUDGET = "within_budget"
FILES_KEPT = "every_image_has_its_file"

_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def check_specs(
    key: Callable[[str], dg.AssetKey], limits: Checks, *, rated: bool = False
) -> list[dg.AssetCheckSpec]:
    """
    Make the specs of all checks of a batch; ``key`` gives the key of a table's asset.

    ``rated``: the batch has its images' content rated.
    """
    images, failures = key("images"), key("failures")
    specs = [
        dg.AssetCheckSpec(
            PROMPTS_VALID,
            asset=key("prompts"),
            description="Rows that break a rule are kept, never sent and never paid for. "
            f"{thresholds('rows do', limits.rejected_rate_warn, limits.rejected_rate_error)} "
            "If it does: read `problem_message` in `prompts`, correct these rows at their "
            "source, and materialize `prompts` again.",
        ),
        dg.AssetCheckSpec(
            ACCOUNTED_FOR,
            asset=images,
            blocking=True,
            description="Every prompt row has the images and image failures that it asked for, "
            "each once, or exactly one failure. If this fails, the tables were changed or written "
            "by something else, or a run failed before they landed: collect the partition again.",
        ),
        dg.AssetCheckSpec(
            FAILURE_RATE,
            asset=failures,
            description=thresholds(
                "images that valid rows ask for are missing",
                limits.failure_rate_warn,
                limits.failure_rate_error,
            )
            + " If it does: read the codes and next steps in `failures`; what may end "
            "otherwise is sent again by the retry job.",
        ),
        dg.AssetCheckSpec(
            NOTHING_OPEN,
            asset=failures,
            description="No row waits for evidence or for its task. If it warns: unresolved rows "
            "may have been accepted and are never sent again by themselves. Materialize `tasks` "
            "again to search for their tasks, or resolve them with the resolve job. Stalled tasks "
            "are collected whenever they finish.",
        ),
    ]
    specs.append(
        dg.AssetCheckSpec(
            FILES_KEPT,
            asset=key("files"),
            description="Where files are kept: every image has its file in the store. "
            + thresholds(
                "images have none", limits.missing_file_rate_warn, limits.missing_file_rate_error
            )
            + " If it does: `failures` has the reasons under the stage `download`; materialize "
            "`files` again where they may pass.",
        )
    )
    if limits.budget_usd_per_window is not None:
        specs.append(
            dg.AssetCheckSpec(
                WITHIN_BUDGET,
                asset=images,
                description="All partitions of a window were charged at most "
                f"{_shown(limits.budget_usd_per_window)} together. If this fails: compare quote "
                "and charge in `tasks`, and lower counts, sizes or models before the next window.",
            )
        )
    if rated:
        specs.append(
            content_rating_spec(images, limits.forbidden_levels, limits.unrated_share_warn)
        )
    return specs


def prompts_valid(
    prompts: dg.AssetKey, summaries: Sequence[PromptsSummary], limits: Checks
) -> dg.AssetCheckResult:
    """Check that few enough rows were rejected."""
    rates = {s.slice: s.n_rejected / s.n_rows if s.n_rows else 0.0 for s in summaries}
    return _judged(
        PROMPTS_VALID,
        prompts,
        rates,
        warn=limits.rejected_rate_warn,
        error=limits.rejected_rate_error,
        called="rejected",
        details={"mynth/rejected_rows": name_some(list(_rejected(summaries))) or "none"},
    )


def failures_few(
    failures: dg.AssetKey, summaries: Sequence[ResultsSummary], limits: Checks
) -> dg.AssetCheckResult:
    """Check that few enough of the requested images are missing."""
    rates = {summary.slice: failure_rate(summary) for summary in summaries}
    return _judged(
        FAILURE_RATE,
        failures,
        rates,
        warn=limits.failure_rate_warn,
        error=limits.failure_rate_error,
        called="of the images asked for are missing",
        details={"mynth/codes": _codes(summaries)},
    )


def files_kept(
    files: dg.AssetKey, summaries: Sequence[FilesSummary], limits: Checks
) -> dg.AssetCheckResult:
    """Check that the images have their files."""
    rates = {s.slice: s.n_missing / s.n_images if s.n_images else 0.0 for s in summaries}
    codes = (
        (code, n, summary.rows_by_code.get(code, ()))
        for summary in summaries
        for code, n in summary.failed_by_code.items()
    )
    return _judged(
        FILES_KEPT,
        files,
        rates,
        warn=limits.missing_file_rate_warn,
        error=limits.missing_file_rate_error,
        called="without a file",
        details={"mynth/codes": _as_in_rows(codes)},
    )


def nothing_open(failures: dg.AssetKey, summaries: Sequence[ResultsSummary]) -> dg.AssetCheckResult:
    """Check that no row is left in doubt or unfinished."""
    by_slice = {s.slice: (s.n_unresolved, s.n_stalled, s.n_pending) for s in summaries}
    open_ = {slice_: counts for slice_, counts in by_slice.items() if any(counts)}
    named = [
        f"{s.key}: {counts[0]} unresolved, {counts[1]} stalled, {counts[2]} pending"
        for s, counts in open_.items()
    ]
    return dg.AssetCheckResult(
        check_name=NOTHING_OPEN,
        asset_key=failures,
        passed=not open_,
        severity=_WARN,
        metadata={
            "mynth/unresolved": sum(counts[0] for counts in by_slice.values()),
            "mynth/stalled": sum(counts[1] for counts in by_slice.values()),
            "mynth/pending": sum(counts[2] for counts in by_slice.values()),
            "mynth/partitions": name_some(named) or "none",
            "mynth/codes": _codes(summaries, only_open=True),
        },
    )


def within_budget(
    images: dg.AssetKey, charged_by_window: Mapping[str, int], limits: Checks
) -> dg.AssetCheckResult:
    """Check that no window was charged more than allowed; charges in units of 10⁻⁸ USD."""
    assert limits.budget_usd_per_window is not None
    budget_units = units_from_usd(limits.budget_usd_per_window)
    worst = max(charged_by_window.values(), default=0)
    over = {window: units for window, units in charged_by_window.items() if units > budget_units}
    named = [f"{window or 'all'}: {format_usd(units)}" for window, units in over.items()]
    return dg.AssetCheckResult(
        check_name=WITHIN_BUDGET,
        asset_key=images,
        passed=not over,
        severity=_ERROR,
        metadata={
            "mynth/budget_usd": float(usd_from_units(budget_units)),
            "mynth/charged_most_usd": float(usd_from_units(worst)),
            "mynth/over_budget": name_some(named) or "none",
        },
    )


def accounted_for(images: dg.AssetKey, audits: Mapping[Slice, Audit]) -> dg.AssetCheckResult:
    """Check that every prompt row is in the results as it must be."""
    bad = {slice_: audit for slice_, audit in audits.items() if not audit.passed}
    examples = [
        f"{s.key}: {name_rows(a.examples) or 'rows that are in no prompt table'}"
        for s, a in bad.items()
    ]
    return dg.AssetCheckResult(
        check_name=ACCOUNTED_FOR,
        asset_key=images,
        passed=not bad,
        severity=_ERROR,
        metadata={
            "mynth/rows": sum(audit.n_rows for audit in audits.values()),
            "mynth/unaccounted": sum(audit.n_unaccounted for audit in audits.values()),
            "mynth/results_of_no_prompt": sum(a.n_strangers for a in audits.values()),
            "mynth/examples": name_some(examples) or "none",
        },
    )


def _judged(
    name: str,
    asset: dg.AssetKey,
    rates: Mapping[Slice, float],
    *,
    warn: float,
    error: float,
    called: str,
    details: Mapping[str, str],
) -> dg.AssetCheckResult:
    worst = max(rates.values(), default=0.0)
    over = sorted(((rate, s) for s, rate in rates.items() if rate > warn), reverse=True)
    named = [f"{slice_.key}: {rate:.1%} {called}" for rate, slice_ in over]
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=not over,
        severity=_ERROR if worst > error else _WARN,
        metadata={
            "mynth/worst_rate": round(worst, 4),
            "mynth/partitions": name_some(named) or "none",
            **details,
        },
    )


def _rejected(summaries: Sequence[PromptsSummary]) -> Iterator[str]:
    """Yield the first rejected rows, by their ids, with their codes."""
    for summary in summaries:
        yield from (f"{name_rows([prompt_id])}: {code}" for prompt_id, code in summary.rejected)


def _codes(summaries: Sequence[ResultsSummary], *, only_open: bool = False) -> str:
    """Return the codes of missing images, and what to do next."""
    kinds = [kind for summary in summaries for kind in summary.failure_kinds]
    counted = ((k.code, k.n_open if only_open else k.n_failures, k.examples) for k in kinds)
    return _as_in_rows(counted, {kind.code: kind.next_step for kind in reversed(kinds)})


def _as_in_rows(
    counted: Iterable[tuple[str, int, Sequence[str]]], next_steps: Mapping[str, str] | None = None
) -> str:
    """Return codes or levels over all partitions, most frequent first, with their first rows."""
    counts, rows = Counter[str](), dict[str, list[str]]()
    for what, n, examples in counted:
        counts[what] += n
        for prompt_id in examples:
            add_example(rows.setdefault(what, []), prompt_id)
    named = [
        f"{n} {what}, as in {name_rows(rows.get(what, ()))}"
        + (f". Next: {next_steps[what]}" if next_steps else "")
        for what, n in counts.most_common()
        if n
    ]
    return name_some(named) or "none"


def _shown(usd: Decimal) -> str:
    return format_usd(units_from_usd(usd))
