"""
Noticing that tasks are finished, with few requests.

Where the revision has a task list, pending tasks are looked up a page of a hundred at a time,
and only pages that may hold a pending task are asked for; stragglers that lie further apart cost
one status request each. While the list fails, no more than one page's worth of statuses is asked
for in its place.
Elsewhere every pending task costs one status request a round. Nothing here reads a task whole
or writes tables; every request is a GET.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from mynth_dagster.chunks import chunks
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, NotFoundError, UnauthorizedError
from mynth_dagster.ledger.observations import Observation, Source
from mynth_dagster.models.intent import Awaited, Intent, tag_of
from mynth_dagster.models.request import task_type_of
from mynth_dagster.models.task import IMAGE_TASK, Task, TaskStatus
from mynth_dagster.printable import printable_logger

# Tasks that Mynth says it does not know, although it accepted them.
#
# One 404 proves little: a cache, a router, a wrong server. So only the URL that a task was made at
# can miss it, each look is made beside another task from there that is there, reads the whole task
# by its id, and only several over an hour make it lost.


async def note_missing(
    session: Session, not_found: Sequence[Awaited], *, found: Sequence[Awaited]
) -> None:
    """
    Count tasks of which a status said 404, and forgive those that are there again.

    Args:
        found: Those whose tasks answered in the same round.
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
    """Whether the whole task is there, of which a status said 404; None where nobody answers."""
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
    """Another task of ours can be read now: the server is the right one and is well."""
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


OVERTAKING_MAX = 128
"""Answers may overtake each other: by so many places our order may differ from Mynth's."""

POLLS_IN_FLIGHT = 16
NOTES_AT_ONCE = 256  # each is a few kilobytes as long as it waits for its COMMIT


IsDue = Callable[[Awaited], bool]


def always(_: Awaited) -> bool:
    """Every pending task is asked about."""
    return True


@dataclass(frozen=True)
class PollRound:
    """
    What one round found.

    `finished` carry their new `remote_status`; `n_answered` reads went well; `n_failed` went wrong
    and are tried again in the next round.
    """

    finished: tuple[Awaited, ...] = ()
    n_answered: int = 0
    n_failed: int = 0
    is_complete: bool = True


class ListWalk:
    """
    Which page of the task list to ask for next; pure bookkeeping over one round.

    It goes from the newest pending task to the oldest. Pages that adjoin are chained by the last
    entry of the page before; a stretch without a pending task is jumped over by starting at one
    of our own tasks, always an older one than seen so far. What a page should have shown and did
    not is `missed`. Others' tasks may lie between ours.

    Args:
        tasks: All accepted tasks of the work at hand, oldest first, pending or finished.
        page_size: Entries of one page.
        is_due: Which pending tasks are looked for; the others will be announced.
    """

    def __init__(self, tasks: Sequence[Awaited], page_size: int, is_due: IsDue = always) -> None:
        self._tasks = tasks
        self._page_size = page_size
        self._place = {task.task_id: place for place, task in enumerate(tasks)}
        self._unchecked = [p for p, task in enumerate(tasks) if _is_wanted(task, is_due)]
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
        """Pages that the walk takes where the list holds nothing but our tasks."""
        n_pages, oldest, n_left = 0, self._oldest, len(self._unchecked)
        while n_left:
            oldest = min(self._unchecked[n_left - 1] + OVERTAKING_MAX, oldest) - self._page_size
            n_left = bisect_left(self._unchecked, oldest, 0, n_left)
            n_pages += 1
        return n_pages

    def give_up(self) -> list[Awaited]:
        """All that was not checked yet, newest first; the walk is then over."""
        left = [self._tasks[place] for place in reversed(self._unchecked)]
        self._unchecked = []
        return left

    def note(self, listed: Sequence[str]) -> list[Awaited]:
        """Take in a page (task ids, newest first); the tasks that were looked for on it."""
        on_page = {self._place[task_id] for task_id in listed if task_id in self._place}
        self._oldest = min(self._oldest, *on_page, len(self._tasks))
        shown = self._take(on_page)
        if len(listed) < self._page_size:
            self._miss_from(0)
        elif on_page:
            self._miss_from(self._oldest + OVERTAKING_MAX)
        elif self._unchecked:
            # Others' tasks only: a stretch of ours is asked for one by one, the rest further on.
            self._miss_from(self._unchecked[-1] - OVERTAKING_MAX + 1)
        self.after = self._next_after(listed[-1] if listed else None)
        return shown

    def _take(self, on_page: set[int]) -> list[Awaited]:
        """Strike out what a page shows; only the newest of what is unchecked can be on it."""
        start = bisect_left(self._unchecked, self._oldest)
        newest = self._unchecked[start:]
        self._unchecked[start:] = [place for place in newest if place not in on_page]
        return [self._tasks[place] for place in newest if place in on_page]

    def _miss_from(self, place: int) -> None:
        """What is unchecked and as new as this should have been shown."""
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

    async def run(self, tasks: Sequence[Awaited], is_due: IsDue = always) -> PollRound:
        """
        Ask once about every pending task that is due to be asked about.

        Raises:
            UnauthorizedError: The key is refused; polling on is pointless.
        """
        if self._session.client.profile.HAS_TASK_LIST:
            finished = await self._walk_list(tasks, is_due)
        else:
            pending = [task for task in tasks if _is_wanted(task, is_due)]
            finished = await self._poll_each(pending)
        for some in chunks(finished, NOTES_AT_ONCE):
            await asyncio.gather(*(self._note(awaited) for awaited in some))
        await note_missing(self._session, self._not_found, found=self._found)
        return PollRound(tuple(finished), self._n_answered, self._n_failed, self._is_complete)

    async def _walk_list(self, tasks: Sequence[Awaited], is_due: IsDue) -> list[Awaited]:
        size = self._session.client.profile.LIMITS.list_page_max
        walk = ListWalk(tasks, size, is_due)
        finished: list[Awaited] = []
        if walk.n_pages_at_best >= walk.n_unchecked:
            return await self._poll_each(walk.give_up())
        while walk.n_unchecked > 1 and self._may_start():
            try:
                page = await self._session.client.list_tasks(limit=size, after=walk.after)
            except UnauthorizedError:
                raise
            except ApiError:
                self._n_failed += 1
                return finished + await self._poll_each([*walk.missed, *walk.give_up()][:size])
            self._n_answered += 1
            statuses = {task.task_id: task.status for task in page}
            shown = walk.note([task.task_id for task in page])
            self._found += shown
            told = [(awaited, statuses[awaited.task_id]) for awaited in shown]
            finished += [
                replace(x, remote_status=status) for x, status in told if status and status.is_final
            ]
        return finished + await self._poll_each([*walk.missed, *walk.give_up()])

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
        source = Source.LIST if session.client.profile.HAS_TASK_LIST else Source.STATUS
        await session.ledger.observe(
            Observation(source, awaited.task_id, session.clock.instant(), awaited, status=status)
        )

    def _may_start(self) -> bool:
        if self._until_s is not None and self._session.clock.elapsed_s() >= self._until_s:
            self._is_complete = False
        return self._is_complete


def _is_wanted(task: Awaited, is_due: IsDue) -> bool:
    return not task.is_finished_remotely and is_due(task)


# Whose task is it? Asked of each task that was read whole, before anything is downloaded for it.
#
# A cache that mixes up answers, or an edge that rewrites them, must not put a picture, or its
# price, on the wrong row.


_log = printable_logger(__name__)


async def is_own(session: Session, task: Task, intent: Intent | Awaited) -> bool:
    """
    Whether this task is what came of an intent; one that is not is kept as a dispute.

    It carries the tag that the request was sent with. A server that was never seen to give a tag
    back may leave it out; so may a task that a person attached. Looks at images carry none, and are
    known by their type.
    """
    said = await _why_foreign(session, task, intent)
    if not said:
        return True
    _log.warning("%s is not shown as the task of %s: %s", task.task_id, intent.intent_id, said)
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
