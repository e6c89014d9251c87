"""What the ledger knows of rows in doubt. Synchronous, like `LedgerReader`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.clock import Instant
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.queries import in_slices, rows_of
from mynth_dagster.ledger.records import intent_from_row
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Doubt, Intent, KnownTask, Walk
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

    def known_tasks(self, task_ids: Sequence[str]) -> dict[str, KnownTask]:
        """Those of these tasks that are the first one of an intent of ours."""
        query = sa.select(_intents).where(_intents.c.task_id.in_(list(task_ids)))
        return dict(rows_of(self._engine, query, lambda row: (row["task_id"], _known(row))))

    def tasks_until(self, account: int, newest_no: int) -> list[str]:
        """The account's tasks whose ids were known when this number was given."""
        query = sa.select(_intents.c.task_id).where(
            _intents.c.account == account,
            _intents.c.task_id.is_not(None),
            _intents.c.accepted_no <= newest_no,
        )
        return list(rows_of(self._engine, query, lambda row: str(row["task_id"])))

    def tasks_between(self, account: int, oldest_no: int, newest_no: int) -> list[str]:
        """
        The account's tasks that were claimed after the one number and known before the other.

        Of several attempts, the task may be that of an earlier one: these are left out.
        """
        query = sa.select(_intents.c.task_id).where(
            _intents.c.account == account,
            _intents.c.task_id.is_not(None),
            _intents.c.attempt == 1,
            _intents.c.claimed_no > oldest_no,
            _intents.c.accepted_no < newest_no,
        )
        return list(rows_of(self._engine, query, lambda row: str(row["task_id"])))

    def sources_of(self, intent_id: str, task_id: str) -> list[str]:
        """Where it was heard that the task belongs to the intent."""
        table = schema.sightings
        query = sa.select(table.c.source).filter_by(intent_id=intent_id, task_id=task_id)
        return list(rows_of(self._engine, query, lambda row: str(row["source"])))

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
        claimed_no=row["claimed_no"] or 0,
        since=Instant.parse(since) if since else None,
        since_no=row["doubted_no"] or 0,
        is_disputed=bool(row["is_disputed"]),
    )


def _known(row: Any) -> KnownTask:
    """Of several attempts, the task may be that of an earlier one: its claim is not known then."""
    is_of_claim = row["attempt"] == 1 and row["claimed_no"] is not None
    return KnownTask(
        intent=intent_from_row(row),
        claimed_no=row["claimed_no"] if is_of_claim else 0,
        accepted_no=row["accepted_no"],
    )


def _walk(row: Any) -> Walk:
    return Walk(
        account=row["account"],
        page_size=row["page_size"],
        began=Instant.parse(row["began"]),
        ended=Instant.parse(row["ended"]),
        said=json.loads(row["said"]),
    )
