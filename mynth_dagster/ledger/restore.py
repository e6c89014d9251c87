"""Putting intents back that an earlier ledger had, under their own ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes
from mynth_dagster.ledger.grouped import each_changed
from mynth_dagster.ledger.numbers import instant_of, next_number
from mynth_dagster.ledger.records import INTENT_COLUMNS, intent_to_row
from mynth_dagster.ledger.statements import Insertion
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import exposure_of
from mynth_dagster.models.transitions import IntentState

_PUT_BACK = Insertion(
    schema.intents,
    [*INTENT_COLUMNS, "account", "accepted_no", "doubted_no", "doubted_since"],
    key="intent_id",
)


@dataclass(frozen=True)
class Restored:
    """An intent as it is put back; with a task where it has one."""

    intent: Intent
    account: int


def restore_intents(restored: Sequence[Restored], ours: Instant) -> Callable[[Connection], int]:
    """Insert the intents that are not there yet; how many were put back."""

    def call(connection: Connection) -> int:
        number, now = next_number(connection), instant_of(connection, ours)
        rows = [_row(each, number, now) for each in restored]
        is_new = each_changed(connection, _PUT_BACK, rows)
        fresh = [each for each, new in zip(restored, is_new, strict=True) if new]
        _count(connection, fresh)
        return len(fresh)

    return call


def _row(each: Restored, number: int, now: Instant) -> dict[str, object]:
    is_in_doubt = each.intent.state is IntentState.UNRESOLVED
    return {
        **intent_to_row(each.intent),
        "account": each.account,
        "accepted_no": number if each.intent.task_id else None,
        "doubted_no": number if is_in_doubt else None,
        "doubted_since": str(now) if is_in_doubt else None,
    }


def _count(connection: Connection, restored: Sequence[Restored]) -> None:
    changes = Changes()
    for each in restored:
        intent = each.intent
        exposure = exposure_of(
            intent.state,
            quoted_units=intent.quoted_units,
            reserved_units=intent.reserved_units,
            charged_units=intent.charged_units,
        )
        changes.add((intent.row.batch, intent.row.window, intent.fan_out), exposure)
    apply_changes(connection, changes)


def take_ledger_id(ledger_id: str) -> Callable[[Connection], bool]:
    """Become the ledger that was lost; only an empty one can. Whether it did."""

    def call(connection: Connection) -> bool:
        if connection.execute(sa.select(sa.func.count()).select_from(schema.intents)).scalar():
            return False
        statement = sa.update(schema.meta).where(schema.meta.c.key == "ledger_id")
        connection.execute(statement.values(value=ledger_id))
        return True

    return call
