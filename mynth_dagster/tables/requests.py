"""From rows of the normalised prompt table to the requests they stand for."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.errors import TableError, TableProblem
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import ImageRequest
from mynth_dagster.models.failure import is_readable
from mynth_dagster.models.intent import request_key
from mynth_dagster.models.request import (
    InputImage,
    PaidRequest,
    Routing,
    RowRequest,
    request_hash,
)
from mynth_dagster.tables.columns import (
    OFF,
    FoundColumns,
    SourceRows,
    normalise,
    unreadable_place,
)
from mynth_dagster.tables.inputs import InputFiles, for_naming, identify_inputs
from mynth_dagster.tables.parquet import reason_of, repeated_pieces
from mynth_dagster.tables.rules import Allowed, RowProblem, find_problems
from mynth_dagster.tables.schemas import OUR_COLUMNS, REQUEST_TYPES, schema_of
from mynth_dagster.tables.source import PromptSource
from mynth_dagster.tables.store import PROMPTS, TableStore

SETTINGS_KEY = "mynth:settings"
"""Footer key: a hash of the batch's defaults that the rows were completed with."""

FROM_TABLE_KEY = "mynth:from_table"
"""Footer key: what multiplies money and was said by the source's own columns, such as `count`."""

PLANNED_ROWS_AT_ONCE = 2048
_PLANNED_COLUMNS = ["row_index", "prompt_id", "request_key", "request_hash", *REQUEST_TYPES]


@dataclass(frozen=True)
class PlannedRow:
    """
    One good row of a table, ready to be asked for.

    Args:
        row_index: 0-based row of the source.
        request_hash: Identity of `request`, as in the table.
    """

    row_index: int
    prompt_id: str
    request_key: str
    request_hash: str
    request: PaidRequest


@dataclass(frozen=True)
class PlannedBatch:
    """
    Good rows of a table, of which only those that are asked for become requests.

    Args:
        request_keys: Of all rows, in order, as are the hashes.
        rows: Makes the rows at the given places.
    """

    request_keys: list[str]
    request_hashes: list[str]
    rows: Callable[[Sequence[int]], list[PlannedRow]]


def iter_planned_batches(
    store: TableStore, slice_: Slice, *, batch: Batch
) -> Iterator[PlannedBatch]:
    """
    The good rows of a prompt table in order, a bounded number at a time.

    Raises:
        TableError: There is no prompt table, or it was written under other defaults than
            the batch has now.
    """
    require_same_settings(store, slice_, batch)
    make = request_maker(batch)
    batches = store.iter_batches(
        PROMPTS,
        slice_,
        columns=[*_PLANNED_COLUMNS, "problem_code"],
        batch_rows=PLANNED_ROWS_AT_ONCE,
    )
    for rows in batches:
        good = rows.filter(pc.is_null(rows.column("problem_code")))
        keys, hashes = (good.column(f"request_{part}").to_pylist() for part in ("key", "hash"))
        yield PlannedBatch(keys, hashes, partial(_planned_rows, good, make))


def _planned_rows(
    rows: pa.RecordBatch,
    make: Callable[[Sequence[Any]], RowRequest],
    places: Sequence[int],
) -> list[PlannedRow]:
    taken = rows.take(pa.array(places, pa.int32()))
    cells = (taken.column(name).to_pylist() for name in _PLANNED_COLUMNS)
    return [
        PlannedRow(index, name, key, identity, make(row))
        for index, name, key, identity, *row in zip(*cells, strict=True)
    ]


def require_same_settings(store: TableStore, slice_: Slice, batch: Batch) -> None:
    """Stop where the batch's defaults changed since its prompt table was written."""
    written = store.read_metadata(PROMPTS, slice_).get(SETTINGS_KEY)
    if written != settings_hash(batch.request):
        reason = "it was written under other defaults than the batch has now: materialize prompts"
        raise TableError(store.uri(PROMPTS, slice_), reason)


def request_maker(batch: Batch) -> Callable[[Sequence[Any]], RowRequest]:
    """
    What turns the cells of one row, in the order of `REQUEST_TYPES`, into its request.

    What a table has no column for (rating, webhooks) comes from the batch's settings.
    """
    delivery, rating = batch.delivery, batch.request.rating
    plain = Routing(
        webhook_urls=tuple(delivery.webhook_urls),
        mute_registered_webhooks=delivery.mute_registered_webhooks,
        with_token=delivery.public_access_tokens,
    )

    def make(row: Sequence[Any]) -> RowRequest:
        prompt, negative, model, size, count, inputs, form, quality, enhance, to, metadata = row
        silent = to is None and metadata is None
        return RowRequest(
            prompt,
            negative,
            model,
            size,
            count,
            tuple(InputImage(**item) for item in inputs) if inputs else (),
            form,
            quality,
            enhance,
            rating,
            plain if silent else replace(plain, destination=to, metadata_json=metadata),
        )

    return make


def settings_hash(request: ImageRequest) -> str:
    """What the rows were completed with; says whether a table is still the batch's."""
    rating = request.rating
    text = json.dumps(
        [
            [request.negative_prompt, request.size, request.count, request.output_format],
            [request.output_quality, request.enhance, request.destination],
            None
            if rating is None
            else [[level.value, level.description] for level in rating.levels],
        ]
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def settings_of(batch: Batch) -> str:
    """What rows that stay as they are become other requests by: models, defaults, columns."""
    request, columns = batch.request, batch.prompts.columns
    own = [sorted(request.models), settings_hash(request), sorted(columns.items())]
    return hashlib.sha256(repr(own).encode("utf-8")).hexdigest()[:16]


# The request rows of a source, batch by batch: named, completed, multiplied, checked, hashed.


DUPLICATES_MAX = 1_000  # enough to say how bad it is
_NAMED_BY = tuple(name for name in REQUEST_TYPES if name not in ("destination", "metadata"))


class RequestRows:
    """
    An iterator over a source's request rows, in source order, then in the order of models.

    Raises:
        TableError: A prompt id is given twice; only after the last row, so that all are named.
    """

    def __init__(
        self, source: PromptSource, batch: Batch, columns: FoundColumns, allowed: Allowed
    ) -> None:
        self._files = InputFiles(allowed.limits, source.folder, batch.prompts.inputs_root)
        self._source, self._batch, self._columns, self._allowed = source, batch, columns, allowed
        self._schema = schema_of(PROMPTS, columns.carried_schema)
        self._derived = DerivedIds()
        self._hashes: list[pa.Array] = []  # of names, 8 bytes each until all are there
        self._make = request_maker(batch)
        self._rows = self._iterate()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._rows

    def __next__(self) -> pa.RecordBatch:
        return next(self._rows)

    def _iterate(self) -> Iterator[pa.RecordBatch]:
        first_row = 0
        for batch in self._source.batches():
            if batch.num_rows:
                yield from self._request_rows(batch, first_row)
            first_row += batch.num_rows
        repeated = repeated_hashes(self._hashes)
        if repeated:
            self._complain_of_names(repeated)

    def _request_rows(self, batch: pa.RecordBatch, first_row: int) -> Iterator[pa.RecordBatch]:
        rows = normalise(batch, self._columns)
        ids = self._name(rows, self._derived)
        identify_inputs(rows, self._files)
        self._hashes.append(pa.array([hash(name) for name in ids], pa.int64()))
        places, models = self._multiply(rows)
        columns = completed(rows, self._batch)
        columns["row_index"] = pa.array(range(first_row, first_row + rows.n_rows), pa.int64())
        columns["prompt_id"] = pa.array(ids, pa.string())
        carried = [
            self._carried(batch.column(name), name, first_row) for name in self._columns.carried
        ]
        if places is not None:
            columns = {name: column.take(places) for name, column in columns.items()}
        columns["model"] = models
        origin = range(rows.n_rows) if places is None else places.to_pylist()
        problems = self._problems(columns, rows, origin)
        unread = {row for row, _ in rows.unreadable}
        places_unread = {n for n, row in enumerate(origin) if row in unread} if unread else set()
        self._add_keys(columns, problems, places_unread)
        own = [columns[name] for name in OUR_COLUMNS]
        if places is None:
            yield pa.RecordBatch.from_arrays([*own, *carried], schema=self._schema)
            return
        for piece in repeated_pieces(carried, origin):
            n_rows = piece.stop - piece.start
            part = places.slice(piece.start, n_rows)
            arrays = [column.slice(piece.start, n_rows) for column in own]
            arrays += [column.take(part) for column in carried]
            yield pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _carried(self, column: pa.Array, name: str, first_row: int) -> pa.Array:
        """A column of the user's own; what no reader could read again is refused now."""
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as exc:
            row = unreadable_place(column)
            row = None if row is None else first_row + row
            reason = "the text is not valid UTF-8" if "UTF8" in str(exc) else reason_of(exc)
            if row is not None and self._source.where(row) != f"row {row}":
                reason += f", {self._source.where(row)}"
            reason += "; correct it, or leave the column out"
            raise TableError(self._source.name, [TableProblem(reason, row, name)]) from exc
        return column

    def _name(self, rows: SourceRows, derived: DerivedIds) -> list[str]:
        """The names of the rows: given, or derived from what a row asks for."""
        given = rows.columns.get("prompt_id")
        names: list[Any] = given.to_pylist() if given is not None else [None] * rows.n_rows
        if None not in names:
            return names
        columns = rows.columns
        asked = {name: columns[name].to_pylist() for name in _NAMED_BY if name in columns}
        if "inputs" in asked:
            asked["inputs"] = [for_naming(inputs) for inputs in asked["inputs"]]
        cells = zip(*asked.values(), strict=True)
        return [
            derived.name(zip(asked, row, strict=True)) if name is None else name
            for name, row in zip(names, cells, strict=True)
        ]

    def _complain_of_names(self, repeated: frozenset[int]) -> None:
        """Read the source again to say which rows share a name."""
        derived, row, first_rows = DerivedIds(), 0, dict[str, int]()
        where, column = self._source.where, self._columns.ours.get("prompt_id")
        problems: list[TableProblem] = []
        for batch in self._source.batches():
            for name in self._name(normalise(batch, self._columns), derived):
                if hash(name) in repeated:
                    earlier = first_rows.setdefault(name, row)
                    if earlier != row:
                        reason = f"prompt_id {name!r} is given twice: "
                        reason += f"{where(earlier)} and {where(row)}"
                        problems.append(TableProblem(reason, row, column))
                row += 1
            if len(problems) >= DUPLICATES_MAX:
                break
        if problems:
            raise TableError(self._source.name, problems)

    def _multiply(self, rows: SourceRows) -> tuple[pa.Array | None, pa.Array]:
        """
        Prompts × models: which source row each request row comes from, and its model.

        None instead of places: each source row is one request row.
        """
        models = self._batch.request.models
        own = rows.columns.get("model")
        if len(models) == 1:
            if own is None:
                return None, repeated(models[0], pa.string(), rows.n_rows)
            return None, own.fill_null(models[0])
        chosen = [None] * rows.n_rows if own is None else own.to_pylist()
        per_row = [models if model is None else (model,) for model in chosen]
        places = [place for place, asked in enumerate(per_row) for _ in asked]
        flat = [model for asked in per_row for model in asked]
        return pa.array(places, pa.int32()), pa.array(flat, pa.string())

    def _problems(
        self, columns: dict[str, pa.Array], rows: SourceRows, origin: Sequence[int]
    ) -> dict[int, RowProblem]:
        """The problem of each request row that has one."""
        given = rows.columns.get("prompt_id")
        judged = {name: columns[name] for name in REQUEST_TYPES}
        if given is not None and given.null_count:
            judged["prompt_id"] = given.take(pa.array(origin, pa.int32()))
        of_row: dict[int, list[RowProblem]] = {}
        for (row, _), problem in rows.unreadable.items():
            of_row.setdefault(row, []).append(problem)
        unreadable = [
            (place, problem)
            for place, row in enumerate(origin if of_row else ())
            for problem in of_row.get(row, ())
        ]
        constant = constant_columns(rows, self._batch)
        return find_problems(judged, self._allowed, constant=constant, unreadable=unreadable)

    def _add_keys(
        self, columns: dict[str, pa.Array], problems: dict[int, RowProblem], unread: set[int]
    ) -> None:
        ids, models = columns["prompt_id"].to_pylist(), columns["model"].to_pylist()
        keys = [request_key(name, model) for name, model in zip(ids, models, strict=True)]
        columns["request_key"] = pa.array(keys, pa.string())
        # A row that only the server's revision or account refuses is still known by its request.
        unknown = unread | {n for n, problem in problems.items() if not is_readable(problem.code)}
        cells = zip(*(columns[name].to_pylist() for name in REQUEST_TYPES), strict=True)
        hashes = [
            None if place in unknown else request_hash(self._make(row))
            for place, row in enumerate(cells)
        ]
        columns["request_hash"] = pa.array(hashes, pa.string())
        for part in ("code", "field", "message"):
            texts = [getattr(problems.get(place), part, None) for place in range(len(ids))]
            columns[f"problem_{part}"] = pa.array(texts, pa.string())


def completed(rows: SourceRows, batch: Batch) -> dict[str, pa.Array]:
    """All columns of a request but the model, with the batch's defaults where a row is silent."""
    columns = {}
    for name, kind in REQUEST_TYPES.items():
        default, own = getattr(batch.request, name, None), rows.columns.get(name)
        if own is None:
            is_off = name == "enhance" and default == OFF
            columns[name] = repeated(None if is_off else default, kind, rows.n_rows)
        else:
            columns[name] = own if default is None else own.fill_null(pa.scalar(default, kind))
    if "enhance" in rows.columns:
        off = pc.equal(columns["enhance"], OFF)
        columns["enhance"] = pc.if_else(off, pa.scalar(None, pa.string()), columns["enhance"])
    return columns


def constant_columns(rows: SourceRows, batch: Batch) -> set[str]:
    """The columns of a request that say the same in all of these rows."""
    varied = {"model"} if batch.has_several_models else set()
    return REQUEST_TYPES.keys() - rows.columns.keys() - varied


@lru_cache(maxsize=64)
def repeated(value: object, kind: pa.DataType, n_rows: int) -> pa.Array:
    """The same in each row; nearly all batches of a table are of one size."""
    return pa.repeat(pa.scalar(value, kind), n_rows)


class DerivedIds:
    """
    Names for rows that have none: a hash of what the row asks for, as the row gives it.

    Equal rows are separate requests: `row_…`, `row_…-2`, `row_…-3`. The order of rows and the
    batch's settings do not matter.
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()

    def name(self, asked: Iterable[tuple[str, object]]) -> str:
        """The next name for a row with these ``(column, value)`` pairs; None is no value."""
        text = _SORTED_JSON.encode({name: value for name, value in asked if value is not None})
        digest = hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        self._seen[key] += 1
        occurrence = self._seen[key]
        return f"row_{digest.hex()}" + (f"-{occurrence}" if occurrence > 1 else "")


_SORTED_JSON = json.JSONEncoder(sort_keys=True)


def repeated_hashes(batches: Sequence[pa.Array]) -> frozenset[int]:
    """What is there more than once; that two names have one hash hardly ever happens."""
    hashes = np.sort(pa.chunked_array(batches, pa.int64()).to_numpy())
    return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
