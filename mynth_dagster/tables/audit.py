"""
An independent look at finished tables: is every prompt row accounted for?

It reads only the written files and shares no code with the writer. For each prompt row, images
and image-level failures together must be as many as asked for, each once, or there is exactly one
failure of the whole request; and nothing may be in the results of rows that were not asked for.
More images than were asked for are charged, so they are no fault. Failed downloads are not in that
sum: each must be about an image that is there and has no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.limits import ROWS_NAMED_MAX
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import SAYS_NOTHING_OF_THE_PAST
from mynth_dagster.tables.store import FAILURES, IMAGES, PROMPTS, TableStore

_KEY = "request_key"
_PLACE = [_KEY, "image_index"]


@dataclass(frozen=True)
class Audit:
    """What was found in one partition; `examples` are keys of rows that do not add up."""

    n_rows: int
    n_unaccounted: int
    n_strangers: int
    examples: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.n_unaccounted == 0 and self.n_strangers == 0


def audit_slice(store: TableStore, slice_: Slice) -> Audit:
    """
    Count every row of a partition's tables against its prompts.

    Raises:
        TableError: A table is missing or cannot be read.
    """
    prompts = _read(store, PROMPTS, slice_, [_KEY, "count", "problem_code"])
    delivered = _read(store, IMAGES, slice_, [_KEY, "image_index", "file_path"])
    failed = _read(store, FAILURES, slice_, [_KEY, "image_index", "stage"])
    is_download = pc.equal(failed.column("stage"), "download")
    failures = failed.filter(pc.invert(is_download))
    whole = pc.is_null(failures.column("image_index"))
    of_images = failures.filter(pc.invert(whole))
    placed = pa.concat_tables([delivered.select(_PLACE), of_images.select(_PLACE)])
    outcomes = _counted(placed, "n_outcomes", "n_places")
    requests = _counted(failures.filter(whole), "n_requests", "n_without_place")
    joined = prompts
    for counts in (outcomes, requests):
        joined = joined.join(counts, _KEY, join_type="left outer")
    bad = joined.filter(pc.invert(_adds_up(joined)))
    strangers = sum(_n_strangers(prompts, counts) for counts in (outcomes, requests))
    strangers += _n_astray(failed.filter(is_download), delivered)
    examples = tuple(bad.column(_KEY).slice(0, ROWS_NAMED_MAX).to_pylist())
    return Audit(prompts.num_rows, bad.num_rows, strangers, examples)


def _adds_up(rows: pa.Table) -> pa.ChunkedArray:
    outcomes, places, requests = (
        pc.fill_null(rows.column(name), 0) for name in ("n_outcomes", "n_places", "n_requests")
    )
    asked = pc.cast(pc.fill_null(rows.column("count"), 0), pa.int64())
    codes = rows.column("problem_code")
    was_good = pc.match_substring_regex(codes, SAYS_NOTHING_OF_THE_PAST).fill_null(fill_value=False)
    is_good = pc.or_(pc.is_null(codes), was_good)
    each_once = pc.and_(pc.greater_equal(outcomes, asked), pc.equal(outcomes, places))
    in_parts = pc.and_(pc.and_(pc.equal(requests, 0), pc.greater(outcomes, 0)), each_once)
    as_whole = pc.and_(pc.equal(requests, 1), pc.equal(outcomes, 0))
    return pc.or_(pc.and_(is_good, in_parts), as_whole)


def _counted(rows: pa.Table, n_outcomes: str, n_places: str) -> pa.Table:
    """By row: its outcomes, and how many places they are about, under these names."""
    counts = rows.group_by(_KEY).aggregate([(_KEY, "count"), ("image_index", "count_distinct")])
    return counts.rename_columns([_KEY, n_outcomes, n_places])


def _n_strangers(prompts: pa.Table, counts: pa.Table) -> int:
    known = pc.is_in(counts.column(_KEY), value_set=prompts.column(_KEY).combine_chunks())
    return int(pc.sum(pc.invert(known)).as_py() or 0)


def _n_astray(downloads: pa.Table, delivered: pa.Table) -> int:
    """Failed downloads of what is no image, or of an image that has its file."""
    fileless = delivered.filter(pc.is_null(delivered.column("file_path")))
    left = downloads.select(_PLACE).join(fileless.select(_PLACE), _PLACE, join_type="left anti")
    return int(left.num_rows)


def _read(store: TableStore, table: str, slice_: Slice, columns: Sequence[str]) -> pa.Table:
    schema = store.read_schema(table, slice_)
    batches = list(store.iter_batches(table, slice_, columns=list(columns)))
    wanted = pa.schema([schema.field(name) for name in columns])
    return pa.Table.from_batches(batches, schema=wanted)
