"""
From a source to the normalised prompt tables of one window.

Every source row becomes one request row per model, in exactly one slice.
A row that breaks a rule is kept with its problem and never asked for; what would make
the whole table ambiguous (a prompt id given twice) stops before anything is published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mynth_dagster.chunks import chunks
from mynth_dagster.errors import ConfigError, cut
from mynth_dagster.limits import (
    KEPT_BACK_MAX_BYTES,
    LIMITS_BY_REVISION,
    READ_BATCH_BYTES,
    READ_BATCH_ROWS,
    ROWS_NAMED_MAX,
    RevisionLimits,
)
from mynth_dagster.models.batch import (
    MODEL_DIMENSION,
    Batch,
    Slice,
)
from mynth_dagster.models.batch_settings import require_within_limits
from mynth_dagster.models.intent import shard_of
from mynth_dagster.models.task import NOTHING_LISTED, Offers
from mynth_dagster.tables.columns import FoundColumns, SourceRows, find_columns
from mynth_dagster.tables.requests import (
    FROM_TABLE_KEY,
    SETTINGS_KEY,
    RequestRows,
    completed,
    settings_hash,
)
from mynth_dagster.tables.rules import Allowed, find_problems
from mynth_dagster.tables.schemas import schema_of
from mynth_dagster.tables.source import PromptSource
from mynth_dagster.tables.store import (
    PROMPTS,
    ROW_GROUP_ROWS,
    StagedTable,
    Staging,
    TableStore,
    staged_tables,
)

WRITERS_OPEN_MAX = 200  # files open at once; a window with more slices is read in several passes
ROWS_KEPT_BACK_MAX = 16 * READ_BATCH_ROWS  # over all open files
ROW_GROUP_ROWS_MIN = 64
SAMPLE_ROWS = 5
_SAMPLE_COLUMNS = ["prompt_id", "prompt", "model", "count", "problem_code"]


@dataclass
class PromptsSummary:
    """
    What one prompt table holds; counted while it is written.

    Args:
        n_rows: Request rows, good and rejected.
        n_images_asked: Over the good rows.
        is_changed: The table reads otherwise than the one that was there before.
        renamed: Carried columns that had to change their name: theirs -> ours.
        sample: The first rows in short, for people.
        rejected: The first rejected rows: their ids and codes.
        notes: What users should know of how the source was read, in words.
    """

    slice: Slice
    uri: str
    n_rows: int = 0
    n_valid: int = 0
    n_rejected: int = 0
    n_images_asked: int = 0
    is_changed: bool = True
    problems_by_code: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    sample: tuple[dict[str, object], ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def write_prompts(
    source: PromptSource,
    *,
    batch: Batch,
    window: str,
    limits: RevisionLimits,
    store: TableStore,
    wanted: Sequence[Slice] | None = None,
    offers: Offers = NOTHING_LISTED,
    before_publishing: Callable[[list[PromptsSummary]], None] = lambda _: None,
) -> list[PromptsSummary]:
    """
    Read a source once and write the wanted slices of one window, all published together.

    ``wanted`` are slices of this window, all of them by default; a slice without rows becomes
    an empty table. ``offers`` is what the server lists of its models and the account's storage.
    ``before_publishing`` is called when all tables are complete and none is visible yet.

    Raises:
        ConfigError: The batch's models or defaults cannot be asked for; nothing was read.
        TableError: The source is unusable as a whole; nothing was published.
    """
    allowed = _allowed(batch, limits, offers)
    _require_sound_batch(batch, allowed)
    slices = _require_slices(batch, window, wanted)
    columns = find_columns(source, batch.prompts.columns)
    notes = (*source.notes, *columns.notes)
    summaries: list[PromptsSummary] = []
    with staged_tables(store) as staging:
        for chunk in chunks(slices, WRITERS_OPEN_MAX):
            tables, fan_out = _open_tables(staging, chunk, batch, columns, notes), FanOut(batch)
            for rows in RequestRows(source, batch, columns, allowed):
                for key, part in fan_out.split(rows):
                    if key in tables:
                        tables[key].write(part)
            staging.close()
            summaries += [table.finish() for table in tables.values()]
        before_publishing(summaries)
    return summaries


def named_destinations(root: str) -> frozenset[str]:
    """The destinations that good rows of any prompt table in a local root name."""
    named: set[str] = set()
    for path in sorted(Path(root).glob(f"*/{PROMPTS}/**/*.parquet")):
        with suppress(OSError, pa.ArrowException), pq.ParquetFile(path) as file:
            for rows in file.iter_batches(columns=["destination", "problem_code"]):
                good = rows.filter(pc.is_null(rows.column("problem_code")))
                named.update(pc.unique(good.column("destination")).drop_null().to_pylist())
    return frozenset(named)


class FanOut:
    """Splits request rows by the batch's fan-out: each belongs to exactly one slice."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._keys = batch.fan_out_keys

    def split(self, rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rows of each slice that has any, under its fan-out key."""
        if len(self._keys) <= 1:
            yield (self._keys[0] if self._keys else ""), rows
            return
        places: dict[str, list[int]] = {}
        for place, key in enumerate(self._keys_of(rows)):
            places.setdefault(key, []).append(place)
        for key, chosen in places.items():
            yield key, rows.take(pa.array(chosen, pa.int32()))

    def _keys_of(self, rows: pa.RecordBatch) -> Sequence[str]:
        if self._batch.fan_out != MODEL_DIMENSION:
            ids = rows.column("prompt_id").to_pylist()
            return [self._keys[shard_of(name, len(self._keys))] for name in ids]
        # A row of another model has no slice of its own: it is accounted for in the first.
        known, first = set(self._keys), self._keys[0]
        models = rows.column("model").to_pylist()
        return [model if model in known else first for model in models]


class _SliceTable:
    """One slice's table being written, and the summary that it adds up to."""

    def __init__(self, staged: StagedTable, summary: PromptsSummary) -> None:
        self.staged, self.summary = staged, summary

    def write(self, rows: pa.RecordBatch) -> None:
        summary, codes = self.summary, rows.column("problem_code")
        self.staged.write(rows)
        bad = rows.select(["prompt_id", "problem_code"]).filter(pc.is_valid(codes))
        summary.n_rows += rows.num_rows
        summary.n_valid += codes.null_count
        summary.n_rejected += bad.num_rows
        summary.n_images_asked += (
            pc.sum(rows.column("count").filter(pc.is_null(codes))).as_py() or 0
        )
        names, problems = (column.to_pylist() for column in bad.columns)
        for code in problems:
            summary.problems_by_code[code] = summary.problems_by_code.get(code, 0) + 1
        left = ROWS_NAMED_MAX - len(summary.rejected)
        summary.rejected += tuple(zip(names[:left], problems[:left], strict=True))
        shown = rows.slice(0, SAMPLE_ROWS - len(summary.sample)).select(_SAMPLE_COLUMNS)
        summary.sample += tuple(
            {**row, "prompt": row["prompt"] and cut(row["prompt"])} for row in shown.to_pylist()
        )

    def finish(self) -> PromptsSummary:
        """The summary of a table that is complete and not yet published."""
        self.summary.is_changed = self.staged.differs_from_published()
        self.summary.problems_by_code = dict(sorted(self.summary.problems_by_code.items()))
        return self.summary


def _open_tables(
    staging: Staging,
    slices: Sequence[Slice],
    batch: Batch,
    columns: FoundColumns,
    notes: tuple[str, ...],
) -> dict[str, _SliceTable]:
    n_slices = len(batch.fan_out_keys) or 1
    row_group_rows = min(ROW_GROUP_ROWS, max(ROW_GROUP_ROWS_MIN, ROWS_KEPT_BACK_MAX // n_slices))
    from_table = " ".join(name for name in ("count", "model") if name in columns.ours)
    tables = {}
    for slice_ in slices:
        staged = staging.open(
            PROMPTS,
            slice_,
            schema_of(PROMPTS, columns.carried_schema),
            footer={SETTINGS_KEY: settings_hash(batch.request), FROM_TABLE_KEY: from_table},
            row_group_rows=row_group_rows,
            row_group_bytes=min(READ_BATCH_BYTES, KEPT_BACK_MAX_BYTES // n_slices),
        )
        summary = PromptsSummary(slice_, staged.uri, renamed=columns.renamed, notes=notes)
        tables[slice_.fan_out] = _SliceTable(staged, summary)
    return tables


def _require_slices(batch: Batch, window: str, wanted: Sequence[Slice] | None) -> list[Slice]:
    slices = batch.slices(window)
    if wanted is None:
        return slices
    strange = [slice_.key for slice_ in wanted if slice_ not in slices]
    if strange:
        raise ConfigError("partition", f"{strange[0]!r} is no partition of this batch's window")
    chosen = set(wanted)
    return [slice_ for slice_ in slices if slice_ in chosen]


def require_sound_settings(batch: Batch) -> None:
    """
    Check what can be known of a batch before its server is asked for anything.

    Raises:
        ConfigError: A default or a model that no revision of the API takes.
    """
    refusals = []
    for limits in LIMITS_BY_REVISION.values():
        try:
            _require_sound_batch(batch, _allowed(batch, limits))
        except ConfigError as error:  # noqa: PERF203 - three revisions
            refusals.append(error)
    if len(refusals) == len(LIMITS_BY_REVISION):
        raise refusals[-1]


def _allowed(batch: Batch, limits: RevisionLimits, offers: Offers = NOTHING_LISTED) -> Allowed:
    """What the rows of a batch are judged by."""
    fan_out_models = tuple(batch.request.models) if batch.fan_out == MODEL_DIMENSION else None
    return Allowed(limits, offers, fan_out_models, batch.request.check_capabilities)


def _require_sound_batch(batch: Batch, allowed: Allowed) -> None:
    """A model or default that no row could use is a fault of the settings, not of the rows."""
    require_within_limits(batch.request, batch.delivery, allowed.limits)
    columns = completed(SourceRows(len(batch.request.models)), batch)
    columns = {name: columns[name] for name in columns if name not in ("prompt", "inputs")}
    columns["model"] = pa.array(batch.request.models, pa.string())
    problems = sorted(find_problems(columns, allowed).values(), key=lambda p: p.field != "model")
    if problems:
        problem = problems[0]
        setting = "request.models" if problem.field == "model" else f"request.{problem.field}"
        message = f"{problem.message}. Nothing was sent and nothing was charged."
        raise ConfigError(setting, message)
