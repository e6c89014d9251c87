"""
The search for responses that were lost, and the proof that a request made no task.

A POST whose response was lost may have created a task, and a second POST would be paid as well. So
the row is sent again only after a proof that the first one created none. The proof cannot use
times: the clocks of Mynth, of a proxy and of our machines may be wrong, and a cached list is old.
It uses the order of our own tasks. The ledger gives a running number to each claim
(`claimed_seq`), and notes the newest number when a task's id is recorded (`accepted_seq`). A task
is created after its own claim, and before any claim with a number above its `accepted_seq`. So of
each of our tasks the ledger can tell whether it was created before or after the lost request, and
in the list, newest first, these tasks form a bracket around the place where the task of the
request would be.

A walk reads the list from the top, and reads every task that the ledger does not know in full. It
proves that the request has no task if

- the list shows a task of ours from before the request, and everything above it was read; or the
  list was read to its end and showed every task of ours that the ledger knows,
- it shows a task of ours from after the request: it is not a stale copy,
- it shows our tasks in the order in which they were created, with none missing in between,
- tasks of ours that were read on the way carry our tag, so that a missing tag means something,
- nothing in the bracket can be the task that is searched for: neither one that could not be read,
  nor one without a tag that asks for the same.

Two such walks with pages of different sizes, some time apart, make the row `not_accepted`: in a
single walk, a task could fall between two pages where entries have equal times.

`resolve_unresolved` decides whether to walk, and marks the rows that are proved absent. Where there
is no list, rows are held. `why_not_absent` and `is_not_accepted` are pure. `ListSearch` walks, and
attaches the tasks that carry the tag of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S, Instant, utc_from_us
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import ApiError, UnauthorizedError
from mynth_dagster.ledger.observations import Attachment, Observation, Source
from mynth_dagster.ledger.queries import FollowUpKey, OpenFollowUp
from mynth_dagster.limits import ABSENT_AFTER_S, ABSENT_AGAIN_AFTER_S, WALK_PAGES
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import (
    TOO_EARLY,
    Intent,
    IntentTag,
    KnownTask,
    StrangeTask,
    Trail,
    UnresolvedIntent,
    Walk,
    tag_of,
)
from mynth_dagster.models.request import FOLLOW_UP_TASKS, normal_url, task_type_of
from mynth_dagster.models.task import IMAGE_TASK, MYNTH_TASKS, ListedTask, Task
from mynth_dagster.models.transitions import IntentState

UNRESOLVED = (IntentState.UNRESOLVED,)
ALL_OPEN = (IntentState.UNRESOLVED, IntentState.SENDING)


@dataclass(frozen=True)
class ResolveResult:
    """The result of a search: tasks found, and requests proved not to have been accepted."""

    n_attached: int = 0
    n_not_accepted: int = 0


NOTHING_RESOLVED = ResolveResult()


async def expire_interrupted(session: Session, ledger_name: str, windows: Sequence[str]) -> int:
    """
    Turn rows that a gone process left `sending` into `unresolved`; return how many.

    A row counts as interrupted once its time to send and the whole deadline of the POST are over,
    whichever process claimed it.
    """
    grace_us = round(session.settings.client.request_timeout_s * US_PER_S)
    now = session.clock.instant()
    expired = [
        await session.ledger.expire_sending(ledger_name, window, grace_us, now)
        for window in windows
    ]
    return sum(expired)


async def resolve_unresolved(
    session: Session,
    work: Work,
    slices: Sequence[Slice] | None,
    *,
    states: Sequence[IntentState] = UNRESOLVED,
    until_s: float | None = None,
) -> ResolveResult:
    """
    Search for the tasks of deliveries in doubt, if a search is due.

    Makes no request if nothing is open or if the revision has no list. A list that cannot be read
    proves nothing and is no error: the rows stay in doubt.

    Args:
        slices: None: all partitions.
        states: `ALL_OPEN` also searches for requests that a killed process may have sent just now.
        until_s: On `Clock.elapsed_s`; no page is requested later.

    Raises:
        UnauthorizedError: The key is refused.
    """
    if not session.client.profile.HAS_TASK_LIST:
        return NOTHING_RESOLVED
    open_ = await _unresolved(session, work.ledger_name, slices, states)
    if not open_:
        return NOTHING_RESOLVED
    account = await session.account.number()
    walks = await asyncio.to_thread(session.ledger.read.walks, account)
    now = await _now(session)
    marks_absent = work.batch.marks_absent
    if not any(
        is_walk_due(unresolved, walks, now, marks_absent=marks_absent) for unresolved in open_
    ):
        return NOTHING_RESOLVED
    page_size = next_page_size(walks)
    oldest_seq = min(unresolved.claimed_seq for unresolved in open_)
    searching = ListSearch(
        session,
        deadline_s=work.batch.delivery.deadline_s,
        page_size=page_size,
        older_than_seq=oldest_seq,
    )
    if not await searching.go(until_s=until_s):
        return ResolveResult(searching.n_attached)
    await searching.look_for_flaws()
    reach(CrashPoint.WALKED)
    ended = await _now(session)
    left = await _unresolved(session, work.ledger_name, slices, UNRESOLVED)
    searched = {unresolved.intent.intent_id for unresolved in open_}
    left = [unresolved for unresolved in left if unresolved.intent.intent_id in searched]
    findings = await _findings(session, work, left, searching.trail, now, account)
    walk = Walk(account, page_size, now, ended, findings)
    await session.ledger.record_walk(walk)
    reach(CrashPoint.WALK_RECORDED)
    n_not_accepted = 0
    if marks_absent:
        n_not_accepted = await _mark_absent(session, left, [*walks, walk])
        reach(CrashPoint.CLEARED)
    return ResolveResult(searching.n_attached, n_not_accepted)


async def _findings(
    session: Session,
    work: Work,
    all_unresolved: Sequence[UnresolvedIntent],
    trail: Trail,
    began: Instant,
    account: int,
) -> dict[str, str]:
    """Return by intent why the walk does not prove that it has no task; empty where it does."""
    tells = any(strange.content is not None for _, strange in trail.strange)
    contents = await asyncio.to_thread(work.contents_of, session, all_unresolved) if tells else {}

    def finding(unresolved: UnresolvedIntent) -> str:
        content = contents.get((unresolved.intent.row.request_key, unresolved.intent.request_hash))
        return why_not_absent(unresolved, trail, began=began, account=account, content=content)

    return {unresolved.intent.intent_id: finding(unresolved) for unresolved in all_unresolved}


async def _mark_absent(
    session: Session, all_unresolved: Sequence[UnresolvedIntent], walks: Sequence[Walk]
) -> int:
    absent = [unresolved for unresolved in all_unresolved if is_not_accepted(unresolved, walks)]
    if not absent:
        return 0
    last = utc_from_us(walks[-1].ended.wall_us)
    message = f"two complete walks over the task list found nothing, the last at {last:%F %TZ}"
    return await session.ledger.mark_not_accepted(absent, message)


async def _unresolved(
    session: Session,
    ledger_name: str,
    slices: Sequence[Slice] | None,
    states: Sequence[IntentState],
) -> list[UnresolvedIntent]:
    read = session.ledger.read.unresolved
    return await asyncio.to_thread(read, ledger_name, slices, states)


async def _now(session: Session) -> Instant:
    return await session.ledger.now(session.clock.instant())


# When a walk is due, and what walks prove: pure decisions.


_PATIENCE = 4
"""A search that proved nothing is repeated after a fourth of the time that the row waited."""


def why_not_absent(
    unresolved: UnresolvedIntent, trail: Trail, *, began: Instant, account: int, content: str | None
) -> str:
    """
    Return why the walk does not prove that this request has no task; an empty text if it does.

    Args:
        began: When the walk began.
        account: Whose list it was.
        content: The prompt of the request, or the image that it is about; None where that is not
            known any more.
    """
    if unresolved.account != account:
        return "only the key that sent it lists its task"
    if unresolved.is_disputed:
        return "a task carries its id and asks for something else"
    if (
        unresolved.since is None
        or unresolved.since.surely_elapsed_us(began) < ABSENT_AFTER_S * US_PER_S
    ):
        return TOO_EARLY
    return (
        trail.flaw
        or _why_not_bracketed(unresolved, trail)
        or _in_the_way(unresolved, trail, content)
    )


def _why_not_bracketed(unresolved: UnresolvedIntent, trail: Trail) -> str:
    if not any(task.claimed_seq > unresolved.unresolved_seq for _, task in trail.known):
        return (
            "the list shows no task of this key that was sent after it, so that it may be out of "
            "date; any row sent later with this key shows that it is not"
        )
    if place_below(unresolved.claimed_seq, trail) is None:
        return "the list shows no task of this key from before it"
    if task_type_of(unresolved.intent.model) == IMAGE_TASK:
        return trail.tag_flaw
    return ""


def place_below(claimed_seq: int, trail: Trail) -> int | None:
    """
    Return the place in the list where the bracket of a request ends; None if it was not seen.

    The task there and all below it are older than the claim with this number.
    """
    for place, task in trail.known:
        if task.accepted_seq is not None and task.accepted_seq < claimed_seq:
            return place
    return trail.n_places if trail.is_at_end else None


def _in_the_way(unresolved: UnresolvedIntent, trail: Trail, content: str | None) -> str:
    below, above = place_below(unresolved.claimed_seq, trail), _place_above(unresolved, trail)
    for place, strange in trail.strange:
        is_in_bracket = (below is None or place < below) and place > above
        if is_in_bracket and _may_be(strange, unresolved, content):
            return f"{strange.task_id} {strange.reason}"
    return ""


def _place_above(unresolved: UnresolvedIntent, trail: Trail) -> int:
    """
    Return the place where the bracket begins: tasks above it are younger than the request.

    A request reaches Mynth within `ABSENT_AFTER_S` or never. Tasks of ours that were claimed later
    than that, by the clock of the machine that claimed them, lie above its task.
    """
    assert unresolved.since is not None
    late_us = unresolved.since.wall_us + ABSENT_AFTER_S * US_PER_S
    late = [
        place
        for place, task in trail.known
        if task.claimed_seq > unresolved.unresolved_seq and task.intent.claimed_at_us >= late_us
    ]
    return max(late, default=-1)


def _may_be(strange: StrangeTask, unresolved: UnresolvedIntent, content: str | None) -> bool:
    if strange.type in MYNTH_TASKS and strange.type != task_type_of(unresolved.intent.model):
        return False
    return None in (strange.content, content) or strange.content == content


def is_not_accepted(unresolved: UnresolvedIntent, walks: Sequence[Walk]) -> bool:
    """Whether these walks together prove that the request was not accepted; oldest first."""
    if unresolved.is_disputed:
        return False
    conclusive = [walk for walk in walks if _proves(walk, unresolved)]
    return any(
        _agree(first, second)
        for place, first in enumerate(conclusive)
        for second in conclusive[place + 1 :]
    )


def is_walk_due(
    unresolved: UnresolvedIntent, walks: Sequence[Walk], now: Instant, *, marks_absent: bool
) -> bool:
    """Whether to search for this request's task now; oldest walk first."""
    since = unresolved.since
    if since is None:
        return True
    later = [
        walk
        for walk in walks
        if unresolved.intent.intent_id in walk.findings and since.surely_elapsed_us(walk.ended) > 0
    ]
    if not later:
        return True
    waited_us = since.surely_elapsed_us(now)
    if not marks_absent or unresolved.is_disputed or waited_us < ABSENT_AFTER_S * US_PER_S:
        return False
    pause_us = ABSENT_AGAIN_AFTER_S * US_PER_S
    if not any(_proves(walk, unresolved) for walk in later):
        pause_us = max(pause_us, waited_us / _PATIENCE)
    return later[-1].ended.surely_elapsed_us(now) >= pause_us


def next_page_size(walks: Sequence[Walk]) -> int:
    """Return another page size than that of the last walk."""
    if not walks:
        return WALK_PAGES[0]
    return next(size for size in WALK_PAGES if size != walks[-1].page_size)


def _proves(walk: Walk, unresolved: UnresolvedIntent) -> bool:
    """Whether the walk proved it for this attempt: the intent may have been in doubt before."""
    if unresolved.since is None or walk.account != unresolved.account:
        return False
    waited_us = unresolved.since.surely_elapsed_us(walk.began)
    is_absent = walk.findings.get(unresolved.intent.intent_id) == ""
    return is_absent and waited_us >= ABSENT_AFTER_S * US_PER_S


def _agree(first: Walk, second: Walk) -> bool:
    pause_us = first.ended.surely_elapsed_us(second.began)
    return first.page_size != second.page_size and pause_us >= ABSENT_AGAIN_AFTER_S * US_PER_S


# The walk over the task list, newest first, that reads every task which the ledger does not know.
#
# A task that carries the tag of one of our intents is attached to it, whichever batch it is of.
# Everything else that the walk sees is recorded as a trail, from which the functions above judge.


WALK_PAGES_MAX = 100_000
OLDER_AFTER_S = 600.0
"""So much earlier by the server's time, a follow-up is taken for somebody else's."""

TAG_READINGS_MAX = 3
"""Tasks of ours that are read, at either end of a walk, until one shows its tag."""


class ListSearch:
    """
    One walk over the list of the session's key.

    Args:
        deadline_s: Of tasks that are found.
        older_than_seq: The walk ends at a task of ours that the ledger knew before this number was
            given; 0: only at the end of the list.
    """

    def __init__(
        self, session: Session, *, deadline_s: float, page_size: int, older_than_seq: int = 0
    ) -> None:
        self._session = session
        self._deadline_s = deadline_s
        self._page_size = page_size
        self._older_than_seq = older_than_seq
        self._seen: set[str] = set()
        self._follow_ups: Mapping[FollowUpKey, Sequence[OpenFollowUp]] = {}
        self.trail = Trail(0)
        self.n_attached = 0
        self.unknown_intents: list[str] = []
        """Ids in tags of this ledger that it does not know."""

    async def go(self, *, until_s: float | None = None, n_pages: int = WALK_PAGES_MAX) -> bool:
        """
        Walk the list, attach tasks that are found, and return whether the walk came to its end.

        The end is an empty page: a short one proves nothing, since a server may return fewer
        entries than requested. A list that cannot be read ends the walk early.

        Args:
            until_s: On `Clock.elapsed_s`; no page is requested later.

        Raises:
            UnauthorizedError: The key is refused.
        """
        session, after = self._session, None
        self.trail.began_seq = await session.ledger.newest_seq()
        self._follow_ups = await asyncio.to_thread(session.ledger.read.open_follow_ups)
        for _ in range(n_pages):
            if until_s is not None and session.clock.elapsed_s() >= until_s:
                return False
            try:
                page = await session.client.list_tasks(limit=self._page_size, after=after)
            except UnauthorizedError:
                raise
            except ApiError:
                return False
            new = [task for task in page if task.task_id not in self._seen]
            self._seen |= {task.task_id for task in new}
            if page and not new:
                self.trail.flaw = "the list repeats itself and has no end"
            self.trail.is_at_end = not page
            if not new or await self._take_in(new):
                return True
            after = page[-1].task_id
        return False

    async def _take_in(self, page: Sequence[ListedTask]) -> bool:
        """Note and read what a page shows; whether the walk may end here."""
        ledger, ids = self._session.ledger, [task.task_id for task in page]
        known = await asyncio.to_thread(ledger.read.known_tasks, ids)
        owned = await asyncio.to_thread(ledger.read.owners, ids)
        unknown: list[tuple[int, ListedTask]] = []
        is_over = False
        for listed in page:
            place, task = self.trail.n_places, known.get(listed.task_id)
            self.trail.n_places += 1
            if task is not None:
                self.trail.known.append((place, task))
                if task.accepted_seq is not None and task.accepted_seq < self._older_than_seq:
                    is_over = True
                    break
            elif listed.task_id not in owned:
                unknown.append((place, listed))
        read = await asyncio.gather(*(self._read(listed.task_id) for _, listed in unknown))
        for (place, listed), task_read in zip(unknown, read, strict=True):
            await self._sort(place, listed, task_read)
        return is_over

    async def _read(self, task_id: str) -> Task | ApiError:
        await self._session.throttle.acquire()
        try:
            return await self._session.client.get_task(task_id)
        except UnauthorizedError:
            raise
        except ApiError as error:
            return error
        finally:
            await self._session.throttle.release()

    async def _sort(self, place: int, listed: ListedTask, read: Task | ApiError) -> None:
        if isinstance(read, ApiError):
            message = f"is in the list and cannot be read: {read.reason.rstrip('.')}"
            self._note_strange(place, StrangeTask(listed.task_id, listed.type, message))
            return
        tag = tag_of(read)
        if tag is not None:
            intent = await self._tagged(read, tag)
        elif read.type in FOLLOW_UP_TASKS:
            if read.image_url is None:
                message = "does not tell what image it is about"
                self._note_strange(place, StrangeTask(read.task_id, read.type, message))
                return
            intent = await self._followed_up(read, place)
        else:
            intent = None
            if read.type == IMAGE_TASK or read.type not in MYNTH_TASKS:
                message = "has no tag and asks for the same prompt"
                strange = StrangeTask(read.task_id, read.type, message, read.prompt_asked)
                self._note_strange(place, strange)
        if intent is not None and await self._attach(read, intent) is Attachment.ATTACHED:
            self.n_attached += 1

    def _note_strange(self, place: int, task: StrangeTask) -> None:
        self.trail.strange.append((place, task))

    async def _attach(self, task: Task, intent: Intent) -> Attachment | None:
        now, deadline_s = self._session.clock.instant(), self._deadline_s
        observed = await self._session.ledger.observe(
            Observation.of_intent(Source.LIST, intent, task.task_id, now, deadline_s=deadline_s)
        )
        return observed.attachment

    async def _followed_up(self, task: Task, place: int) -> Intent | None:
        """The intent whose follow-up this may be; such a task carries no tag."""
        account = await self._session.account.number()
        key = task.type, normal_url(task.image_url or "")
        candidates = [
            candidate.intent
            for candidate in self._follow_ups.get(key, ())
            if candidate.account == account and not self._is_older(place, candidate)
        ]
        if len(candidates) == 1:
            before_us = candidates[0].claimed_at_us - task.created_at_us
            if before_us <= OLDER_AFTER_S * US_PER_S:
                return candidates[0]
            # Its time says that somebody else had the image followed up before. It may be wrong.
            message = "is about the same image; by its time it is older than the request"
            self._note_strange(place, StrangeTask(task.task_id, task.type, message, key[1]))
            return None
        for intent in candidates:  # nobody knows whose it is: the absence of none is proved
            await self._dispute(intent, task)
        return None

    def _is_older(self, place: int, candidate: OpenFollowUp) -> bool:
        """Whether the list has the task below one of ours that is older than this request."""
        below = place_below(candidate.claimed_seq, self.trail)
        return below is not None and below < place

    async def _tagged(self, task: Task, tag: IntentTag) -> Intent | None:
        """The intent of ours that a task carries the tag of."""
        if tag.ledger_id != self._session.ledger.ledger_id:
            return None
        found = await asyncio.to_thread(self._session.ledger.read.intents_by_id, [tag.intent_id])
        intent = found.get(tag.intent_id)
        if intent is None:
            self.unknown_intents.append(tag.intent_id)
        elif not tag.matches(intent.request_hash):
            await self._dispute(intent, task)
            return None
        return intent

    async def _dispute(self, intent: Intent, task: Task) -> None:
        now = self._session.clock.instant()
        await self._session.ledger.record_dispute(intent.intent_id, task.task_id, now)

    async def look_for_flaws(self) -> None:
        """
        Check that the list showed our tasks, all of them, in their order, and with their tags.

        Call it before you conclude anything from what a complete walk did not show.

        Raises:
            UnauthorizedError: The key is refused.
        """
        trail = self.trail
        trail.flaw = self._disorder() or trail.flaw or await self._hole()
        if not trail.flaw:
            trail.tag_flaw = await self._missing_tag()

    def _disorder(self) -> str:
        """Return why the list is not in order: an older task of ours must lie below a newer one."""
        oldest_seq: int | None = None
        for _, task in self.trail.known:
            if oldest_seq is not None and oldest_seq < task.claimed_seq:
                return f"the list is not in order: {task.intent.task_id} lies below an older task"
            if task.accepted_seq is not None:
                oldest_seq = min(task.accepted_seq, oldest_seq or task.accepted_seq)
        return ""

    async def _hole(self) -> str:
        """Return what task of ours is missing, between our newest and oldest or in all the list."""
        account = await self._session.account.number()
        read, known = self._session.ledger.read, [task for _, task in self.trail.known]
        if self.trail.is_at_end:
            wanted = await asyncio.to_thread(read.tasks_until, account, self.trail.began_seq)
        else:
            oldest_seq = min(task.accepted_seq for task in known if task.accepted_seq is not None)
            newest_seq = max(task.claimed_seq for task in known)
            wanted = await asyncio.to_thread(read.tasks_between, account, oldest_seq, newest_seq)
        missing = [task_id for task_id in wanted if task_id not in self._seen]
        if not missing:
            return ""
        return f"the list does not show all tasks of this key that it has to, such as {missing[0]}"

    async def _missing_tag(self) -> str:
        """Read tasks of ours at both ends: if these have no tags, a missing tag proves nothing."""
        known = (task for _, task in self.trail.known)
        ours = [task for task in known if task_type_of(task.intent.model) == IMAGE_TASK]
        for end in (ours, ours[::-1]):
            message = await self._tag_is_missing(end[:TAG_READINGS_MAX])
            if message:
                return message
        return ""

    async def _tag_is_missing(self, ours: Sequence[KnownTask]) -> str:
        for known in ours:
            assert known.intent.task_id is not None
            read = await self._read(known.intent.task_id)
            if isinstance(read, ApiError):
                continue
            tag = tag_of(read)
            if tag is not None and tag.intent_id == known.intent.intent_id:
                return ""
            return f"{read.task_id} of this ledger comes back without the tag that it was sent with"
        return "no task of ours could be read to see that it carries its tag"
