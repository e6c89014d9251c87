"""Rows of the three result tables, gathered as tuples and turned into Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mynth_dagster.models.failure import Failure, failure_of_intent
from mynth_dagster.models.intent import Intent, SurplusTask
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.models.task import PublicAccessToken, Task, TaskStatus
from mynth_dagster.models.transitions import FINAL, RESTING, IntentState
from mynth_dagster.tables.accounting import DELIVERING, AskedRow, DeliveredImage, RowAccount
from mynth_dagster.tables.row_sizes import repeated_pieces


class GatheredRows:
    """
    Rows of one table, in the order of its own columns.

    Carried columns are taken from the prompt rows by the places noted beside each row.
    """

    def __init__(self, schema: pa.Schema, carried: Sequence[str] = ()) -> None:
        self._schema = schema
        self._carried = carried
        self._rows: list[tuple[Any, ...]] = []
        self._places: list[int] = []

    def add(self, row: tuple[Any, ...], place: int = 0) -> None:
        self._rows.append(row)
        self._places.append(place)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, prompts: pa.RecordBatch | None = None) -> Iterator[pa.RecordBatch]:
        """The rows so far, with their prompt rows' carried columns, in pieces; starts anew."""
        n_own = len(self._schema) - len(self._carried)
        cells = zip(*self._rows, strict=True) if self._rows else [()] * n_own
        own = list(self._schema)[:n_own]
        arrays = [pa.array(cell, column.type) for cell, column in zip(cells, own, strict=True)]
        places, self._rows, self._places = self._places, [], []
        carried = [prompts.column(name) for name in self._carried] if prompts is not None else []
        for piece in repeated_pieces(carried, places):
            some = pa.array(places[piece], pa.int32())
            n_rows = len(some)
            values = [column.slice(piece.start, n_rows) for column in arrays]
            values += [column.take(some) for column in carried]
            yield pa.RecordBatch.from_arrays(values, schema=self._schema)


def task_row(
    intent: Intent,
    *,
    shard: str,
    current: bool,
    now_us: int,
    task: Task | None,
    token: PublicAccessToken | None = None,
) -> tuple[Any, ...]:
    """The row of an intent in `tasks`."""
    code, message = intent.error_code, intent.error_message
    ended_badly = intent.state in (*RESTING, *FINAL) and intent.state not in DELIVERING
    if ended_badly:
        failure = failure_of_intent(intent, now_us=now_us, task=task)
        code, message = failure.error_code, failure.error_message
    return (
        intent.prompt_id,
        intent.row.request_key,
        shard,
        intent.intent_id,
        intent.generation,
        intent.attempt,
        current,
        intent.shown_status(now_us),
        intent.task_id,
        intent.model,
        _usd(intent.quoted_units),
        _usd(intent.reserved_units),
        _usd(intent.charged_units),
        intent.submitted_at_us,
        intent.completed_at_us,
        code,
        message,
        token.token if token else None,
        token.expires_at_us if token else None,
    )


def surplus_row(surplus: SurplusTask, intent: Intent, *, shard: str) -> tuple[Any, ...]:
    """The row of a further task of an intent in `tasks`; never current."""
    task = surplus.task
    ended = task is not None and task.status.is_final
    fault = task.faults[0] if task and task.faults else None
    return (
        intent.prompt_id,
        intent.row.request_key,
        shard,
        intent.intent_id,
        intent.generation,
        intent.attempt,
        False,
        task.status.value if task and ended else IntentState.ACCEPTED.value,
        surplus.task_id,
        intent.model,
        None,
        None,
        _usd(task.cost_units) if task else None,
        task.created_at_us if task else None,
        task.updated_at_us if task and ended else None,
        fault.code if fault else None,
        fault.message if fault else None,
        None,
        None,
    )


def image_row(
    row: AskedRow, account: RowAccount, image: DeliveredImage, *, url_lifetime_us: int | None
) -> tuple[Any, ...]:
    """The row of a delivered image in `images`, without carried columns."""
    intent, task, outcome = account.intent, account.task, image.outcome
    file = image.file
    assert intent is not None
    assert task is not None
    finished_us = task.updated_at_us if task.status is not TaskStatus.PENDING else None
    completed_us = finished_us if intent.completed_at_us is None else intent.completed_at_us
    is_dated = completed_us is not None and url_lifetime_us is not None
    return (
        row.prompt_id,
        row.request_key,
        outcome.index,
        outcome.image_id,
        outcome.url,
        outcome.mynth_url,
        row.model,
        task.model,
        outcome.width,
        outcome.height,
        outcome.format,
        _usd(image.cost_units),
        image.cost_basis,
        outcome.rating_level,
        outcome.rating_error,
        outcome.destination,
        outcome.destination_status,
        outcome.destination_error,
        account.metadata_json,
        row.prompt,
        row.prompt if task.prompt_sent is None else task.prompt_sent,
        task.task_id,
        intent.intent_id,
        task.created_at_us if intent.submitted_at_us is None else intent.submitted_at_us,
        completed_us,
        (completed_us or 0) + (url_lifetime_us or 0) if is_dated else None,
        file.uri if file else None,
        file.n_bytes if file else None,
        file.sha256 if file else None,
    )


def failure_row(row: AskedRow, failure: Failure) -> tuple[Any, ...]:
    """The row of a failure in `failures`, without carried columns."""
    return (
        row.prompt_id,
        row.request_key,
        failure.image_index,
        failure.stage.value,
        failure.status,
        failure.error_code,
        failure.error_message,
        failure.field,
        failure.http_status,
        failure.money.value,
        failure.retryable,
        failure.attempts,
        failure.task_id,
        failure.intent_id,
        failure.next_step,
    )


def _usd(units: int | None) -> Decimal | None:
    return None if units is None else usd_from_units(units)
