"""From rows of the normalised prompt table to the requests they stand for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.errors import TableError
from mynth_dagster.models.batch import Batch, RequestDefaults, Slice
from mynth_dagster.models.request import Delivery, ImageRequest, InputImage, Wish
from mynth_dagster.tables.files import PROMPTS, TableStore
from mynth_dagster.tables.prompt_schema import REQUEST_TYPES

SETTINGS_KEY = "mynth:settings"
"""Footer key: a hash of the batch's defaults that the rows were completed with."""

FROM_TABLE_KEY = "mynth:from_table"
"""Footer key: what multiplies money and was said by the source's own columns, such as `count`."""

PLANNED_ROWS_AT_ONCE = 2048
_PLANNED_COLUMNS = ["row_index", "prompt_id", "request_key", "request_hash", *REQUEST_TYPES]


@dataclass(frozen=True)
class PromptRow:
    """
    One good row of the prompt table, ready to be asked for.

    Args:
        row_index: 0-based row of the source.
        request_hash: Identity of `request`, as in the table.
    """

    row_index: int
    prompt_id: str
    request_key: str
    request_hash: str
    request: Wish

    @property
    def n_asked(self) -> int:
        """Images asked for."""
        return self.request.count


def iter_prompt_rows(store: TableStore, slice_: Slice) -> Iterator[pa.RecordBatch]:
    """All rows of a prompt table, rejected ones and carried columns included."""
    return store.iter_batches(PROMPTS, slice_)


def iter_planned_rows(
    store: TableStore, slice_: Slice, *, batch: Batch
) -> Iterator[list[PromptRow]]:
    """
    The good rows of a prompt table in order, as requests, a bounded number at a time.

    Raises:
        TableError: There is no prompt table, or it was written under other defaults than
            the batch has now.
    """
    for planned in iter_planned_batches(store, slice_, batch=batch):
        yield planned.rows()


class PlannedBatch:
    """
    Good rows of a prompt table, of which only those that are asked for become requests.

    `request_keys` and `request_hashes` are those of all rows, in order.
    """

    def __init__(self, rows: pa.RecordBatch, make: Callable[[Sequence[Any]], ImageRequest]) -> None:
        self._rows = rows
        self._make = make
        self.request_keys: list[str] = rows.column("request_key").to_pylist()
        self.request_hashes: list[str] = rows.column("request_hash").to_pylist()

    def rows(self, places: Sequence[int] | None = None) -> list[PromptRow]:
        """The rows at these places, by default all."""
        rows = self._rows if places is None else self._rows.take(pa.array(places, pa.int32()))
        cells = [rows.column(name).to_pylist() for name in _PLANNED_COLUMNS]
        return [
            PromptRow(index, name, key, identity, self._make(row))
            for index, name, key, identity, *row in zip(*cells, strict=True)
        ]


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
    make = request_maker(batch.defaults)
    batches = store.iter_batches(
        PROMPTS,
        slice_,
        columns=[*_PLANNED_COLUMNS, "problem_code"],
        batch_rows=PLANNED_ROWS_AT_ONCE,
    )
    for rows in batches:
        yield PlannedBatch(rows.filter(pc.is_null(rows.column("problem_code"))), make)


def said_by_table(store: TableStore, slice_: Slice) -> frozenset[str]:
    """Which of `count` and `model` the rows have from the source, and not from the batch."""
    return frozenset(store.read_metadata(PROMPTS, slice_).get(FROM_TABLE_KEY, "").split())


def require_same_settings(store: TableStore, slice_: Slice, batch: Batch) -> None:
    """Stop where the batch's defaults changed since its prompt table was written."""
    written = store.read_metadata(PROMPTS, slice_).get(SETTINGS_KEY)
    if written != settings_hash(batch.defaults):
        reason = "it was written under other defaults than the batch has now: materialize prompts"
        raise TableError(store.uri(PROMPTS, slice_), reason)


def request_maker(defaults: RequestDefaults) -> Callable[[Sequence[Any]], ImageRequest]:
    """
    What turns the cells of one row, in the order of `REQUEST_TYPES`, into its request.

    What a table has no column for (rating, webhooks) comes from the batch's defaults.
    """
    plain = Delivery(
        webhook_urls=defaults.webhook_urls,
        mute_registered_webhooks=defaults.mute_registered_webhooks,
        with_token=defaults.public_access_tokens,
    )

    def make(row: Sequence[Any]) -> ImageRequest:
        prompt, negative, model, size, count, inputs, form, quality, enhance, to, metadata = row
        silent = to is None and metadata is None
        return ImageRequest(
            prompt,
            negative,
            model,
            size,
            count,
            tuple(InputImage(**item) for item in inputs) if inputs else (),
            form,
            quality,
            enhance,
            defaults.rating,
            plain if silent else replace(plain, destination=to, metadata_json=metadata),
        )

    return make


def request_from_row(row: Sequence[Any], batch: Batch) -> ImageRequest:
    """The request of one row: its cells in the order of `REQUEST_TYPES`."""
    return request_maker(batch.defaults)(row)


def settings_hash(defaults: RequestDefaults) -> str:
    """What the rows were completed with; says whether a table is still the batch's."""
    rating = defaults.rating
    text = json.dumps(
        [
            [defaults.negative_prompt, defaults.size, defaults.count, defaults.output_format],
            [defaults.output_quality, defaults.enhance, defaults.destination],
            None
            if rating is None
            else [[level.value, level.description] for level in rating.levels],
        ]
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def settings_of(batch: Batch) -> str:
    """What rows that stay as they are become other requests by: models, defaults, columns."""
    own = [sorted(batch.models), settings_hash(batch.defaults), sorted(batch.columns.items())]
    text = repr(batch.inspection or own)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
