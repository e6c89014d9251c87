"""
Polling all open partitions within a tick's time, a bounded number of tasks at a time.

What the time is too short for comes first next time: the ledger remembers where a tour ended.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from mynth_dagster.engine.announced import Hearing, hearing_of, is_due_by, note_unannounced
from mynth_dagster.engine.poll import Poller
from mynth_dagster.engine.session import Session
from mynth_dagster.ledger.queries import Moving
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Awaited

STAGE_TASKS = 5_000
"""Tasks of so many partitions are looked up together: their pages in the list adjoin."""

STAGES_AT_ONCE = 4

Place = tuple[str, str]


class Tour:
    """
    One round over the partitions of a batch that have pending tasks.

    Args:
        until_s: On `Clock.elapsed_s`; no request starts later.
    """

    def __init__(self, session: Session, batch: Batch, until_s: float) -> None:
        self._session = session
        self._batch = batch
        self._until_s = until_s
        self._last: Place | None = None
        self._n_finished = 0
        self._is_complete = True

    async def go(self, moving: Mapping[Place, Moving]) -> bool:
        """
        Ask about every task that is due, or as many as there is time for; whether it was all.

        Raises:
            UnauthorizedError: The key is refused.
        """
        left_at = await asyncio.to_thread(self._session.ledger.read.meta, self._key)
        after = tuple(json.loads(left_at)) if left_at else None
        stages = in_stages(moving, after)
        hearing = await hearing_of(self._session, self._batch)
        walkers = [self._walk(stages, hearing) for _ in range(STAGES_AT_ONCE)]
        ended = await asyncio.gather(*walkers, return_exceptions=True)
        await note_unannounced(self._session, self._batch, hearing, self._n_finished)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        ends_at = json.dumps(self._last) if self._last and not self._is_complete else ""
        if ends_at != (left_at or ""):
            await self._session.ledger.set_meta(self._key, ends_at)
        return self._is_complete

    async def _walk(self, stages: Iterator[list[Place]], hearing: Hearing) -> None:
        for places in stages:
            if self._session.clock.elapsed_s() >= self._until_s:
                self._is_complete = False
                return
            reach = await self._session.account.reach()
            tasks = await asyncio.to_thread(self._awaited, places, reach.asked)
            is_due = is_due_by(hearing, self._batch, self._session.clock.now_us())
            found = await Poller(self._session, self._until_s).run(tasks, is_due)
            self._n_finished += len(found.finished)
            self._is_complete &= found.is_complete
            if found.is_complete or found.n_answered + found.n_failed:
                self._last = places[-1]

    def _awaited(self, places: Sequence[Place], accounts: Collection[int]) -> list[Awaited]:
        slices = [self._batch.slice(window, fan_out) for window, fan_out in places]
        read = self._session.ledger.read
        return read.awaited(self._batch.ledger_name, slices, accounts)

    @property
    def _key(self) -> str:
        return f"watch:left_at:{self._batch.ledger_name}"


def in_stages(
    moving: Mapping[Place, Moving], after: tuple[str, ...] | None
) -> Iterator[list[Place]]:
    """Partitions with pending tasks, from the one behind `after` round to it, in stages."""
    places = sorted(at for at, counts in moving.items() if counts.n_pending + counts.n_stalled)
    start = next((n for n, place in enumerate(places) if after and place > after), 0)
    stage: list[Place] = []
    n_tasks = 0
    for place in [*places[start:], *places[:start]]:
        stage.append(place)
        n_tasks += moving[place].n_pending + moving[place].n_stalled
        if n_tasks >= STAGE_TASKS:
            yield stage
            stage, n_tasks = [], 0
    if stage:
        yield stage
