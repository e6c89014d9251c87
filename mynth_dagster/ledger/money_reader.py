"""Sums of money for receipts. Synchronous, like `LedgerReader`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.queries import in_slices, rows_of
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import NO_MONEY, MoneyGroup, Receipt, receipt_of
from mynth_dagster.models.transitions import IntentState

_intents = schema.intents
_tasks = schema.tasks


class MoneyReader:
    """Queries about money."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def receipt(self, batch: str, slices: Iterable[Slice] | None = None) -> Receipt:
        """What these partitions have cost and may yet cost; all of the batch where none given."""
        where = [_intents.c.batch == batch]
        if slices is not None:
            where.append(in_slices(slices))
        held = sa.func.coalesce(_intents.c.reserved_units, _intents.c.quoted_units, 0)
        of_intents = _sums(
            _intents.c.state, _intents.c.quoted_units, held, _intents.c.charged_units
        )
        of_surplus = _sums(
            sa.null(),
            sa.literal(0),
            sa.func.coalesce(_tasks.c.reserved_units, 0),
            _tasks.c.charged_units,
        ).join_from(_tasks, _intents, _intents.c.intent_id == _tasks.c.intent_id)
        queries = (of_intents.where(*where), of_surplus.where(*where, _tasks.c.is_surplus))
        groups = [group for q in queries for group in rows_of(self._engine, q, _group)]
        return sum(map(receipt_of, groups), NO_MONEY)


def _sums(state: Any, quoted: Any, held: Any, charged: Any) -> sa.Select[Any]:
    is_known = charged.is_not(None)
    refund = sa.case((sa.and_(is_known, held > charged), held - charged), else_=0)
    amounts = {
        "n_unpriced": sa.case((quoted.is_(None), 1), else_=0),
        "n_charged": sa.case((charged > 0, 1), else_=0),
        "quoted": sa.func.coalesce(quoted, 0),
        "held": held,
        "charged": sa.func.coalesce(charged, 0),
        "refunded": refund,
    }
    columns = [sa.func.sum(amount).label(name) for name, amount in amounts.items()]
    head = (state.label("state"), is_known.label("is_known"), sa.func.count().label("n"))
    return sa.select(*head, *columns).group_by(sa.text("1"), sa.text("2"))


def _group(row: Any) -> MoneyGroup:
    names = ("n", "n_unpriced", "n_charged", "quoted", "held", "charged", "refunded")
    sums = {name: int(row[name] or 0) for name in names}
    state = IntentState(row["state"]) if row["state"] is not None else None
    return MoneyGroup(state, bool(row["is_known"]), **sums)
