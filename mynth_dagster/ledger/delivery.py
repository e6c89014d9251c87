"""
Deliveries: an intent is claimed to be sent, and a delivery ends without a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.budgets import Wish, exceeded_scopes
from mynth_dagster.ledger.counters import Changes, Place, apply_changes, look_at, note_difference
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.grouped import each_changed, each_inserted, insert_into, is_before
from mynth_dagster.ledger.numbers import instant_of, is_postgres, next_number
from mynth_dagster.ledger.records import intent_to_row
from mynth_dagster.models.budget import NO_BUDGET, Budget, Scope
from mynth_dagster.models.exposure import Exposure
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.transitions import Event, IntentState, next_state

_intents = schema.intents


@dataclass(frozen=True)
class Claim:
    """
    The wish to send an intent now; `intent.state` is `sending`.

    Args:
        account: The ledger's number of the account and key that will send it.
        from_attempt: None for a new generation, else the attempt that rests and is followed.
        server_us: Now, on the server's clock, where that is known.
        budget: The caps that it has to fit under.
        claimant: Names who claims, so that a claim whose COMMIT was not confirmed is known again.
    """

    intent: Intent
    account: int | None = None
    from_attempt: int | None = None
    server_us: int | None = None
    budget: Budget = NO_BUDGET
    claimant: str | None = None


class Claimed(str, Enum):
    """What became of a claim; only `won` may be sent."""

    WON = "won"
    LOST = "lost"
    OVER_PARTITION = "over the partition's budget"
    OVER_WINDOW = "over the window's budget"
    OVER_BATCH = "over the batch's budget"


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
    claims = _on_ledger_time(connection, claims)
    wishes = [Wish(_place(c), c.budget, c.intent.quoted_units or 0) for c in claims]
    exceeded = exceeded_scopes(connection, wishes)
    fitting = [claim for claim, scope in zip(claims, exceeded, strict=True) if scope is None]
    won = _win(connection, fitting)
    changes = Changes()
    for claim in won:
        changes.add(_place(claim), Exposure(reserved=claim.intent.quoted_units or 0))
    apply_changes(connection, changes)
    is_won = {id(claim) for claim in won}
    is_won |= _confirmed_before(connection, [c for c in claims if id(c) not in is_won])
    return [
        Claimed.WON if id(claim) in is_won else _OVER[scope] if scope else Claimed.LOST
        for claim, scope in zip(claims, exceeded, strict=True)
    ]


def _win(connection: Connection, claims: Sequence[Claim]) -> list[Claim]:
    """The claims that became rows, or attempts, of their own."""
    number = next_number(connection)
    new = [claim for claim in claims if claim.from_attempt is None]
    again = [claim for claim in claims if claim.from_attempt is not None]
    is_won = [*_insert_claims(connection, new, number), *_repeat_claims(connection, again, number)]
    return [claim for claim, won in zip([*new, *again], is_won, strict=True) if won]


def _confirmed_before(connection: Connection, claims: Sequence[Claim]) -> set[int]:
    """The claims (by id) that an earlier COMMIT kept although nobody heard of it."""
    named = {claim.intent.intent_id: claim for claim in claims if claim.claimant is not None}
    if not named:
        return set()
    query = sa.select(_intents.c.intent_id, _intents.c.attempt, _intents.c.claimant).where(
        _intents.c.intent_id.in_(named), _intents.c.state == IntentState.SENDING.value
    )
    return {
        id(named[intent_id])
        for intent_id, attempt, claimant in connection.execute(query)
        if (attempt, claimant) == (named[intent_id].intent.attempt, named[intent_id].claimant)
    }


def _place(claim: Claim) -> Place:
    row = claim.intent.row
    return row.batch, row.window, claim.intent.fan_out


def _on_ledger_time(connection: Connection, claims: Sequence[Claim]) -> list[Claim]:
    """Where hosts share a database, its clock says when a claim was made and runs out."""
    if not is_postgres(connection):
        return list(claims)
    now_us = instant_of(connection, Instant(0)).wall_us
    return [
        replace(
            claim,
            intent=replace(
                claim.intent,
                claimed_at_us=now_us,
                send_by_us=now_us + claim.intent.send_by_us - claim.intent.claimed_at_us,
            ),
        )
        for claim in claims
    ]


def _insert_claims(connection: Connection, claims: Sequence[Claim], number: int) -> list[bool]:
    rows = [
        {
            **intent_to_row(claim.intent),
            "account": claim.account,
            "claimed_no": number,
            "claimed_server_us": claim.server_us,
            "claimant": claim.claimant,
        }
        for claim in claims
    ]
    return each_inserted(connection, _intents, "intent_id", rows)


_REPEAT = (
    sa.update(_intents)
    .where(
        _intents.c.intent_id == sa.bindparam("b_intent_id"),
        _intents.c.attempt == sa.bindparam("b_attempt"),
        is_before(Event.CLAIM),
    )
    .values(
        state=IntentState.SENDING.value,
        attempt=_intents.c.attempt + 1,
        reason=None,
        error_code=None,
        error_message=None,
        error_field=None,
        http_status=None,
        quoted_units=sa.bindparam("b_quoted"),
        account=sa.bindparam("b_account"),
        claimed_no=sa.bindparam("b_number"),
        claimed_server_us=sa.bindparam("b_server_us"),
        claimant=sa.bindparam("b_claimant"),
        doubted_no=None,
        doubted_since=None,
        fan_out=sa.bindparam("b_fan_out"),
        claimed_at_us=sa.bindparam("b_claimed"),
        send_by_us=sa.bindparam("b_send_by"),
    )
)


def _repeat_claims(connection: Connection, claims: Sequence[Claim], number: int) -> list[bool]:
    rows = [
        {
            "b_intent_id": claim.intent.intent_id,
            "b_attempt": claim.from_attempt,
            "b_quoted": claim.intent.quoted_units,
            "b_account": claim.account,
            "b_number": number,
            "b_server_us": claim.server_us,
            "b_claimant": claim.claimant,
            "b_fan_out": claim.intent.fan_out,
            "b_claimed": claim.intent.claimed_at_us,
            "b_send_by": claim.intent.send_by_us,
        }
        for claim in claims
    ]
    return each_changed(connection, _REPEAT, rows)


_END = (
    sa.update(_intents)
    .where(
        _intents.c.intent_id == sa.bindparam("b_intent_id"),
        _intents.c.attempt == sa.bindparam("b_attempt"),
        _intents.c.state == IntentState.SENDING.value,
    )
    .values(
        state=sa.bindparam("b_state"),
        reason=sa.bindparam("b_reason"),
        error_code=sa.bindparam("b_code"),
        error_message=sa.bindparam("b_message"),
        error_field=sa.bindparam("b_field"),
        http_status=sa.bindparam("b_status"),
        doubted_no=sa.bindparam("b_doubted_no"),
        doubted_since=sa.bindparam("b_doubted_since"),
    )
)


def _apply_endings(connection: Connection, endings: Sequence[Ending]) -> list[bool]:
    before = look_at(connection, [ending.intent.intent_id for ending in endings])
    loses_sight = any(ending.event is Event.LOSE_SIGHT for ending in endings)
    number = next_number(connection) if loses_sight else None
    rows = [_ending_row(connection, ending, number) for ending in endings]
    results = each_changed(connection, _END, rows)
    evidence = [_attempt_row(ending) for ending in endings]
    connection.execute(insert_into(connection, schema.attempts).on_conflict_do_nothing(), evidence)
    changed = [e.intent.intent_id for e, done in zip(endings, results, strict=True) if done]
    note_difference(connection, before, changed)
    return results


def _ending_row(connection: Connection, ending: Ending, number: int | None) -> dict[str, Any]:
    intent = ending.intent
    state = next_state(IntentState.SENDING, ending.event, key=intent.intent_id)
    is_in_doubt = state is IntentState.UNRESOLVED
    return {
        "b_intent_id": intent.intent_id,
        "b_attempt": intent.attempt,
        "b_state": state.value,
        "b_reason": ending.reason,
        "b_code": ending.error_code,
        "b_message": ending.error_message,
        "b_field": ending.error_field,
        "b_status": ending.http_status,
        "b_doubted_no": number if is_in_doubt else None,
        "b_doubted_since": str(instant_of(connection, ending.ended_at)) if is_in_doubt else None,
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
