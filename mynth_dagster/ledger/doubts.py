"""Settling what is in doubt: walks over the task list, rows cleared, tasks lost, rows given up."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import exposure_before, note_difference
from mynth_dagster.ledger.grouped import insert_into
from mynth_dagster.ledger.numbers import instant_of, next_number
from mynth_dagster.limits import LOST_AFTER_MISSES, LOST_AFTER_S
from mynth_dagster.models.intent import TOO_EARLY, Doubt, Intent, Walk
from mynth_dagster.models.transitions import Event, IntentState, states_before

_intents = schema.intents
WALKS_KEPT = 100


@dataclass(frozen=True)
class Missing:
    """What reading an accepted task by its id said: that there is none, or that it is there."""

    intent_id: str
    is_missing: bool


def moment(ours: Instant) -> Callable[[Connection], Instant]:
    """Now, on the clock that this ledger's waits are measured with."""
    return lambda connection: instant_of(connection, ours)


def expire_sending(
    batch: str, window: str, grace_us: int, ours: Instant
) -> Callable[[Connection], int]:
    """Rows left `sending` by a process that is gone become `unresolved`; returns how many."""

    def call(connection: Connection) -> int:
        now = instant_of(connection, ours)
        interrupted = sa.select(_intents.c.intent_id).where(
            _intents.c.batch == batch,
            _intents.c.window == window,
            _intents.c.state == IntentState.SENDING.value,
            _intents.c.send_by_us < now.wall_us - grace_us,
        )
        ids = list(connection.execute(interrupted).scalars())
        if not ids:
            return 0
        values = {
            "state": IntentState.UNRESOLVED.value,
            "reason": "interrupted",
            "doubted_no": next_number(connection),
            "doubted_since": str(now),
        }
        return len(_move(connection, ids, [IntentState.SENDING], values))

    return call


def record_walk(walk: Walk) -> Callable[[Connection], None]:
    """Keep a complete walk; only the newest ones of an account are of use."""

    def call(connection: Connection) -> None:
        table = schema.walks
        row = {
            "account": walk.account,
            "page_size": walk.page_size,
            "began": str(walk.began),
            "ended": str(walk.ended),
            "said": json.dumps(dict(walk.said)),
        }
        connection.execute(sa.insert(table).values(row))
        of_account = sa.select(table.c.walk).where(table.c.account == walk.account)
        newest = of_account.order_by(table.c.walk.desc()).limit(WALKS_KEPT)
        old = sa.delete(table).where(table.c.account == walk.account, table.c.walk.not_in(newest))
        connection.execute(old)
        _say_why_held(connection, walk)

    return call


def _say_why_held(connection: Connection, walk: Walk) -> None:
    """What is said of a row is shown in its tables: where it changed, they are out of date."""
    of_intents = _intents.c.intent_id.in_(list(walk.said))
    is_held = _intents.c.state == IntentState.UNRESOLVED.value
    query = sa.select(_intents.c.intent_id, _intents.c.held_because).where(of_intents, is_held)
    changed = defaultdict[str | None, list[str]](list)
    for intent_id, held_because in connection.execute(query).all():
        said = walk.said[intent_id] if walk.said[intent_id] not in ("", TOO_EARLY) else None
        if said != held_because:
            changed[said].append(intent_id)
    for said, intent_ids in changed.items():
        _move(connection, intent_ids, [IntentState.UNRESOLVED], {"held_because": said})


def record_dispute(intent_id: str, task_id: str, ours: Instant) -> Callable[[Connection], None]:
    """A task that was taken for this intent's is another's: proof of nothing, kept to be seen."""

    def call(connection: Connection) -> None:
        attempt = sa.select(_intents.c.attempt).where(_intents.c.intent_id == intent_id)
        statement = insert_into(connection, schema.sightings).values(
            task_id=task_id,
            intent_id=intent_id,
            source=schema.DISPUTED,
            attempt=attempt.scalar_subquery(),
            seen_at_us=instant_of(connection, ours).wall_us,
        )
        connection.execute(statement.on_conflict_do_nothing())

    return call


def clear(doubts: Sequence[Doubt], said: str) -> Callable[[Connection], int]:
    """These requests were not accepted; how many were still in doubt."""

    def call(connection: Connection) -> int:
        still = sa.or_(
            sa.false(),
            *(
                sa.and_(
                    _intents.c.intent_id == doubt.intent.intent_id,
                    _intents.c.attempt == doubt.intent.attempt,
                    _intents.c.doubted_no == doubt.since_no,
                )
                for doubt in doubts
            ),
        )
        ids = list(connection.execute(sa.select(_intents.c.intent_id).where(still)).scalars())
        values = {"state": IntentState.CLEARED.value, "reason": "not_found", "error_message": said}
        return len(_move(connection, ids, states_before(Event.CLEAR), values))

    return call


def note_missing(found: Sequence[Missing], ours: Instant) -> Callable[[Connection], int]:
    """
    Count tasks that Mynth says it does not know; how many are lost now.

    A task is lost after `LOST_AFTER_MISSES` looks over `LOST_AFTER_S`; one look that finds it
    begins anew.
    """

    def call(connection: Connection) -> int:
        now = instant_of(connection, ours)
        lost = [missing.intent_id for missing in found if _note_missing(connection, missing, now)]
        values = {"state": IntentState.LOST.value, "reason": "task_lost"}
        return len(_move(connection, lost, [IntentState.ACCEPTED], values))

    return call


def _note_missing(connection: Connection, missing: Missing, now: Instant) -> bool:
    of_intent = _intents.c.intent_id == missing.intent_id
    query = sa.select(_intents.c.missed, _intents.c.missing_since).where(of_intent)
    missed, since = connection.execute(query).one()
    values: dict[str, object] = {"missed": 0, "missing_since": None}
    if missing.is_missing:
        values = {"missed": missed + 1, "missing_since": since or str(now)}
    connection.execute(sa.update(_intents).where(of_intent).values(values))
    if not missing.is_missing or missed + 1 < LOST_AFTER_MISSES or since is None:
        return False
    return Instant.parse(since).surely_elapsed_us(now) >= LOST_AFTER_S * US_PER_S


def abandon(intent: Intent, reason: str) -> Callable[[Connection], bool]:
    """A person gives an open delivery up; False if it was settled in the meantime."""

    def call(connection: Connection) -> bool:
        may_move = [*states_before(Event.ABANDON), IntentState.ABANDONED]
        values = {"state": IntentState.ABANDONED.value, "reason": reason}
        return bool(_move(connection, [intent.intent_id], may_move, values))

    return call


def _move(
    connection: Connection,
    intent_ids: Sequence[str],
    states: Sequence[IntentState],
    values: Mapping[str, object],
) -> list[str]:
    """Bring these intents into another state, those that are still in one of the states."""
    before = exposure_before(connection, intent_ids)
    statement = (
        sa.update(_intents)
        .where(
            _intents.c.intent_id.in_(intent_ids),
            _intents.c.state.in_([state.value for state in states]),
        )
        .values(values)
        .returning(_intents.c.intent_id)
    )
    moved = list(connection.execute(statement).scalars())
    note_difference(connection, before, intent_ids, moved)
    return moved
