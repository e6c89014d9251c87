"""A ledger in which every row of a prompt table was paid for, without having asked anybody."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from sqlalchemy.engine import Engine

from benchmarks.ours import BATCH
from mynth_dagster.clock import Instant
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import CLAIM, Claim
from mynth_dagster.ledger.database import open_engines
from mynth_dagster.ledger.observations import OBSERVE, Observation, Source
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import Awaited, Intent, RowKey, intent_id
from mynth_dagster.models.task import ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.requests import PlannedRow, iter_planned_batches
from mynth_dagster.tables.store import TableStore

GROUP = 1000
NOW_US = 1_795_000_000_000_000
COST_UNITS = 500_000


def pay_for_all(folder: str, ledger_url: str, *, batch: Batch = BATCH) -> None:
    """Every row of the batch's written prompts becomes a finished intent."""
    rows = (
        (slice_, row)
        for slice_ in batch.slices("")
        for planned in iter_planned_batches(TableStore(folder, batch.name), slice_, batch=batch)
        for row in planned.rows(range(len(planned.request_keys)))
    )
    keep(ledger_url, batch, rows, finished=True)


def keep(
    ledger_url: str, batch: Batch, rows: Iterator[tuple[Slice, PlannedRow]], *, finished: bool
) -> None:
    """Accepted intents of these rows, their tasks numbered from 0; or finished ones."""
    ledger = Ledger.open(ledger_url)
    ledger_id = ledger.ledger_id
    ledger.close()
    writer, reader = open_engines(ledger_url)
    n_rows = 0
    while group := list(islice(rows, GROUP)):
        intents = [_intent(row, batch, ledger_id, slice_) for slice_, row in group]
        _write(writer, intents, n_rows, finished=finished)
        n_rows += len(group)
    writer.dispose()
    reader.dispose()


def _intent(row: PlannedRow, batch: Batch, ledger_id: str, slice_: Slice) -> Intent:
    key = RowKey(batch.ledger_name, slice_.window, row.request_key)
    return Intent(
        intent_id=intent_id(ledger_id, key, 1),
        row=key,
        prompt_id=row.prompt_id,
        fan_out=slice_.fan_out,
        generation=1,
        attempt=1,
        state=IntentState.SENDING,
        request_hash=row.request_hash,
        model=row.request.model,
        n_asked=1,
        claimed_at_us=NOW_US,
        send_by_us=NOW_US,
        quoted_units=COST_UNITS,
    )


def _write(writer: Engine, intents: list[Intent], first: int, *, finished: bool) -> None:
    ids = [f"tsk_{first + n:026d}" for n in range(len(intents))]
    responses = [
        Observation(
            Source.RESPONSE,
            task_id,
            Instant(now_us),
            intent,
            deadline_at_us=now_us + 10**15,
            reserved_units=COST_UNITS,
        )
        for now_us, intent, task_id in zip(count(NOW_US + first), intents, ids)
    ]
    readings = [
        Observation(
            Source.TASK,
            task_id,
            Instant(NOW_US),
            Awaited.of(intent, task_id),
            task=_task(task_id),
        )
        for intent, task_id in zip(intents, ids, strict=True)
    ]
    with writer.begin() as connection:
        CLAIM.apply(connection, [Claim(intent, 1) for intent in intents])
        OBSERVE.apply(connection, responses)
        if finished:
            OBSERVE.apply(connection, readings)


def _task(task_id: str) -> Task:
    image = ImageOutcome(
        index=0,
        image_id=f"img_{task_id}",
        url=f"https://cdn.mynth.io/{task_id}.webp",
        width=1024,
        height=1024,
        format="webp",
        cost_units=COST_UNITS,
    )
    return Task(
        task_id=task_id,
        status=TaskStatus.COMPLETED,
        created_at_us=NOW_US,
        updated_at_us=NOW_US,
        model="m/benchmark",
        images=(image,),
        faults=(),
        cost_units=COST_UNITS,
        metadata={},
    )


def ledger_bytes(folder: str) -> int:
    """What a SQLite ledger takes, with its log."""
    return sum(path.stat().st_size for path in Path(folder).glob("ledger.db*") if path.is_file())
