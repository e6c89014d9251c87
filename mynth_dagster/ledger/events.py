"""
Webhook events, stored before they are acknowledged and processed later.

Two deliveries of one event have the same `event_id`; the second is not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.database import execute_each, insert_into
from mynth_dagster.ledger.group_commit import GroupCommit, Write
from mynth_dagster.ledger.queries import Reader

_events = schema.webhook_events


class EventOutcome(str, Enum):
    """
    The outcome of an event.

    `known` brought nothing new; `foreign` is about a task that is not ours; `unmatched` has this
    ledger's id with an intent that the ledger does not have, and is kept whole; `unconfirmed` was
    unsigned, and no read of its task confirmed it.
    """

    READ = "read"
    KNOWN = "known"
    FOREIGN = "foreign"
    UNMATCHED = "unmatched"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True)
class WebhookEvent:
    """
    One webhook; times are UTC microseconds.

    Args:
        event_id: The same for all deliveries of the event.
        is_signed: By a secret of ours; an unsigned event has to be confirmed.
        event: Its name.
        task_id: The task that it is about.
        body: As it came, until it is processed.
        received_at_us: When the receiver had it whole.
        signed_at_us: When the sender signed it.
        n_tries: How often it was processed without success.
        body_sha256: Of the body as it came, to recognise a second one with another content.
    """

    event_id: str
    is_signed: bool
    event: str
    task_id: str
    body: str | None
    received_at_us: int
    signed_at_us: int | None = None
    n_tries: int = 0
    body_sha256: str | None = None


@dataclass(frozen=True)
class EventEnd:
    """An event is processed; `batch` where it was about one of our tasks."""

    event_id: str
    outcome: EventOutcome
    at_us: int
    batch: str | None = None


@dataclass(frozen=True)
class Postponement:
    """An event cannot be processed now; it is due again at `due_at_us`."""

    event_id: str
    due_at_us: int


@dataclass(frozen=True)
class WebhookEventCounts:
    """Counts of the events; times are UTC microseconds, None where there is nothing."""

    n_open: int
    oldest_open_at_us: int | None
    last_received_at_us: int | None
    n_by_outcome: dict[EventOutcome, int]


class WebhookEvents(Reader):
    """
    The webhooks of one ledger.

    Coroutines write and return only after COMMIT. The other methods read: call them from a
    worker thread.
    """

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        super().__init__(reader)
        self._commits = commits

    async def receive(self, event: WebhookEvent) -> bool:
        """Store an event; False if it was stored before."""
        return await self._commits.submit(RECEIVE, event)

    async def finish(self, end: EventEnd) -> bool:
        """Mark an event as processed; False if another process was faster."""
        return await self._commits.submit(FINISH, end)

    async def postpone(self, later: Postponement) -> bool:
        """Postpone an event; False if another process finished it."""
        return await self._commits.submit(POSTPONE, later)

    async def forget(self, before_us: int) -> int:
        """Delete events that were processed before this time; unmatched ones are kept."""
        return await self._commits.call(_forget, before_us)

    def differs(self, event: WebhookEvent) -> bool:
        """Whether an event with this id and another body was stored."""
        query = sa.select(_events.c.body_sha256).where(_events.c.event_id == event.event_id)
        kept = self._all(query)
        return bool(kept) and kept[0]["body_sha256"] not in (None, event.body_sha256)

    def due(
        self, now_us: int, limit: int, *, after: WebhookEvent | None = None
    ) -> list[WebhookEvent]:
        """Return events to be processed now, oldest first, that came ``after`` one of them."""
        columns = [_events.c[name] for name in WebhookEvent.__dataclass_fields__]
        order = (_events.c.received_at_us, _events.c.event_id)
        query = sa.select(*columns).where(_events.c.done_at_us.is_(None))
        query = query.where(_events.c.due_at_us <= now_us)
        if after is not None:
            query = query.where(sa.tuple_(*order) > (after.received_at_us, after.event_id))
        return [WebhookEvent(**row) for row in self._all(query.order_by(*order).limit(limit))]

    def n_fresh(self) -> int:
        """Count the events that no process has tried yet."""
        query = sa.select(sa.func.count().label("n")).where(
            _events.c.done_at_us.is_(None), _events.c.n_tries == 0
        )
        return int(self._all(query)[0]["n"])

    def last_at_us(self, batch: str) -> int | None:
        """Return when an event last announced a task of this batch; None if none ever did."""
        newest = sa.func.max(_events.c.received_at_us).label("at_us")
        at_us = self._all(sa.select(newest).where(_events.c.batch == batch))[0]["at_us"]
        return None if at_us is None else int(at_us)

    def counts(self) -> WebhookEventCounts:
        """Count all events."""
        query = sa.select(
            _events.c.outcome,
            sa.func.count().label("n"),
            sa.func.min(_events.c.received_at_us).label("oldest"),
            sa.func.max(_events.c.received_at_us).label("newest"),
        ).group_by(_events.c.outcome)
        rows = {row["outcome"]: row for row in self._all(query)}
        open_ = rows.pop(None, None)
        newest = [row["newest"] for row in (*rows.values(), open_) if row]
        return WebhookEventCounts(
            n_open=open_["n"] if open_ else 0,
            oldest_open_at_us=open_["oldest"] if open_ else None,
            last_received_at_us=max(newest, default=None),
            n_by_outcome={EventOutcome(name): row["n"] for name, row in rows.items()},
        )


def _apply_receipts(connection: Connection, events: Sequence[WebhookEvent]) -> list[bool]:
    # Due at once by any clock: receiver and worker may be machines whose clocks differ.
    rows = [{**asdict(event), "due_at_us": 0} for event in events]
    return execute_each(connection, insert_into(connection, _events).on_conflict_do_nothing(), rows)


_OPEN_EVENT = sa.update(_events).where(
    _events.c.event_id == sa.bindparam("of_event"), _events.c.done_at_us.is_(None)
)
_IS_KEPT = sa.bindparam("of_outcome") == EventOutcome.UNMATCHED.value
_FINISH = _OPEN_EVENT.values(
    outcome=sa.bindparam("of_outcome"), body=sa.case((_IS_KEPT, _events.c.body), else_=sa.null())
)
_POSTPONE = _OPEN_EVENT.values(n_tries=_events.c.n_tries + 1)


def _apply_ends(connection: Connection, ends: Sequence[EventEnd]) -> list[bool]:
    rows = [
        {
            "of_event": end.event_id,
            "of_outcome": end.outcome.value,
            "done_at_us": end.at_us,
            "batch": end.batch,
        }
        for end in ends
    ]
    return execute_each(connection, _FINISH, rows)


def _apply_postponements(connection: Connection, laters: Sequence[Postponement]) -> list[bool]:
    rows = [{"of_event": later.event_id, "due_at_us": later.due_at_us} for later in laters]
    return execute_each(connection, _POSTPONE, rows)


def _forget(connection: Connection, before_us: int) -> int:
    statement = sa.delete(_events).where(
        _events.c.done_at_us < before_us, _events.c.outcome != EventOutcome.UNMATCHED.value
    )
    return connection.execute(statement).rowcount


RECEIVE = Write("receive", 6, _apply_receipts)
FINISH = Write("finish event", 7, _apply_ends)
POSTPONE = Write("postpone event", 8, _apply_postponements)
