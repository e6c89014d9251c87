"""What the ledger knows of rows in doubt. Synchronous, like `LedgerReader`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.queries import in_slices, rows_of
from mynth_dagster.ledger.records import intent_from_row
from mynth_dagster.models.doubt import Doubt, Walk
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import HELD, IntentState

_intents = schema.intents
# No parameter: SQLite recognises the partial index by the word itself.
_DISPUTED = sa.literal_column(f"'{schema.DISPUTED}'", sa.Text)


@dataclass(frozen=True)
class Evidence:
    """How one delivery ended without a task."""

    attempt: int
    outcome: str
    http_status: int | None
    detail: str | None
    ended_at_us: int


class DoubtReader:
    """Queries about intents whose outcome is not known."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def held(self, batch: str | None = None) -> list[Intent]:
        """All intents that only evidence or a person can settle, oldest first."""
        query = sa.select(_intents).where(
            _intents.c.state.in_([state.value for state in HELD]),
            *([] if batch is None else [_intents.c.batch == batch]),
        )
        ordered = query.order_by(_intents.c.claimed_at_us, _intents.c.intent_id)
        return list(rows_of(self._engine, ordered, intent_from_row))

    def doubts(
        self, batch: str, slices: Iterable[Slice] | None, states: Iterable[IntentState]
    ) -> list[Doubt]:
        """Deliveries of these partitions, or of all, whose task may have to be searched for."""
        sightings = schema.sightings
        disputed = sa.exists().where(
            sightings.c.intent_id == _intents.c.intent_id, sightings.c.source == _DISPUTED
        )
        query = sa.select(_intents, disputed.label("is_disputed")).where(
            _intents.c.batch == batch,
            in_slices(slices),
            _intents.c.state.in_([state.value for state in states]),
        )
        return list(rows_of(self._engine, query, _doubt))

    def walks(self, account: int) -> list[Walk]:
        """The newest walks over this account's list, oldest first."""
        table = schema.walks
        query = sa.select(table).where(table.c.account == account).order_by(table.c.walk)
        return list(rows_of(self._engine, query, _walk))

    def witness_no(self, task_ids: Iterable[str]) -> int:
        """The running number of the newest claim among these tasks of ours; 0 for none."""
        query = sa.select(sa.func.max(_intents.c.claimed_no).label("number")).where(
            _intents.c.task_id.in_(list(task_ids))
        )
        (number,) = rows_of(self._engine, query, lambda row: int(row["number"] or 0))
        return number

    def attempts_of(self, intent_id: str) -> list[Evidence]:
        """How the deliveries of one intent ended, oldest first."""
        table = schema.attempts
        columns = [table.c[name] for name in Evidence.__dataclass_fields__]
        query = sa.select(*columns).where(table.c.intent_id == intent_id)
        ordered = query.order_by(table.c.attempt)
        return list(rows_of(self._engine, ordered, lambda row: Evidence(**row)))


def _doubt(row: Any) -> Doubt:
    since = row["doubted_since"]
    return Doubt(
        intent=intent_from_row(row),
        account=row["account"],
        claimed_server_us=row["claimed_server_us"],
        since=Instant.parse(since) if since else None,
        since_no=row["doubted_no"] or 0,
        is_disputed=bool(row["is_disputed"]),
    )


def _walk(row: Any) -> Walk:
    return Walk(
        account=row["account"],
        page_size=row["page_size"],
        began=Instant.parse(row["began"]),
        ended=Instant.parse(row["ended"]),
        reached_us=row["reached_us"],
        witness_no=row["witness_no"],
    )
