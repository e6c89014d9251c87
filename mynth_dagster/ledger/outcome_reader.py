"""What came of intents: tasks as read, further tasks, files. Synchronous, like `LedgerReader`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.downloads import downloads_of
from mynth_dagster.ledger.queries import in_slices, looked_up, of_accounts, rows_of
from mynth_dagster.ledger.records import intent_from_row, task_from_json
from mynth_dagster.ledger.statements import Lookup, Names
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import Intent, SurplusTask
from mynth_dagster.models.task import Task

_intents, _tasks = schema.intents, schema.tasks


class OutcomeReader:
    """Queries about what intents led to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tasks_for(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """The finished tasks among these, as read."""
        rows = looked_up(self._engine, _READ, task_ids)
        return {row["task_id"]: task_from_json(row["details"]) for row in rows}

    def surplus_for(self, intent_ids: Sequence[str]) -> dict[str, list[SurplusTask]]:
        """Further tasks of these intents, by intent id."""
        found: dict[str, list[SurplusTask]] = {}
        for row in looked_up(self._engine, _SURPLUS, intent_ids):
            found.setdefault(row["intent_id"], []).append(_surplus(row))
        return found

    def downloads_for(self, intent_ids: Sequence[str]) -> dict[str, dict[int, Download]]:
        """What became of the files of these intents' images, by intent id and image index."""
        return downloads_of(self._engine, intent_ids)

    def unread_surplus(
        self, batch: str, slices: Iterable[Slice] | None, accounts: Collection[int] | None
    ) -> list[tuple[Intent, str]]:
        """Further tasks of these accounts, in these partitions or all, that were not read yet."""
        query = (
            sa.select(_intents, _tasks.c.task_id.label("surplus_id"))
            .join(_tasks, _tasks.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.batch == batch, in_slices(slices), of_accounts(accounts))
            .where(_tasks.c.is_surplus, _tasks.c.details.is_(None))
            .order_by(_tasks.c.task_id)
        )
        return list(rows_of(self._engine, query, _of_surplus))


def _read(names: Names) -> sa.Select[Any]:
    columns = _tasks.c.task_id, _tasks.c.details
    return sa.select(*columns).where(names.among(_tasks.c.task_id), _tasks.c.details.is_not(None))


def _surplus_of(names: Names) -> sa.Select[Any]:
    of_these = names.among(_tasks.c.intent_id), _tasks.c.is_surplus
    return sa.select(_tasks).where(*of_these).order_by(_tasks.c.task_id)


_READ, _SURPLUS = Lookup(_read), Lookup(_surplus_of)


def _surplus(row: Any) -> SurplusTask:
    details = row["details"]
    return SurplusTask(
        task_id=row["task_id"],
        intent_id=row["intent_id"],
        task=task_from_json(details) if details else None,
    )


def _of_surplus(row: Any) -> tuple[Intent, str]:
    return intent_from_row(row), str(row["surplus_id"])
