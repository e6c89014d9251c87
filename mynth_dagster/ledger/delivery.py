"""
Deliveries: an intent is claimed to be sent, and a delivery ends without a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.grouped import (
    each_changed,
    each_inserted,
    insert_into,
    is_before,
    raise_versions_of,
)
from mynth_dagster.ledger.records import intent_to_row
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.transitions import Event, IntentState, next_state

_intents = schema.intents


@dataclass(frozen=True)
class Claim:
    """
    The wish to send an intent now; `intent.state` is `sending`.

    `from_attempt` is None for a new generation, else the attempt that rests and is followed.
    """

    intent: Intent
    account: int | None = None
    from_attempt: int | None = None


@dataclass(frozen=True)
class Ending:
    """How a delivery ended without a task: given back, rejected, or out of sight."""

    intent: Intent
    event: Event
    ended_at_us: int
    reason: str
    error_code: str | None = None
    error_message: str | None = None
    error_field: str | None = None
    http_status: int | None = None


def _apply_claims(connection: Connection, claims: Sequence[Claim]) -> list[bool]:
    new = [claim for claim in claims if claim.from_attempt is None]
    again = [claim for claim in claims if claim.from_attempt is not None]
    won = dict(zip(map(id, new), _insert_claims(connection, new), strict=True))
    won |= zip(map(id, again), _repeat_claims(connection, again), strict=True)
    results = [won[id(claim)] for claim in claims]
    won_ids = [c.intent.intent_id for c, is_won in zip(claims, results, strict=True) if is_won]
    raise_versions_of(connection, won_ids)
    return results


def _insert_claims(connection: Connection, claims: Sequence[Claim]) -> list[bool]:
    rows = [{**intent_to_row(claim.intent), "account": claim.account} for claim in claims]
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
        fan_out=sa.bindparam("b_fan_out"),
        claimed_at_us=sa.bindparam("b_claimed"),
        send_by_us=sa.bindparam("b_send_by"),
    )
)


def _repeat_claims(connection: Connection, claims: Sequence[Claim]) -> list[bool]:
    rows = [
        {
            "b_intent_id": claim.intent.intent_id,
            "b_attempt": claim.from_attempt,
            "b_quoted": claim.intent.quoted_units,
            "b_account": claim.account,
            "b_fan_out": claim.intent.fan_out,
            "b_claimed": claim.intent.claimed_at_us,
            "b_send_by": claim.intent.send_by_us,
        }
        for claim in claims
    ]
    return each_changed(connection, _REPEAT, rows)


_others = _intents.alias("others")


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
    )
)


def _apply_endings(connection: Connection, endings: Sequence[Ending]) -> list[bool]:
    rows = [_ending_row(ending) for ending in endings]
    results = each_changed(connection, _END, rows)
    evidence = [_attempt_row(ending) for ending in endings]
    connection.execute(insert_into(connection, schema.attempts).on_conflict_do_nothing(), evidence)
    changed = [e.intent.intent_id for e, done in zip(endings, results, strict=True) if done]
    raise_versions_of(connection, changed)
    return results


def _ending_row(ending: Ending) -> dict[str, Any]:
    intent = ending.intent
    state = next_state(IntentState.SENDING, ending.event, key=intent.intent_id)
    return {
        "b_intent_id": intent.intent_id,
        "b_attempt": intent.attempt,
        "b_state": state.value,
        "b_reason": ending.reason,
        "b_code": ending.error_code,
        "b_message": ending.error_message,
        "b_field": ending.error_field,
        "b_status": ending.http_status,
    }


def _attempt_row(ending: Ending) -> dict[str, Any]:
    return {
        "intent_id": ending.intent.intent_id,
        "attempt": ending.intent.attempt,
        "outcome": ending.reason,
        "http_status": ending.http_status,
        "detail": ending.error_message,
        "ended_at_us": ending.ended_at_us,
    }


END = Write("end", 2, _apply_endings)
CLAIM = Write("claim", 4, _apply_claims)
