"""What came of intents: tasks as read, further tasks, files. Synchronous, like `LedgerReader`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.downloads import downloads_of
from mynth_dagster.ledger.queries import chunks, in_slices, rows_of
from mynth_dagster.ledger.records import intent_from_row, task_from_json
from mynth_dagster.models.download import Download
from mynth_dagster.models.intent import Intent, SurplusTask
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import Task

_intents = schema.intents


class OutcomeReader:
    """Queries about what intents led to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tasks_for(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """The finished tasks among these, as read."""
        found: dict[str, Task] = {}
        for ids in chunks(task_ids):
            query = sa.select(schema.tasks.c.details).where(
                schema.tasks.c.task_id.in_(ids), schema.tasks.c.details.is_not(None)
            )
            tasks = rows_of(self._engine, query, lambda row: task_from_json(row["details"]))
            found |= {task.task_id: task for task in tasks}
        return found

    def surplus_for(self, intent_ids: Sequence[str]) -> dict[str, list[SurplusTask]]:
        """Further tasks of these intents, by intent id."""
        found: dict[str, list[SurplusTask]] = {}
        for ids in chunks(intent_ids):
            query = (
                sa.select(schema.tasks)
                .where(schema.tasks.c.intent_id.in_(ids), schema.tasks.c.is_surplus)
                .order_by(schema.tasks.c.task_id)
            )
            for surplus in rows_of(self._engine, query, _surplus):
                found.setdefault(surplus.intent_id, []).append(surplus)
        return found

    def downloads_for(self, intent_ids: Sequence[str]) -> dict[str, dict[int, Download]]:
        """What became of the files of these intents' images, by intent id and image index."""
        return downloads_of(self._engine, intent_ids)

    def unread_surplus(self, batch: str, slices: Iterable[Slice]) -> list[tuple[Intent, str]]:
        """Further tasks of these partitions' intents that were not read yet."""
        tasks = schema.tasks
        query = (
            sa.select(_intents, tasks.c.task_id.label("surplus_id"))
            .join(tasks, tasks.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.batch == batch, in_slices(slices))
            .where(tasks.c.is_surplus, tasks.c.details.is_(None))
            .order_by(tasks.c.task_id)
        )
        return list(
            rows_of(self._engine, query, lambda row: (intent_from_row(row), str(row["surplus_id"])))
        )


def _surplus(row: Any) -> SurplusTask:
    details = row["details"]
    return SurplusTask(
        task_id=row["task_id"],
        intent_id=row["intent_id"],
        task=task_from_json(details) if details else None,
    )


def _of_surplus(row: Any) -> tuple[Intent, str]:
    return intent_from_row(row), str(row["surplus_id"])
