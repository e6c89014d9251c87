"""Ways to bring an intent into any state, and a second pair of eyes."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa

from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.delivery import Claim, Ending
from mynth_dagster.ledger.evidence import Attachment, Sighting
from mynth_dagster.ledger.finish import Reading
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import Task, outcome_event
from mynth_dagster.models.transitions import Event, IntentState
from tests.factories import START_US


class Book:
    """A ledger, driven synchronously."""

    def __init__(self, ledger: Ledger, url: str) -> None:
        self.ledger = ledger
        self.url = url
        self.eyes = sa.create_engine(url)

    def run(self, *operations: Any) -> list[Any]:
        """Await all of these at once; their results."""

        async def together() -> list[Any]:
            return list(await asyncio.gather(*operations))

        return asyncio.run(together())

    def open(self, *fan_outs: str, batch: str = "b") -> None:
        """Make partitions known."""
        slices = [Slice(fan_out=fan_out) for fan_out in fan_outs or ("",)]
        self.run(self.ledger.open_partitions(batch, slices, "run 1"))

    def claim(self, intent: Intent, from_attempt: int | None = None) -> bool:
        return bool(self.run(self.ledger.claim(Claim(intent, 1, from_attempt)))[0])

    def sight(self, intent: Intent, task_id: str = "tsk_1", source: str = "answer") -> Attachment:
        return Attachment(
            self.run(self.ledger.record_sighting(sighting(intent, task_id, source)))[0]
        )

    def end(self, intent: Intent, event: Event) -> bool:
        return bool(self.run(self.ledger.record_ending(ending(intent, event)))[0])

    def read(self, intent: Intent, task: Task) -> bool:
        reading = Reading(intent, task, outcome_event(task, intent.n_asked), START_US)
        return bool(self.run(self.ledger.record_reading(reading))[0])

    def at(self, intent: Intent) -> Intent:
        """The intent as the ledger has it."""
        return self.ledger.read.intents_by_id([intent.intent_id])[intent.intent_id]

    def state(self, intent: Intent) -> IntentState:
        return self.at(intent).state

    def version(self, fan_out: str = "", batch: str = "b") -> int:
        row = self.ledger.read.partition(batch, Slice(fan_out=fan_out))
        return row.version if row else -1

    def put(self, state: IntentState, intent: Intent) -> None:
        """Bring an intent into a state, by force where no write of ours leads there."""
        self.claim(intent)
        if state is not IntentState.SENDING:
            self.execute(
                "UPDATE intents SET state = :state, task_id = :task WHERE intent_id = :id",
                state=state.value,
                task="tsk_first" if state in HAS_TASK else None,
                id=intent.intent_id,
            )
            if state in HAS_TASK:
                self.execute(
                    "INSERT INTO tasks (task_id, intent_id, is_surplus)"
                    " VALUES ('tsk_first', :id, FALSE)",
                    id=intent.intent_id,
                )

    def execute(self, statement: str, **values: Any) -> None:
        with self.eyes.begin() as connection:
            connection.execute(sa.text(statement), values)

    def query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.eyes.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), values)]


HAS_TASK = frozenset(
    {
        IntentState.ACCEPTED,
        IntentState.LOST,
        IntentState.COMPLETED,
        IntentState.PARTIAL,
        IntentState.FAILED,
    }
)


def sighting(intent: Intent, task_id: str = "tsk_1", source: str = "answer") -> Sighting:
    return Sighting(intent, task_id, source, START_US + 1, START_US + 10, reserved_units=7)


def ending(intent: Intent, event: Event, **fields: Any) -> Ending:
    return Ending(intent, event, START_US + 1, reason="because", error_message="words", **fields)
