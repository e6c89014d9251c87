"""The check of content ratings: which levels images have, and which they must not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from mynth_dagster.errors import name_some
from mynth_dagster.models.batch import Slice
from mynth_dagster.plugin.check_limits import percent
from mynth_dagster.plugin.metadata import name_rows
from mynth_dagster.tables.results import UNRATED, ResultsSummary

CONTENT_RATING = "content_rating"

Levels = Mapping[Slice, Mapping[str, int]]


def content_rating_spec(
    images: dg.AssetKey, forbidden: Sequence[str], unrated_share_warn: float
) -> dg.AssetCheckSpec:
    """What the check is for; levels that are forbidden, and the share that may stay unrated."""
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
    """Whether no image has a level that is forbidden, and enough could be rated."""
    by_slice = {summary.slice: _with_unrated(summary) for summary in summaries}
    levels = sum((Counter(found) for found in by_slice.values()), Counter[str]())
    n_forbidden = sum(levels[level] for level in forbidden)
    bad = _forbidden(by_slice, forbidden) + _unrated(by_slice, unrated_share_warn)
    n_rated = levels.total()
    rows = _rows(summaries, [*forbidden, UNRATED]) if bad else []
    return dg.AssetCheckResult(
        check_name=CONTENT_RATING,
        asset_key=images,
        passed=not bad,
        severity=dg.AssetCheckSeverity.ERROR if n_forbidden else dg.AssetCheckSeverity.WARN,
        metadata={
            "mynth/images_by_level": dg.MetadataValue.json(dict(levels)),
            **{f"mynth/share_{level}": round(n / n_rated, 4) for level, n in levels.items()},
            "mynth/forbidden": n_forbidden,
            "mynth/rows": name_some(rows) or "none",
            "mynth/partitions": name_some(bad) or "none",
        },
    )


def _rows(summaries: Iterable[ResultsSummary], levels: Iterable[str]) -> list[str]:
    """The first rows with images of these levels."""
    return [
        f"{level}, as in {name_rows(summary.rows_by_level[level])}"
        for summary in summaries
        for level in levels
        if level in summary.rows_by_level
    ]


def _with_unrated(summary: ResultsSummary) -> dict[str, int]:
    """Images without any word about their content are not rated either."""
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
