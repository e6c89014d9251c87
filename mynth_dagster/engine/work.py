"""What a run sends and waits for: the prompts of a batch, or the follow-ups of its images."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import TableError
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import Delivery
from mynth_dagster.models.intent import Intent, UnresolvedIntent
from mynth_dagster.models.money import Budget
from mynth_dagster.models.request import PaidRequest, RowRequest
from mynth_dagster.tables.manifest import iter_intents
from mynth_dagster.tables.requests import (
    FROM_TABLE_KEY,
    PlannedBatch,
    iter_planned_batches,
    settings_of,
)
from mynth_dagster.tables.store import PROMPTS, TASKS, TableStore


@dataclass
class Work(ABC):
    """
    Rows that are paid for: what submission, waiting and recovery need to know of them.

    Args:
        batch: The batch whose tables hold them, with its prices and deadlines.
        ledger_name: Their name in the ledger, where they have money and states of their own.
        result_table: The table that remembers their intents.
        settings: A hash of what makes other requests of rows that stay as they are.
        delivery: How its results come.
        budget: Caps on their money; rows beyond them are not sent.
        retries: How often a row whose task failed is asked for again by itself.
        is_known_by_mark: Whether a ledger that the tables' mark calls right has them, too.
    """

    batch: Batch
    ledger_name: str
    result_table: str
    settings: str
    delivery: Delivery
    budget: Budget
    retries: int
    is_known_by_mark: bool

    @abstractmethod
    def iter_rows(self, store: TableStore, slice_: Slice) -> Iterator[PlannedBatch]:
        """
        The good rows of a partition in order, a bounded number at a time.

        Raises:
            TableError: The table that has them is missing, or was written under other settings.
        """

    def multiplied_by(self, store: TableStore, slice_: Slice) -> frozenset[str]:
        """Which of `count` and `model` the rows have from the user's table, by default none."""
        return frozenset()

    @abstractmethod
    async def before_claim(self, session: Session, intent_id: str, request: PaidRequest) -> None:
        """Keep what the task is found by if its response is lost and it carries no tag."""

    @abstractmethod
    def contents_of(
        self, session: Session, unresolved: Sequence[UnresolvedIntent]
    ) -> dict[tuple[str, str], str]:
        """By key and hash, the prompt or the URL that tasks of these rows would show."""

    @abstractmethod
    async def restore(self, session: Session, slice_: Slice) -> list[Intent]:
        """The intents that the result table tells of; call it for a ledger that was lost."""


class ImageWork(Work):
    """The prompts of a batch: each row becomes images."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(
            batch,
            ledger_name=batch.ledger_name,
            result_table=TASKS,
            settings=settings_of(batch),
            delivery=batch.delivery,
            budget=batch.spending.budget,
            retries=batch.spending.retries,
            is_known_by_mark=True,
        )

    def iter_rows(self, store: TableStore, slice_: Slice) -> Iterator[PlannedBatch]:
        return iter_planned_batches(store, slice_, batch=self.batch)

    def multiplied_by(self, store: TableStore, slice_: Slice) -> frozenset[str]:
        return frozenset(store.read_metadata(PROMPTS, slice_).get(FROM_TABLE_KEY, "").split())

    async def before_claim(self, session: Session, intent_id: str, request: PaidRequest) -> None:
        """Nothing: requests for images carry a tag."""

    def contents_of(
        self, session: Session, unresolved: Sequence[UnresolvedIntent]
    ) -> dict[tuple[str, str], str]:
        """The prompts, as far as the prompt tables still have them."""
        store = TableStore(session.settings.root, self.batch.name)
        intents = [one.intent for one in unresolved]
        wanted = {(intent.row.request_key, intent.request_hash) for intent in intents}
        prompts: dict[tuple[str, str], str] = {}
        for window, fan_out in sorted({(i.row.window, i.fan_out) for i in intents}):
            with suppress(TableError):
                for planned in self.iter_rows(store, self.batch.slice(window, fan_out)):
                    keys = zip(planned.request_keys, planned.request_hashes, strict=True)
                    for row in planned.rows([n for n, key in enumerate(keys) if key in wanted]):
                        assert isinstance(row.request, RowRequest)
                        prompts[row.request_key, row.request_hash] = row.request.prompt
        return prompts

    async def restore(self, session: Session, slice_: Slice) -> list[Intent]:
        store = TableStore(session.settings.root, self.batch.name)
        if not await asyncio.to_thread(store.exists, TASKS, slice_):
            return []
        return await asyncio.to_thread(list, iter_intents(store, slice_, self.ledger_name))
