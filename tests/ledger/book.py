"""Ways to bring an intent into any state, and a second pair of eyes."""

from __future__ import annotations

import asyncio
from dataclasses import astuple
from typing import Any

import sqlalchemy as sa

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed, Ending
from mynth_dagster.ledger.observations import Attachment, Observation, Observed, Source
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Awaited, Intent
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import Event, IntentState
from tests.factories import START_US

LATER = Instant(START_US + 3_600_000_000)


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
        return self.try_claim(intent, from_attempt=from_attempt) is Claimed.WON

    def try_claim(self, intent: Intent, **fields: Any) -> Claimed:
        """A claim of account 1, with whatever else a claim may carry."""
        return Claimed(self.run(self.ledger.claim(Claim(intent, 1, **fields)))[0])

    @property
    def now(self) -> Instant:
        """The ledger's own now: the database's, or an hour after the factories' start."""
        return Instant(*astuple(self.run(self.ledger.now(LATER))[0]))

    def set_send_by(self, intent: Intent, *, age_s: float) -> None:
        """As if its time to be sent had run out so long ago."""
        send_by_us = self.now.wall_us - round(age_s * 1e6)
        self.execute(
            "UPDATE intents SET send_by_us = :at WHERE intent_id = :id",
            at=send_by_us,
            id=intent.intent_id,
        )

    def expire(self, *, grace_s: float) -> int:
        """How many interrupted rows of batch b became unresolved."""
        grace_us = round(grace_s * 1e6)
        return int(self.run(self.ledger.expire_sending("b", "", grace_us, LATER))[0])

    def observe(self, *observations: Observation) -> list[Observed]:
        """Keep these in one transaction, if they come fast enough; what each changed."""
        return self.run(*map(self.ledger.observe, observations))

    def sight(self, intent: Intent, task_id: str = "tsk_1", source: str = "response") -> Attachment:
        (observed,) = self.observe(sighting(intent, task_id, source))
        return Attachment(observed.attachment)

    def end(self, intent: Intent, event: Event) -> bool:
        return bool(self.run(self.ledger.record_ending(ending(intent, event)))[0])

    def read(self, intent: Intent, task: Task) -> bool:
        (observed,) = self.observe(reading(intent, task))
        return observed.is_news

    def at(self, intent: Intent) -> Intent:
        """The intent as the ledger has it."""
        return self.ledger.read.intents_by_id([intent.intent_id])[intent.intent_id]

    def state(self, intent: Intent) -> IntentState:
        return self.at(intent).state

    def version(self, fan_out: str = "", batch: str = "b") -> int:
        row = self.ledger.read.partition(batch, Slice(fan_out=fan_out))
        return row.version if row else -1

    def put(self, state: IntentState, intent: Intent, task_id: str = "tsk_first") -> None:
        """Bring an intent into a state, by force where no write of ours leads there."""
        self.claim(intent)
        if state is not IntentState.SENDING:
            self.execute(
                "UPDATE intents SET state = :state, task_id = :task WHERE intent_id = :id",
                state=state.value,
                task=task_id if state in HAS_TASK else None,
                id=intent.intent_id,
            )
            if state in HAS_TASK:
                self.execute(
                    "INSERT INTO tasks (task_id, intent_id, is_surplus) VALUES (:task, :id, FALSE)",
                    task=task_id,
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


def sighting(
    intent: Intent, task_id: str = "tsk_1", source: str = "response", reserved_units: int | None = 7
) -> Observation:
    seen_at = Instant(START_US + 1)
    return Observation(
        Source(source), task_id, seen_at, intent, START_US + 10, reserved_units=reserved_units
    )


def reading(intent: Intent, task: Task) -> Observation:
    attached = Awaited.of(intent, task.task_id)
    return Observation(Source.TASK, task.task_id, Instant(START_US), attached, task=task)


def status(task_id: str, status: TaskStatus) -> Observation:
    return Observation(Source.LIST, task_id, Instant(START_US), status=status)


def missing(intent: Intent, task_id: str, seen_at: Instant) -> Observation:
    attached = Awaited.of(intent, task_id)
    return Observation(Source.TASK, task_id, seen_at, attached, is_missing=True)


def ending(intent: Intent, event: Event, **fields: Any) -> Ending:
    return Ending(
        intent, event, Instant(START_US + 1), reason="because", error_message="words", **fields
    )
