"""
One look at the tasks of a run that waits: what webhooks told, what polling finds, what can be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.announced import hearing_of, is_due_by, note_unannounced
from mynth_dagster.engine.collect import read_finished
from mynth_dagster.engine.inbox import work_inbox
from mynth_dagster.engine.pace import Look, Pace
from mynth_dagster.engine.poll import IsDue, Poller, PollRound
from mynth_dagster.engine.session import Session
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import Awaited


@dataclass(frozen=True)
class Waiting:
    """How far the waiting is; tasks, not images."""

    n_pending: int
    n_finished: int
    n_stalled: int


@dataclass(frozen=True)
class Looked:
    """
    What came of one look.

    Args:
        n_unread: Finished tasks that could not be read now.
        n_events_left: Events in the inbox that could not be worked yet.
        is_partial: Not every pending task that is due was asked about.
        has_failed: Something was asked, and nothing was answered.
        oldest_task_id: Of the tasks that were not read before; empty if there are none.
    """

    waiting: Waiting
    n_unread: int
    n_events_left: int
    is_partial: bool
    has_failed: bool
    oldest_task_id: str


class Looker:
    """
    Looks at the tasks of some partitions in the rhythm that they finish in.

    Two looks at a time would ask for the same tasks: let one end before the next begins.
    `n_reading` is how many finished tasks the one under way is reading.
    """

    def __init__(self, session: Session, batch: Batch, slices: Sequence[Slice]) -> None:
        settings, profile = session.settings, session.client.profile
        self._session = session
        self._batch = batch
        self._slices = slices
        self._counted_until_us = 0
        self.n_reading = 0
        self.pace = Pace(
            settings.poll_interval_min_s,
            settings.poll_interval_max_s,
            profile.LIMITS.list_page_max if profile.HAS_TASK_LIST else 1,
        )

    async def look(self) -> Looked:
        """
        Work the inbox, poll as many tasks as are worth it now, and read those that are finished.

        Raises:
            UnauthorizedError: The key is refused.
            AccountMismatchError: The key is another account's; nothing was asked.
        """
        session, batch = self._session, self._batch
        await session.account.number()
        await work_inbox(session, batch)
        n_events_left = await asyncio.to_thread(session.ledger.inbox.n_fresh)
        tasks = await self._awaited()
        hearing = await hearing_of(session, batch)
        due = _due(tasks, is_due_by(hearing, batch, session.clock.now_us()))
        chosen = self._worth_a_look(due)
        at_s = session.clock.elapsed_s()
        exposure_s = self._exposure_s(chosen, at_s)
        found = await Poller(session).run(tasks, _is_one_of(chosen))
        n_finished = len(found.finished)
        self.pace.note(Look(at_s, len(chosen), n_finished, len(due) - n_finished, exposure_s))
        if chosen and self.pace.counted_from_s == at_s:
            self._counted_until_us = max(self._counted_until_us, chosen[-1].since_us)
        await note_unannounced(session, batch, hearing, n_finished)
        reach(CrashPoint.POLLED)
        known = [task for task in tasks if task.is_finished_remotely]
        return Looked(
            waiting=_count(session, tasks, found),
            n_unread=await self._read([*known, *found.finished]),
            n_events_left=n_events_left,
            is_partial=len(chosen) < len(due),
            has_failed=bool(found.n_failed and not found.n_answered),
            oldest_task_id=tasks[0].task_id if tasks else "",
        )

    async def _read(self, finished: Sequence[Awaited]) -> int:
        self.n_reading = len(finished)
        try:
            return await read_finished(self._session, finished)
        finally:
            self.n_reading = 0

    async def _awaited(self) -> list[Awaited]:
        read, name = self._session.ledger.read, self._batch.ledger_name
        reach = await self._session.account.reach()
        return await asyncio.to_thread(read.awaited, name, self._slices, reach.asked)

    def _worth_a_look(self, due: Sequence[Awaited]) -> Sequence[Awaited]:
        """Oldest first; where all are young, they are better than nothing."""
        oldest = due[: self.pace.n_tasks]
        until_us = self._session.clock.now_us() - self.pace.min_age_s * US_PER_S
        return [task for task in oldest if task.since_us <= until_us] or oldest

    def _exposure_s(self, tasks: Sequence[Awaited], now_s: float) -> float:
        """How long these tasks could have finished since anybody looked, on average."""
        now_us, counted_s = self._session.clock.now_us(), self.pace.counted_from_s
        since_look_s = now_s - counted_s if counted_s is not None else float("inf")

        def exposure_s(task: Awaited) -> float:
            age_s = max(0.0, (now_us - task.since_us) / US_PER_S)
            return min(age_s, since_look_s) if task.since_us <= self._counted_until_us else age_s

        return sum(map(exposure_s, tasks)) / max(1, len(tasks))


def _due(tasks: Sequence[Awaited], is_due: IsDue) -> list[Awaited]:
    return [task for task in tasks if not task.is_finished_remotely and is_due(task)]


def _is_one_of(tasks: Sequence[Awaited]) -> IsDue:
    chosen = {task.intent_id for task in tasks}
    return lambda task: task.intent_id in chosen


def _count(session: Session, tasks: Sequence[Awaited], found: PollRound) -> Waiting:
    now_us = session.clock.now_us()
    finished = {task.intent_id for task in found.finished}
    left = [t for t in tasks if not t.is_finished_remotely and t.intent_id not in finished]
    n_stalled = sum(task.is_stalled(now_us) for task in left)
    return Waiting(len(left) - n_stalled, len(found.finished), n_stalled)
