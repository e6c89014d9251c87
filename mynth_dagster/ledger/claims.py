"""Deliveries: an intent is claimed to be sent, and a delivery ends without a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import (
    BudgetRequest,
    Changes,
    apply_changes,
    exceeded_scopes,
    exposure_before,
    note_difference,
    place_of,
)
from mynth_dagster.ledger.database import instant_of, is_postgres, next_seq
from mynth_dagster.ledger.group_commit import GroupCommit, Write
from mynth_dagster.ledger.statements import (
    CALL,
    Cells,
    Change,
    Insertion,
    each_changed,
    insert_into,
    is_before,
    rows_of,
)
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import NO_BUDGET, Budget, Scope
from mynth_dagster.models.request import KINDS_BY_TABLE
from mynth_dagster.models.transitions import Event, IntentState, next_state

# Stops and fences: what may not be claimed any more, whoever asks and wherever it runs.
#
# A *stop* is a person's word about a batch, a partition or everything, until it is lifted. A
# *fence* shuts out one run that Dagster says is over, for ever: a process of it that was left
# behind claims nothing more. Both are looked at in the transaction of each claim, so that no claim
# commits after either of them has. What such a process still learns is taken all the same.


_stops, _fences = schema.stops, schema.fences

_CLAIMS_LOCK = 0x6D796E7469
"""Of Postgres: claims share it, and whoever stops them has it alone."""


@dataclass(frozen=True)
class Stop:
    """
    A person's word that nothing more is to be sent.

    Args:
        batch: The batch's identity in the ledger; empty: every batch.
        window: With `fan_out` the partition; None: every partition.
        who: User and machine, or the Dagster run that was told to stop.
        at_us: UTC microseconds.
    """

    batch: str
    window: str | None
    fan_out: str | None
    who: str
    reason: str
    at_us: int

    def covers(self, batch: str, window: str, fan_out: str) -> bool:
        """Whether nothing may be sent into this partition."""
        is_here = self.window is None or (self.window, self.fan_out) == (window, fan_out)
        # Looks at a batch's images are kept as `<batch>/<table>`: they are stopped with it.
        looked_at, _, table = batch.rpartition("/")
        of_batch = looked_at if table in KINDS_BY_TABLE else batch
        return self.batch in ("", batch, of_batch) and is_here


@dataclass(frozen=True)
class Barriers:
    """What claims meet in one transaction."""

    stops: tuple[Stop, ...] = ()
    fenced_runs: frozenset[str] = frozenset()


def read_barriers(connection: Connection, runs: Collection[str]) -> Barriers:
    """
    Stops, and which of these runs are fenced.

    On Postgres whoever stops waits for the claims that came before, and later ones wait for it.
    """
    if is_postgres(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({_CLAIMS_LOCK})")
    stops = [_stop(row) for row in connection.execute(_ACTIVE).mappings()]
    fenced = sa.select(_fences.c.run_id).where(_fences.c.run_id.in_(list(runs)))
    return Barriers(tuple(stops), frozenset(connection.execute(fenced).scalars()))


class Stops:
    """The part of the ledger that stops; a write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        self._commits, self._reader = commits, reader

    async def stop(self, stop: Stop, now: Instant) -> None:
        """Nothing more is claimed of what it covers once this returns; the newest reason counts."""
        await self._commits.submit(CALL, _stopping(stop, now))

    async def lift(
        self, batch: str, window: str | None, fan_out: str | None, *, who: str, now: Instant
    ) -> list[Stop]:
        """
        Lift the stops of a batch, of one of its partitions, or (empty) of everything; those lifted.

        A batch's partitions go with the batch, and everything with everything.
        """
        call = _lifting(batch, window, fan_out, who, now)
        lifted: list[Stop] = await self._commits.submit(CALL, call)
        return lifted

    async def fence(self, run_id: str, reason: str, now: Instant) -> bool:
        """This run claims nothing more; False where it was fenced before."""
        return bool(await self._commits.submit(CALL, _fencing(run_id, reason, now)))

    def active(self) -> list[Stop]:
        """The stops that nobody has lifted, oldest first."""
        return list(rows_of(self._reader, _ACTIVE, _stop))

    def fenced(self, run_ids: Collection[str]) -> dict[str, str]:
        """Which of these runs are fenced, and why."""
        query = sa.select(_fences).where(_fences.c.run_id.in_(list(run_ids)))
        return dict(rows_of(self._reader, query, lambda row: (row["run_id"], row["reason"])))


_ACTIVE = sa.select(_stops).where(_stops.c.lifted_at_us.is_(None)).order_by(_stops.c.stop)


def _alone(connection: Connection) -> None:
    if is_postgres(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CLAIMS_LOCK})")


def _stopping(stop: Stop, ours: Instant) -> Callable[[Connection], None]:
    def call(connection: Connection) -> None:
        _alone(connection)
        at_us = instant_of(connection, ours).wall_us
        same = _is_active(stop.batch, stop.window, stop.fan_out)
        replaced = {"lifted_at_us": at_us, "lifted_by": stop.who}
        connection.execute(sa.update(_stops).where(same).values(replaced))
        connection.execute(sa.insert(_stops).values({**vars(stop), "at_us": at_us}))

    return call


def _lifting(
    batch: str, window: str | None, fan_out: str | None, who: str, ours: Instant
) -> Callable[[Connection], list[Stop]]:
    def call(connection: Connection) -> list[Stop]:
        if batch and window is not None:
            lifted = _is_active(batch, window, fan_out)
        else:
            lifted = _stops.c.lifted_at_us.is_(None)
            lifted = lifted & (_stops.c.batch == batch) if batch else lifted
        rows = connection.execute(sa.select(_stops).where(lifted)).mappings().all()
        values = {"lifted_at_us": instant_of(connection, ours).wall_us, "lifted_by": who}
        connection.execute(sa.update(_stops).where(lifted).values(values))
        return [_stop(row) for row in rows]

    return call


def _fencing(run_id: str, reason: str, ours: Instant) -> Callable[[Connection], bool]:
    def call(connection: Connection) -> bool:
        _alone(connection)
        row = {"run_id": run_id, "reason": reason, "at_us": instant_of(connection, ours).wall_us}
        statement = insert_into(connection, _fences).values(row).on_conflict_do_nothing()
        return connection.execute(statement.returning(_fences.c.run_id)).first() is not None

    return call


def _is_active(batch: str, window: str | None, fan_out: str | None) -> sa.ColumnElement[bool]:
    return sa.and_(
        _stops.c.lifted_at_us.is_(None),
        _stops.c.batch == batch,
        _stops.c.window.is_not_distinct_from(window),
        _stops.c.fan_out.is_not_distinct_from(fan_out),
    )


def _stop(row: sa.RowMapping) -> Stop:
    return Stop(**{name: row[name] for name in Stop.__dataclass_fields__})


_intents = schema.intents


@dataclass(frozen=True)
class Claim:
    """
    The wish to send an intent now; `intent.state` is `sending`.

    Args:
        account: The ledger's number of the account and key that will send it.
        from_attempt: None for a new generation, else the attempt that rests and is followed.
        budget: The caps that it has to fit under.
        claimant: Names this claim and no other, so that it is known again if its COMMIT was not
            confirmed.
        run: Who sends, as in `partitions.submitter`; one that is fenced claims nothing.
        is_wanted: Asked in the transaction: a claim that waited for the database while its run was
            stopped is not wanted any more.
    """

    intent: Intent
    account: int | None = None
    from_attempt: int | None = None
    budget: Budget = NO_BUDGET
    claimant: str | None = None
    run: str = ""
    is_wanted: Callable[[], bool] = lambda: True


class Claimed(str, Enum):
    """What became of a claim; only `won` may be sent."""

    WON = "won"
    LOST = "lost"
    OVER_PARTITION = "over the partition's budget"
    OVER_WINDOW = "over the window's budget"
    OVER_BATCH = "over the batch's budget"
    STOPPED = "stopped"
    FENCED = "fenced"
    UNWANTED = "unwanted"


_OVER = {
    Scope.PARTITION: Claimed.OVER_PARTITION,
    Scope.WINDOW: Claimed.OVER_WINDOW,
    Scope.BATCH: Claimed.OVER_BATCH,
}


@dataclass(frozen=True)
class Ending:
    """How a delivery ended without a task: given back, rejected, or out of sight."""

    intent: Intent
    event: Event
    ended_at: Instant
    reason: str
    error_code: str | None = None
    error_message: str | None = None
    error_field: str | None = None
    http_status: int | None = None


def _apply_claims(connection: Connection, claims: Sequence[Claim]) -> list[Claimed]:
    barriers = read_barriers(connection, {claim.run for claim in claims})
    kept_out = {id(claim): why for claim in claims if (why := _kept_out(claim, barriers))}
    free = [claim for claim in claims if id(claim) not in kept_out]
    claimed = {id(c): how for c, how in zip(free, _apply_free(connection, free), strict=True)}
    return [kept_out.get(id(claim)) or claimed[id(claim)] for claim in claims]


def _kept_out(claim: Claim, barriers: Barriers) -> Claimed | None:
    """Why this claim may not be made, whatever the row's state and the money."""
    if not claim.is_wanted():
        return Claimed.UNWANTED
    if claim.run in barriers.fenced_runs:
        return Claimed.FENCED
    row, fan_out = claim.intent.row, claim.intent.fan_out
    if any(stop.covers(row.batch, row.window, fan_out) for stop in barriers.stops):
        return Claimed.STOPPED
    return None


def _apply_free(connection: Connection, claims: Sequence[Claim]) -> list[Claimed]:
    if not claims:
        return []
    wishes = [
        BudgetRequest(place_of(c.intent), c.budget, c.intent.quoted_units or 0) for c in claims
    ]
    exceeded = exceeded_scopes(connection, wishes)
    fitting = [claim for claim, scope in zip(claims, exceeded, strict=True) if scope is None]
    won = _win(connection, fitting)
    quoted = ((claim.intent, claim.intent.quoted_units or 0) for claim in won)
    apply_changes(connection, Changes.of_reserved(quoted))
    is_won = {id(claim) for claim in won}
    is_won |= _confirmed_before(connection, [c for c in claims if id(c) not in is_won])
    return [
        Claimed.WON if id(claim) in is_won else _OVER[scope] if scope else Claimed.LOST
        for claim, scope in zip(claims, exceeded, strict=True)
    ]


def _win(connection: Connection, claims: Sequence[Claim]) -> list[Claim]:
    """The claims that became rows, or attempts, of their own."""
    number = next_seq(connection)
    now_us = instant_of(connection, Instant(0)).wall_us if is_postgres(connection) else None
    new = [claim for claim in claims if claim.from_attempt is None]
    again = [claim for claim in claims if claim.from_attempt is not None]
    rows = [_new_row(claim, number, now_us) for claim in new]
    is_won = each_changed(connection, _CLAIM_NEW, rows)
    rows = [_repeat_row(claim, number, now_us) for claim in again]
    is_won += each_changed(connection, _REPEAT, rows)
    return [claim for claim, won in zip([*new, *again], is_won, strict=True) if won]


def _confirmed_before(connection: Connection, claims: Sequence[Claim]) -> set[int]:
    """The claims (by id) that an earlier COMMIT kept although nobody heard of it."""
    named = {
        (claim.intent.intent_id, claim.intent.attempt, claim.claimant): id(claim)
        for claim in claims
        if claim.claimant is not None
    }
    if not named:
        return set()
    query = sa.select(_intents.c.intent_id, _intents.c.attempt, _intents.c.claimant).where(
        _intents.c.intent_id.in_([intent_id for intent_id, _, _ in named]),
        _intents.c.state == IntentState.SENDING.value,
    )
    found = (tuple(row) for row in connection.execute(query))
    return {named[claim] for claim in found if claim in named}


def _repeat(cells: Cells) -> sa.Update:
    conditions = (
        _intents.c.intent_id == cells("intent_id"),
        _intents.c.attempt == cells("attempt"),
        is_before(Event.CLAIM),
    )
    return (
        sa.update(_intents)
        .where(*conditions)
        .values(
            state=IntentState.SENDING.value,
            attempt=_intents.c.attempt + 1,
            reason=None,
            error_code=None,
            error_message=None,
            error_field=None,
            http_status=None,
            unresolved_seq=None,
            unresolved_since=None,
            held_because=None,
            **{name: cells(name) for name in _CLAIMED},
        )
    )


_CLAIMED = (
    *("fan_out", "quoted_units", "account", "claimant"),
    *("claimed_seq", "claimed_at_us", "send_by_us"),
)
_REPEAT = Change(
    _repeat,
    {name: _intents.c[name] for name in ("intent_id", "attempt", *_CLAIMED)},
    distinct=["intent_id"],
)
_CLAIM_NEW = Insertion(
    _intents,
    (
        *("intent_id", "batch", "window", "request_key", "generation", "prompt_id", "attempt"),
        *("state", "request_hash", "model", "n_asked", *_CLAIMED),
    ),
    key="intent_id",
)


def _repeat_row(claim: Claim, number: int, now_us: int | None) -> dict[str, Any]:
    """Where hosts share a database, its clock (`now_us`) says when a claim runs out."""
    intent = claim.intent
    claimed_at_us = intent.claimed_at_us if now_us is None else now_us
    return {
        "intent_id": intent.intent_id,
        "attempt": claim.from_attempt,
        "fan_out": intent.fan_out,
        "quoted_units": intent.quoted_units,
        "account": claim.account,
        "claimant": claim.claimant,
        "claimed_seq": number,
        "claimed_at_us": claimed_at_us,
        "send_by_us": claimed_at_us + intent.send_by_us - intent.claimed_at_us,
    }


def _new_row(claim: Claim, number: int, now_us: int | None) -> dict[str, Any]:
    intent = claim.intent
    return {
        **_repeat_row(claim, number, now_us),
        "batch": intent.row.batch,
        "window": intent.row.window,
        "request_key": intent.row.request_key,
        "generation": intent.generation,
        "prompt_id": intent.prompt_id,
        "attempt": intent.attempt,
        "state": intent.state.value,
        "request_hash": intent.request_hash,
        "model": intent.model,
        "n_asked": intent.n_asked,
    }


def _end(cells: Cells) -> sa.Update:
    conditions = (
        _intents.c.intent_id == cells("intent_id"),
        _intents.c.attempt == cells("attempt"),
        _intents.c.state == IntentState.SENDING.value,
    )
    return sa.update(_intents).where(*conditions).values({name: cells(name) for name in _ENDED})


_ENDED = (
    *("state", "reason", "error_code", "error_message"),
    *("error_field", "http_status", "unresolved_seq", "unresolved_since"),
)
_END = Change(
    _end,
    {name: _intents.c[name] for name in ("intent_id", "attempt", *_ENDED)},
    distinct=["intent_id"],
)
_KEEP_ATTEMPT = Insertion(
    schema.attempts,
    ["intent_id", "attempt", "outcome", "http_status", "detail", "ended_at_us"],
    key="intent_id",
)


def _apply_endings(connection: Connection, endings: Sequence[Ending]) -> list[bool]:
    intent_ids = {ending.intent.intent_id for ending in endings}
    before = exposure_before(connection, intent_ids)
    loses_sight = any(ending.event is Event.LOSE_SIGHT for ending in endings)
    number = next_seq(connection) if loses_sight else None
    rows = [_ending_row(connection, ending, number) for ending in endings]
    results = each_changed(connection, _END, rows)
    _KEEP_ATTEMPT.run(connection, [_attempt_row(ending) for ending in endings])
    changed = {e.intent.intent_id for e, done in zip(endings, results, strict=True) if done}
    note_difference(connection, before, intent_ids, changed)
    return results


def _ending_row(connection: Connection, ending: Ending, number: int | None) -> dict[str, Any]:
    intent = ending.intent
    state = next_state(IntentState.SENDING, ending.event, key=intent.intent_id)
    is_in_doubt = state is IntentState.UNRESOLVED
    return {
        "intent_id": intent.intent_id,
        "attempt": intent.attempt,
        "state": state.value,
        "reason": ending.reason,
        "error_code": ending.error_code,
        "error_message": ending.error_message,
        "error_field": ending.error_field,
        "http_status": ending.http_status,
        "unresolved_seq": number if is_in_doubt else None,
        "unresolved_since": str(instant_of(connection, ending.ended_at)) if is_in_doubt else None,
    }


def _attempt_row(ending: Ending) -> dict[str, Any]:
    return {
        "intent_id": ending.intent.intent_id,
        "attempt": ending.intent.attempt,
        "outcome": ending.reason,
        "http_status": ending.http_status,
        "detail": ending.error_message,
        "ended_at_us": ending.ended_at.wall_us,
    }


END = Write("end", 2, _apply_endings)


def _is_claim_kept(connection: Connection, claim: Claim, claimed: Claimed) -> bool:
    """A claim that was won is there, or was followed by a later attempt."""
    if claimed is not Claimed.WON:
        return True
    query = sa.select(_intents.c.attempt).where(_intents.c.intent_id == claim.intent.intent_id)
    attempt = connection.execute(query).scalar()
    return attempt is not None and attempt >= claim.intent.attempt


CLAIM = Write("claim", 4, _apply_claims, is_kept=_is_claim_kept)
