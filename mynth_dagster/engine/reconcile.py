"""
The reconciler, which brings what the ledger knows of open intents up to what Mynth knows.

One pass applies waiting webhook events, looks for lost responses, polls pending tasks and reads the
finished ones; all its requests are free. A run that waits makes one pass after the other, as the
poll schedule says, until its partitions are idle. The sensor makes one within its tick, over all
partitions of the batch, and leaves the reading to the run that it asks for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.auto_resubmit import Reason, reasons_to_resubmit
from mynth_dagster.engine.collect import read_finished, read_surplus
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.lost_responses import expire_interrupted, resolve_unresolved
from mynth_dagster.engine.poll import Poller, PollRound, PollSample, PollSchedule
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.webhook_health import note_unannounced, webhook_health
from mynth_dagster.engine.work import ImageWork, Work
from mynth_dagster.errors import PollFetchError
from mynth_dagster.ledger.queries import Moving, PartitionRow
from mynth_dagster.limits import POLL_FAILURES_MAX
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import Awaited

Place = tuple[str, str]
"""Window and fan-out key of a partition."""


# For a run: pass after pass, until its partitions are idle.


PAUSE_STEP_S = 1.0
"""How often a pause checks whether the run was cancelled or an event came."""


@dataclass(frozen=True)
class Progress:
    """How far the waiting is; tasks, not images."""

    n_pending: int
    n_finished: int
    n_stalled: int


@dataclass(frozen=True)
class ReconcileResult:
    """
    The result of one pass.

    Args:
        n_unread: Finished tasks that could not be read now.
        n_events_left: Events that could not be processed yet.
        is_partial: Not every pending task that is due was polled.
        has_failed: Requests were made, and all of them failed.
        oldest_task_id: Of the tasks that were not read before; empty if there are none.
    """

    progress: Progress
    n_unread: int
    n_events_left: int
    is_partial: bool
    has_failed: bool
    oldest_task_id: str


async def wait_until_idle(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    *,
    stop: CancelToken,
    on_round: Callable[[Progress], None] = lambda _: None,
    reconciler: Reconciler | None = None,
) -> Progress:
    """
    Wait until no task is pending before its deadline, reading tasks as they finish.

    Ends early when `stop` is cancelled, or when nothing is left but finished tasks that cannot
    be read; a run that may not send any more still waits for the tasks that it sent.

    Args:
        reconciler: The one that made passes while these tasks were sent.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; no request was made.
        PollFetchError: Too many passes in a row in which every request failed.
    """
    reconciler = reconciler or Reconciler(session, work, slices)
    schedule = reconciler.schedule
    if not schedule.is_probing:
        await _pause(session, schedule.next_at_s, stop, n_left=0)
    n_failed = n_unread = 0
    while True:
        result = await reconciler.run()
        on_round(result.progress)
        is_idle = result.progress.n_pending == 0
        n_unread = n_unread + 1 if is_idle else 0
        if stop.is_cancelled or n_unread > POLL_FAILURES_MAX:
            return result.progress
        if is_idle and result.is_partial:
            schedule.poll_all()  # what is past its deadline may be finished all the same
            continue
        if is_idle and result.n_unread == 0:
            return result.progress
        n_failed = n_failed + 1 if result.has_failed else 0
        if n_failed > POLL_FAILURES_MAX:
            raise PollFetchError(result.oldest_task_id, f"{n_failed} rounds of polling failed")
        await _pause(session, schedule.next_at_s, stop, result.n_events_left)


async def _pause(session: Session, until_s: float, stop: CancelToken, n_left: int) -> None:
    """Sleep until the time or an event comes, in steps short enough to be cancelled."""
    while not stop.is_cancelled and (left_s := until_s - session.clock.elapsed_s()) > 0:
        await session.clock.sleep(min(left_s, PAUSE_STEP_S))
        if await asyncio.to_thread(session.ledger.events.n_fresh) > n_left:
            return


class Reconciler:
    """
    Makes passes over the open intents of some partitions, as the schedule says.

    Two passes at a time would poll the same tasks: let one end before the next begins.
    `n_reading` is how many finished tasks the one under way is reading.
    """

    def __init__(self, session: Session, work: Work, slices: Sequence[Slice]) -> None:
        settings, profile = session.settings, session.client.profile
        self._session = session
        self._work = work
        self._slices = slices
        self._counted_until_us = 0
        self.n_reading = 0
        self.schedule = PollSchedule(
            settings.poll_interval_min_s,
            settings.poll_interval_max_s,
            profile.LIMITS.list_page_max if profile.HAS_TASK_LIST else 1,
        )

    async def run(self) -> ReconcileResult:
        """
        Make one pass; it polls as many tasks as the schedule has now.

        Raises:
            UnauthorizedError: The key is refused.
            AccountMismatchError: The key is another account's; no request was made.
        """
        session, work, schedule = self._session, self._work, self.schedule
        await session.account.number()
        await process_events(session, work)
        n_events_left = await asyncio.to_thread(session.ledger.events.n_fresh)
        await resolve_unresolved(session, work, self._slices)
        tasks = await _awaited(session, work.ledger_name, self._slices)
        health = await webhook_health(session, work)
        now_us, at_s = session.clock.now_us(), session.clock.elapsed_s()
        due = [t for t in tasks if not t.is_finished_remotely and health.is_due(t, now_us)]
        chosen = self._worth_polling(due)
        exposure_s = self._exposure_s(chosen, at_s)
        polled = await Poller(session).run(tasks, chosen)
        n_finished = len(polled.finished)
        await note_unannounced(session, work, health, n_finished)
        schedule.note(PollSample(at_s, len(chosen), n_finished, len(due) - n_finished, exposure_s))
        if health.are_on(now_us):
            schedule.slow_down(at_s)
        if chosen and schedule.counted_from_s == at_s:
            self._counted_until_us = max(self._counted_until_us, chosen[-1].since_us)
        reach(CrashPoint.POLLED)
        known = [task for task in tasks if task.is_finished_remotely]
        return ReconcileResult(
            progress=_progress(session, tasks, polled),
            n_unread=await self._read([*known, *polled.finished]),
            n_events_left=n_events_left,
            is_partial=len(chosen) < len(due),
            has_failed=bool(polled.n_failed and not polled.n_answered),
            oldest_task_id=tasks[0].task_id if tasks else "",
        )

    async def _read(self, finished: Sequence[Awaited]) -> int:
        self.n_reading = len(finished)
        try:
            return await read_finished(self._session, finished)
        finally:
            self.n_reading = 0

    def _worth_polling(self, due: Sequence[Awaited]) -> Sequence[Awaited]:
        """Return the tasks to poll, oldest first; if all are young, the oldest all the same."""
        oldest = due[: self.schedule.n_tasks]
        until_us = self._session.clock.now_us() - self.schedule.min_age_s * US_PER_S
        return [task for task in oldest if task.since_us <= until_us] or oldest

    def _exposure_s(self, tasks: Sequence[Awaited], now_s: float) -> float:
        """Return the time in which these tasks could have finished since their last poll."""
        now_us, counted_s = self._session.clock.now_us(), self.schedule.counted_from_s
        since_poll_s = now_s - counted_s if counted_s is not None else float("inf")

        def exposure_s(task: Awaited) -> float:
            age_s = max(0.0, (now_us - task.since_us) / US_PER_S)
            return min(age_s, since_poll_s) if task.since_us <= self._counted_until_us else age_s

        return sum(map(exposure_s, tasks)) / max(1, len(tasks))


def _progress(session: Session, tasks: Sequence[Awaited], polled: PollRound) -> Progress:
    now_us = session.clock.now_us()
    finished = {task.intent_id for task in polled.finished}
    left = [t for t in tasks if not t.is_finished_remotely and t.intent_id not in finished]
    n_stalled = sum(task.is_stalled(now_us) for task in left)
    return Progress(len(left) - n_stalled, len(polled.finished), n_stalled)


async def _awaited(session: Session, ledger_name: str, slices: Sequence[Slice]) -> list[Awaited]:
    reachable = await session.account.reach()
    read = session.ledger.read.awaited
    return await asyncio.to_thread(read, ledger_name, slices, reachable.polled)


# For the sensor: one pass over all partitions of a batch, within a tick's time.
#
# Pending tasks are polled a bounded number at a time. If the time is too short for all, the next
# pass begins with the others: the ledger remembers where a pass ended.


STAGE_TASKS = 5_000
"""Tasks of so many partitions are polled together: their pages in the list adjoin."""

STAGES_AT_ONCE = 4


@dataclass(frozen=True)
class PartitionStatus:
    """
    One partition as of now.

    Args:
        n_pending: Tasks that are running at Mynth, before their deadline.
        n_sending: Deliveries in flight.
        is_behind: The ledger knows more than the tables show, or files of its images are to be
            kept and were not downloaded yet.
        submitter: The run that is sending into it, if any.
        auto_resubmit: Why rows of it may be sent again automatically; None if they may not.
        collector: The run that wrote its tables, until it is known that it reported them.
    """

    slice: Slice
    version: int
    n_pending: int
    n_sending: int
    n_finished: int
    n_stalled: int
    is_behind: bool
    submitter: str | None
    auto_resubmit: Reason | None = None
    collector: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether something of it is moving, or not shown yet."""
        return self.is_behind or not self.is_idle

    @property
    def is_idle(self) -> bool:
        """Whether nothing current is moving; the caller judges whether a run still sends."""
        return self.n_pending == 0 and self.n_sending == 0


async def partition_status(
    session: Session, batch: Batch, *, budget_s: float
) -> tuple[list[PartitionStatus], bool]:
    """
    Make one pass over the whole batch and return the state of every partition that needs something.

    Returns the partitions that are open, have rows to be sent again, or whose tables may not have
    been reported, and whether the budget was enough to poll all of them; if it was not, the next
    pass goes on behind the last partition that was polled.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; no request was made.
    """
    until_s = session.clock.elapsed_s() + budget_s
    await session.account.number()
    work = ImageWork(batch)
    read, name = session.ledger.read, work.ledger_name
    moving = await _moving(session, name)
    sending = sorted({window for (window, _), counts in moving.items() if counts.n_sending})
    await expire_interrupted(session, name, sending)
    await process_events(session, work, until_s=until_s)
    await resolve_unresolved(session, work, None, until_s=until_s - budget_s / 2)
    is_complete = await _poll_in_stages(session, work, await _moving(session, name), until_s)
    await read_surplus(session, name, None, until_s=until_s)
    rows = await asyncio.to_thread(read.partitions, name)
    resting = await asyncio.to_thread(read.resting, name)
    stops = await asyncio.to_thread(session.ledger.stops.active)
    reasons = reasons_to_resubmit(rows, resting, stops)
    moving = await _moving(session, name)
    statuses = []
    for row in rows:
        place = row.window, row.fan_out
        counts = moving.get(place, Moving())
        status = PartitionStatus(
            slice=batch.slice(row.window, row.fan_out),
            version=row.version,
            n_pending=counts.n_pending,
            n_sending=counts.n_sending,
            n_finished=counts.n_finished,
            n_stalled=counts.n_stalled,
            is_behind=_is_behind(batch, row, counts),
            submitter=row.submitter,
            auto_resubmit=reasons.get(place),
            collector=row.collected_by,
        )
        if status.is_open or status.auto_resubmit or status.collector:
            statuses.append(status)
    return statuses, is_complete


async def _moving(session: Session, name: str) -> dict[Place, Moving]:
    reachable, now_us = await session.account.reach(), session.clock.now_us()
    return await asyncio.to_thread(session.ledger.read.moving, name, now_us, reachable.polled)


def _is_behind(batch: Batch, row: PartitionRow, counts: Moving) -> bool:
    shown = row.collected if batch.delivery.files is None else min(row.collected, row.downloaded)
    return shown < row.version or counts.n_finished > 0


async def _poll_in_stages(
    session: Session, work: Work, moving: Mapping[Place, Moving], until_s: float
) -> bool:
    """Poll every task that is due, or as many as the time allows; return whether it was all."""
    key = f"sensor:left_at:{work.ledger_name}"
    left_at = await asyncio.to_thread(session.ledger.read.meta, key)
    stages = in_stages(moving, tuple(json.loads(left_at)) if left_at else None)
    health = await webhook_health(session, work)
    n_finished, is_complete = 0, True
    last: Place | None = None

    async def poll() -> None:
        nonlocal n_finished, is_complete, last
        for places in stages:
            if session.clock.elapsed_s() >= until_s:
                is_complete = False
                return
            slices = [work.batch.slice(window, fan_out) for window, fan_out in places]
            tasks = await _awaited(session, work.ledger_name, slices)
            now_us = session.clock.now_us()
            due = [task for task in tasks if health.is_due(task, now_us)]
            polled = await Poller(session, until_s).run(tasks, due)
            n_finished += len(polled.finished)
            is_complete &= polled.is_complete
            if polled.is_complete or polled.n_answered + polled.n_failed:
                last = places[-1]

    ended = await asyncio.gather(*(poll() for _ in range(STAGES_AT_ONCE)), return_exceptions=True)
    await note_unannounced(session, work, health, n_finished)
    for error in ended:
        if isinstance(error, BaseException):
            raise error
    ends_at = json.dumps(last) if last and not is_complete else ""
    if ends_at != (left_at or ""):
        await session.ledger.set_meta(key, ends_at)
    return is_complete


def in_stages(
    moving: Mapping[Place, Moving], after: tuple[str, ...] | None
) -> Iterator[list[Place]]:
    """Yield partitions with pending tasks in stages, from the one behind `after` round to it."""
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
