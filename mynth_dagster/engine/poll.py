"""
Polling: finding out with few requests which tasks are finished.

Where the revision has a task list, pending tasks are found a page of a hundred at a time, and only
pages that may hold a pending task are read (`PagePlan`); tasks that lie further apart cost one
status request each. While the list fails, no more statuses are read in its place than a page has
entries. Without a list every pending task costs one status request a round. `PollSchedule` decides
when the next round is worth its requests. Nothing here reads a task in full or writes tables; every
request is a GET.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mynth_dagster.chunks import chunks
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, NotFoundError, UnauthorizedError
from mynth_dagster.ledger.observations import Observation, Source
from mynth_dagster.models.intent import Awaited, Intent, tag_of
from mynth_dagster.models.request import task_type_of
from mynth_dagster.models.task import IMAGE_TASK, Task, TaskStatus
from mynth_dagster.printable import printable_logger

_log = printable_logger(__name__)

OVERTAKING_MAX = 128
"""Responses may overtake each other: by so many places our order may differ from Mynth's."""

POLLS_IN_FLIGHT = 16
NOTES_AT_ONCE = 256  # each is a few kilobytes as long as it waits for its COMMIT


@dataclass(frozen=True)
class PollRound:
    """
    The result of one round.

    `finished` carry their new `remote_status`; `n_answered` reads succeeded; `n_failed` reads
    failed and are tried again in the next round.
    """

    finished: tuple[Awaited, ...] = ()
    n_answered: int = 0
    n_failed: int = 0
    is_complete: bool = True


class Poller:
    """
    Polls one set of accepted tasks, round by round.

    Args:
        until_s: On `Clock.elapsed_s`; no request starts later, the round is then incomplete.
    """

    def __init__(self, session: Session, until_s: float | None = None) -> None:
        self._session = session
        self._until_s = until_s
        self._slots = asyncio.Semaphore(POLLS_IN_FLIGHT)
        self._n_answered = 0
        self._n_failed = 0
        self._found: list[Awaited] = []
        self._not_found: list[Awaited] = []
        self._is_complete = True

    async def run(self, tasks: Sequence[Awaited], due: Sequence[Awaited]) -> PollRound:
        """
        Poll every pending task that is due once.

        Args:
            tasks: All accepted tasks of the work at hand, oldest first, pending or finished: where
                they lie in the task list follows from their order.
            due: Those that are polled, if they are pending.

        Raises:
            UnauthorizedError: The key is refused; polling on is pointless.
        """
        if self._session.client.profile.HAS_TASK_LIST:
            finished = await self._read_pages(tasks, due)
        else:
            finished = await self._poll_each([t for t in due if not t.is_finished_remotely])
        for part in chunks(finished, NOTES_AT_ONCE):
            await asyncio.gather(*(self._note(awaited) for awaited in part))
        await note_missing(self._session, self._not_found, found=self._found)
        return PollRound(tuple(finished), self._n_answered, self._n_failed, self._is_complete)

    async def _read_pages(self, tasks: Sequence[Awaited], due: Sequence[Awaited]) -> list[Awaited]:
        size = self._session.client.profile.LIMITS.list_page_max
        plan = PagePlan(tasks, due, size)
        finished: list[Awaited] = []
        if plan.n_pages_at_best >= plan.n_unchecked:
            return await self._poll_each(plan.give_up())
        while plan.n_unchecked > 1 and self._may_start():
            try:
                page = await self._session.client.list_tasks(limit=size, after=plan.after)
            except UnauthorizedError:
                raise
            except ApiError:
                self._n_failed += 1
                return finished + await self._poll_each([*plan.missed, *plan.give_up()][:size])
            self._n_answered += 1
            statuses = {task.task_id: task.status for task in page}
            shown = plan.note([task.task_id for task in page])
            self._found += shown
            finished += [
                replace(awaited, remote_status=status)
                for awaited in shown
                if (status := statuses[awaited.task_id]) and status.is_final
            ]
        return finished + await self._poll_each([*plan.missed, *plan.give_up()])

    async def _poll_each(self, pending: Sequence[Awaited]) -> list[Awaited]:
        found = await asyncio.gather(*(self._poll_status(awaited) for awaited in pending))
        return [awaited for more in found for awaited in more]

    async def _poll_status(self, awaited: Awaited) -> list[Awaited]:
        async with self._slots:
            if not self._may_start():
                return []
            try:
                status = await self._session.client.get_status(awaited.task_id)
            except UnauthorizedError:
                raise
            except NotFoundError:
                self._n_answered += 1
                self._not_found.append(awaited)
                return []
            except ApiError:
                self._n_failed += 1
                return []
            self._n_answered += 1
            self._found.append(awaited)
        return [replace(awaited, remote_status=status)] if status.is_final else []

    async def _note(self, awaited: Awaited) -> None:
        session, status = self._session, awaited.remote_status
        now = session.clock.instant()
        await session.ledger.observe(
            Observation(Source.STATUS, awaited.task_id, now, awaited, status=status)
        )

    def _may_start(self) -> bool:
        if self._until_s is not None and self._session.clock.elapsed_s() >= self._until_s:
            self._is_complete = False
        return self._is_complete


# Which pages of the task list to read. Pure.


class PagePlan:
    """
    The choice of the next page of the task list; pure bookkeeping over one round.

    It goes from the newest pending task to the oldest. Adjoining pages are chained by the last
    entry of the page before. A stretch without a pending task is jumped over: the next page starts
    at one of our own tasks, always an older one than seen so far. A task that a page should have
    shown and did not is `missed`. Others' tasks may lie between ours, and the order of ours may
    differ from Mynth's by `OVERTAKING_MAX` places.

    Args:
        tasks: All accepted tasks of the work at hand, oldest first, pending or finished.
        due: Those of them that are searched for, if they are pending.
        page_size: Entries of one page.
    """

    def __init__(self, tasks: Sequence[Awaited], due: Sequence[Awaited], page_size: int) -> None:
        self._tasks = tasks
        self._page_size = page_size
        self._place = {task.task_id: place for place, task in enumerate(tasks)}
        self._unchecked = sorted(
            self._place[task.task_id] for task in due if not task.is_finished_remotely
        )
        self._oldest = len(tasks)
        self.missed: list[Awaited] = []
        self.after = self._next_after(None)

    @property
    def is_over(self) -> bool:
        return not self._unchecked

    @property
    def n_unchecked(self) -> int:
        return len(self._unchecked)

    @property
    def n_pages_at_best(self) -> int:
        """The number of pages that the plan takes if the list holds nothing but our tasks."""
        n_pages, oldest, n_left = 0, self._oldest, len(self._unchecked)
        while n_left:
            oldest = min(self._unchecked[n_left - 1] + OVERTAKING_MAX, oldest) - self._page_size
            n_left = bisect_left(self._unchecked, oldest, 0, n_left)
            n_pages += 1
        return n_pages

    def give_up(self) -> list[Awaited]:
        """End the plan and return the tasks that were not checked yet, newest first."""
        left = [self._tasks[place] for place in reversed(self._unchecked)]
        self._unchecked = []
        return left

    def note(self, listed: Sequence[str]) -> list[Awaited]:
        """Take in a page (task ids, newest first); return the searched tasks that are on it."""
        on_page = {self._place[task_id] for task_id in listed if task_id in self._place}
        self._oldest = min(self._oldest, *on_page, len(self._tasks))
        shown = self._take(on_page)
        if len(listed) < self._page_size:
            self._miss_from(0)
        elif on_page:
            self._miss_from(self._oldest + OVERTAKING_MAX)
        elif self._unchecked:
            # Others' tasks only: a stretch of ours is polled one by one, the rest further on.
            self._miss_from(self._unchecked[-1] - OVERTAKING_MAX + 1)
        self.after = self._next_after(listed[-1] if listed else None)
        return shown

    def _take(self, on_page: set[int]) -> list[Awaited]:
        """Strike out the tasks on a page; only the newest unchecked ones can be on it."""
        start = bisect_left(self._unchecked, self._oldest)
        newest = self._unchecked[start:]
        self._unchecked[start:] = [place for place in newest if place not in on_page]
        return [self._tasks[place] for place in newest if place in on_page]

    def _miss_from(self, place: int) -> None:
        """Note as missed the unchecked tasks as new as this: they should have been shown."""
        start = bisect_left(self._unchecked, max(place, 0))
        self.missed += [self._tasks[missed] for missed in reversed(self._unchecked[start:])]
        del self._unchecked[start:]

    def _next_after(self, last_listed: str | None) -> str | None:
        """Jump to one of our tasks that is surely newer than the next unchecked, or go on."""
        place = self._unchecked[-1] + OVERTAKING_MAX if self._unchecked else self._oldest
        if place >= self._oldest:
            return last_listed
        self._oldest = place
        return self._tasks[place].task_id


# When to poll again, and how many of the tasks. Pure.
#
# A page of a hundred tasks costs one request, so a round is worth its requests only if many of the
# tasks that it polls are finished. How long tasks take is not known beforehand, and is estimated
# from the rounds themselves:
#
# 1. Probing. As long as next to nothing is finished, a round polls only the oldest tasks, about one
#    request's worth, and the pauses grow with the time since the first task was sent.
#    Where even the longest pause finds none, the next probe polls more (`EMPTY_WIDENING`).
# 2. Once a probe finds enough finished (`PROBE_TRUSTED_SHARE`), they give the rate: if a share s of
#    the polled tasks finished within their exposure e (the time in which they could have finished
#    since they were last polled), the others need about e * (1 - s) / s more. The next round comes
#    after a part of that time (`FIRST_REST`, later `REST`), so that most tasks are finished then,
#    or after all of it if few are left (`LAST_SHARE`).
# 3. From then on a round polls all tasks that are old enough for some of their kind to be finished
#    (`min_age_s`). A round without a finished task makes the next pause longer (`EMPTY_GROWTH`).
#
# No pause is shorter than `min_s`, longer than `max_s`, or longer than the time since the first
# task was sent. Where `max_s` makes a round come too soon to find a worthwhile share
# (`SHARE_WORTH_A_ROUND`), it polls the oldest tasks alone.


PROBE_TASKS = 5
"""Where each task costs a request; else as many as one request tells of."""

PROBE_MIN_S = 1.0
PROBE_TRUSTED_SHARE = 0.1
"""So much of a probe has to be finished before anything is concluded from it."""

PROBE_GROWTH = 0.5
FIRST_REST = 0.6
"""Share of the time that is left, as long as tasks are known by their age alone: none is finished
in its first moments, and what is left looks longer than it is."""

REST = 0.75
"""Share of the time that is left, once all tasks were polled."""

LAST_SHARE = 0.15
"""Of all tasks; so few are polled when all of them should be finished."""

SHARE_WORTH_A_ROUND = 0.2
"""With a hundred tasks a request, twenty found: a twentieth of a request for each."""

YOUNG_SHARE = 0.2
"""Of the time that tasks take, by the first round that found some: few are finished as early."""

EMPTY_GROWTH = 1.5
EMPTY_WIDENING = 2


@dataclass(frozen=True)
class PollSample:
    """
    The figures of one round of polling.

    Args:
        at_s: When it was; any clock that only goes forward.
        n_tasks: Pending tasks that were polled.
        n_finished: Those of them that were found finished.
        n_pending: All tasks that are pending now.
        exposure_s: The time in which they could have finished since they were last polled, on
            average.
    """

    at_s: float
    n_tasks: int
    n_finished: int
    n_pending: int
    exposure_s: float


class PollSchedule:
    """
    The schedule of one wait: when to poll, and how many tasks.

    Args:
        min_s: Shortest time between two rounds.
        max_s: Longest time between two rounds.
        tasks_a_request: How many tasks one request shows.
    """

    def __init__(self, min_s: float, max_s: float, tasks_a_request: int) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._began_s: float | None = None
        self._wait_s = 0.0
        self._n_most = 0
        self.is_probing = True
        self.counted_from_s: float | None = None
        self.min_age_s = 0.0
        self._n_probed = max(PROBE_TASKS, tasks_a_request)
        self.n_tasks: int | None = self._n_probed
        self.next_at_s = 0.0

    def begin(self, now_s: float) -> None:
        """Note that the first task was sent."""
        if self._began_s is None:
            self._began_s = now_s
            self._wait(now_s, PROBE_MIN_S)

    def note(self, sample: PollSample) -> None:
        """
        Take in a sample.

        `next_at_s`, `n_tasks` (None: all) and `min_age_s` are those of the next one.
        """
        self.begin(sample.at_s)
        self._n_most = max(self._n_most, sample.n_pending + sample.n_finished)
        trusted = PROBE_TRUSTED_SHARE * sample.n_tasks if self.is_probing else 0
        if sample.n_finished > trusted:
            self._plan(sample)
        elif self.is_probing:
            self._wait(sample.at_s, max(PROBE_MIN_S, PROBE_GROWTH * self._age_s(sample)))
        else:
            self._wait(sample.at_s, EMPTY_GROWTH * self._wait_s)
        if sample.n_finished == 0 and self.n_tasks is not None and not self._is_too_soon:
            self.n_tasks *= EMPTY_WIDENING

    def slow_down(self, now_s: float) -> None:
        """Make the next round as late as allowed, since events will announce finished tasks."""
        self.next_at_s = now_s + self._max_s

    def poll_all(self) -> None:
        """Have the next round poll every task."""
        self.n_tasks, self.min_age_s = None, 0.0

    def _plan(self, sample: PollSample) -> None:
        share = sample.n_finished / sample.n_tasks
        left_s = sample.exposure_s * (1 - share) / share
        is_last = sample.n_pending <= LAST_SHARE * self._n_most
        is_known = self.counted_from_s is not None
        self._wait(sample.at_s, left_s * (1.0 if is_last else REST if is_known else FIRST_REST))
        if self.is_probing:
            self.min_age_s = min(YOUNG_SHARE * sample.exposure_s / share, self._max_s)
        else:
            self.counted_from_s = sample.at_s
        self.is_probing, self.n_tasks = False, None
        if self._max_s < SHARE_WORTH_A_ROUND * left_s:
            worth = self._max_s / (SHARE_WORTH_A_ROUND * left_s)
            self.n_tasks = max(self._n_probed, round(worth * sample.n_pending))

    def _wait(self, now_s: float, wanted_s: float) -> None:
        """Set the pause, never longer than the time so far: the estimate reaches no further."""
        assert self._began_s is not None
        known_s = max(PROBE_MIN_S, now_s - self._began_s)
        self._wait_s = min(max(min(wanted_s, known_s), self._min_s), self._max_s)
        self.next_at_s = now_s + self._wait_s

    @property
    def _is_too_soon(self) -> bool:
        """Whether a probe without a finished task came early: no reason to poll more of them."""
        return self.is_probing and self._wait_s < self._max_s

    def _age_s(self, sample: PollSample) -> float:
        assert self._began_s is not None
        return sample.at_s - self._began_s


# Tasks that Mynth does not know any more, although it accepted them.
#
# One 404 proves little: it may come from a cache, a router, or a wrong server. So only the base URL
# that created a task can miss it; each 404 of its status is confirmed by reading the whole task,
# and counts only if another task from there can be read; and only several over an hour make the
# task lost.


async def note_missing(
    session: Session, not_found: Sequence[Awaited], *, found: Sequence[Awaited]
) -> None:
    """
    Count tasks whose status was 404, and reset the count of those that are there again.

    Args:
        found: The tasks that were found in the same round.
    """
    observations = [
        Observation(
            Source.STATUS,
            awaited.task_id,
            session.clock.instant(),
            awaited,
            status=awaited.remote_status or TaskStatus.PENDING,
        )
        for awaited in found
        if awaited.missed
    ]
    if not_found:
        certain = (await session.account.reach()).certain
        not_found = [x for x in not_found if x.account in certain]
        found = [x for x in found if x.account in certain]
    if not_found and await _has_witness(session, not_found, found, certain):
        looked = await asyncio.gather(*(_read_missing(session, awaited) for awaited in not_found))
        observations += [observation for observation in looked if observation is not None]
    await asyncio.gather(*(session.ledger.observe(each) for each in observations))


async def _read_missing(session: Session, awaited: Awaited) -> Observation | None:
    """Read the task whose status was 404; None if there is no response."""
    status: TaskStatus | None = TaskStatus.PENDING
    try:
        await session.client.get_task(awaited.task_id)
    except NotFoundError:
        status = None
    except ApiError:
        return None
    return Observation(
        Source.TASK,
        awaited.task_id,
        session.clock.instant(),
        awaited,
        status=status,
        is_missing=status is None,
    )


async def _has_witness(
    session: Session,
    not_found: Sequence[Awaited],
    found: Sequence[Awaited],
    accounts: Collection[int],
) -> bool:
    """Whether another task of ours can be read now, so that the server is the right one."""
    if found:
        return True
    missing = [awaited.task_id for awaited in not_found]
    other = await asyncio.to_thread(session.ledger.read.newest_task, accounts, missing)
    if other is None:
        return False
    try:
        await session.client.get_task(other)
    except ApiError:
        return False
    return True


# The check that a finished task belongs to its intent, before anything is downloaded for it.
#
# A cache that mixes up answers, or an edge that rewrites them, must not put a picture, or its
# price, on the wrong row.


async def is_own(session: Session, task: Task, intent: Intent | Awaited) -> bool:
    """
    Whether this task is what came of an intent; one that is not is kept as a dispute.

    It carries the tag that the request was sent with. A server that was never seen to give a tag
    back may leave it out; so may a task that a person attached. Follow-ups carry none, and are
    known by their type.
    """
    reason = await _why_foreign(session, task, intent)
    if not reason:
        return True
    _log.warning("%s is not shown as the task of %s: %s", task.task_id, intent.intent_id, reason)
    now = session.clock.instant()
    await session.ledger.record_dispute(intent.intent_id, task.task_id, now)
    return False


async def _why_foreign(session: Session, task: Task, intent: Intent | Awaited) -> str:
    tag = tag_of(task)
    if tag is not None:
        if not tag.is_of(intent.intent_id, intent.request_hash):
            return f"it carries the tag of {tag.intent_id}, or of another text of this row"
        await session.account.note_echo()
        return ""
    wanted = task_type_of(intent.model)
    if wanted != IMAGE_TASK:
        return "" if task.type == wanted else f"it is of the type {task.type}"
    if not await session.account.echoes_tags():
        return ""
    sources = await asyncio.to_thread(
        session.ledger.read.sources_of, intent.intent_id, task.task_id
    )
    return "" if Source.PERSON in sources else "it has no tag, which this server gives back"
