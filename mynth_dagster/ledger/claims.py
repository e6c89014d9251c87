"""Claims: an intent is committed as `sending`, and a delivery that ends without a task is noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

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
from mynth_dagster.ledger.database import (
    execute_each,
    execute_many,
    insert_into,
    instant_of,
    is_postgres,
    next_seq,
)
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.rows import constant, is_before
from mynth_dagster.ledger.stops import Barriers, read_barriers
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import NO_BUDGET, Budget, Scope
from mynth_dagster.models.transitions import Event, IntentState, next_state

_intents = schema.intents


@dataclass(frozen=True)
class Claim:
    """
    An intent that is to be sent now; its state is `sending`.

    Args:
        account: The ledger's number of the account and key that will send it.
        from_attempt: None for a new generation, else the attempt that rests and is followed.
        budget: The caps that it has to fit under.
        claimant: Names this claim and no other, so that it is recognised if its COMMIT was not
            confirmed.
        run: Who sends, as in `partitions.submitter`; a fenced run claims nothing.
        is_wanted: Called in the transaction: a claim that waited for the database while its run
            was stopped is not wanted any more.
    """

    intent: Intent
    account: int | None = None
    from_attempt: int | None = None
    budget: Budget = NO_BUDGET
    claimant: str | None = None
    run: str = ""
    is_wanted: Callable[[], bool] = lambda: True


class Claimed(str, Enum):
    """The result of a claim; only `won` may be sent."""

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
    """How a delivery ended without a task: given back, rejected, or of unknown outcome."""

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
    """Return why this claim may not be made, whatever the row's state and the money."""
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
    exceeded = exceeded_scopes(
        connection,
        [BudgetRequest(place_of(c.intent), c.budget, c.intent.quoted_units or 0) for c in claims],
    )
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
    seq = next_seq(connection)
    now_us = instant_of(connection, Instant(0)).wall_us if is_postgres(connection) else None
    new = [claim for claim in claims if claim.from_attempt is None]
    insert = insert_into(connection, _intents).on_conflict_do_nothing()
    is_won = execute_each(connection, insert, [_new_row(claim, seq, now_us) for claim in new])
    again = [claim for claim in claims if claim.from_attempt is not None]
    rows = [
        {
            **_claimed_row(claim, seq, now_us),
            "of_intent": claim.intent.intent_id,
            "of_attempt": claim.from_attempt,
        }
        for claim in again
    ]
    is_won += execute_each(connection, _REPEAT, rows)
    return [claim for claim, won in zip([*new, *again], is_won, strict=True) if won]


def _confirmed_before(connection: Connection, claims: Sequence[Claim]) -> set[int]:
    """Return the claims (by id) that an earlier COMMIT kept without a confirmation."""
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


_REPEAT = (
    sa.update(_intents)
    .where(
        _intents.c.intent_id == sa.bindparam("of_intent"),
        _intents.c.attempt == sa.bindparam("of_attempt"),
        is_before(Event.CLAIM),
    )
    .values(
        state=constant(IntentState.SENDING),
        attempt=_intents.c.attempt + sa.literal_column("1"),
        reason=sa.null(),
        error_code=sa.null(),
        error_message=sa.null(),
        error_field=sa.null(),
        http_status=sa.null(),
        unresolved_seq=sa.null(),
        unresolved_since=sa.null(),
        held_because=sa.null(),
    )
)
"""An attempt that rests is followed by the next; `_claimed_row` has the other columns."""


def _claimed_row(claim: Claim, seq: int, now_us: int | None) -> dict[str, Any]:
    """Return a claim's row; where hosts share a database, its clock (`now_us`) is used."""
    intent = claim.intent
    claimed_at_us = intent.claimed_at_us if now_us is None else now_us
    return {
        "fan_out": intent.fan_out,
        "quoted_units": intent.quoted_units,
        "account": claim.account,
        "claimant": claim.claimant,
        "claimed_seq": seq,
        "claimed_at_us": claimed_at_us,
        "send_by_us": claimed_at_us + intent.send_by_us - intent.claimed_at_us,
    }


def _new_row(claim: Claim, seq: int, now_us: int | None) -> dict[str, Any]:
    intent = claim.intent
    return {
        **_claimed_row(claim, seq, now_us),
        "intent_id": intent.intent_id,
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


_END = sa.update(_intents).where(
    _intents.c.intent_id == sa.bindparam("of_intent"),
    _intents.c.attempt == sa.bindparam("of_attempt"),
    _intents.c.state == constant(IntentState.SENDING),
)


def _apply_endings(connection: Connection, endings: Sequence[Ending]) -> list[bool]:
    intent_ids = {ending.intent.intent_id for ending in endings}
    before = exposure_before(connection, intent_ids)
    loses_sight = any(ending.event is Event.LOSE_SIGHT for ending in endings)
    seq = next_seq(connection) if loses_sight else None
    rows = [_ending_row(connection, ending, seq) for ending in endings]
    results = execute_each(connection, _END, rows)
    keep = insert_into(connection, schema.attempts).on_conflict_do_nothing()
    execute_many(connection, keep, [_attempt_row(ending) for ending in endings])
    changed = {e.intent.intent_id for e, done in zip(endings, results, strict=True) if done}
    note_difference(connection, before, intent_ids, changed)
    return results


def _ending_row(connection: Connection, ending: Ending, seq: int | None) -> dict[str, Any]:
    intent = ending.intent
    state = next_state(IntentState.SENDING, ending.event, key=intent.intent_id)
    is_unresolved = state is IntentState.UNRESOLVED
    return {
        "of_intent": intent.intent_id,
        "of_attempt": intent.attempt,
        "state": state.value,
        "reason": ending.reason,
        "error_code": ending.error_code,
        "error_message": ending.error_message,
        "error_field": ending.error_field,
        "http_status": ending.http_status,
        "unresolved_seq": seq if is_unresolved else None,
        "unresolved_since": str(instant_of(connection, ending.ended_at)) if is_unresolved else None,
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
    """Whether a claim that was won is there, or was followed by a later attempt."""
    if claimed is not Claimed.WON:
        return True
    query = sa.select(_intents.c.attempt).where(_intents.c.intent_id == claim.intent.intent_id)
    attempt = connection.execute(query).scalar()
    return attempt is not None and attempt >= claim.intent.attempt


CLAIM = Write("claim", 4, _apply_claims, is_kept=_is_claim_kept)


# What a follow-up was sent with: its task carries no tag, and is recognised by type and URL.


def save_follow_up(connection: Connection, intent_id: str, task_type: str, url: str) -> None:
    """Keep what a follow-up will be sent with; before it is sent."""
    row = {"intent_id": intent_id, "url": url, "task_type": task_type}
    connection.execute(insert_into(connection, schema.follow_ups).on_conflict_do_nothing(), row)
