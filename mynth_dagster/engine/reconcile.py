"""
One look at all open partitions of a batch, for the completion sensor: only free reads.

It polls pending tasks within a time budget, remembers in the ledger what it learned, and says
which partitions are idle and behind their version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from mynth_dagster.clock import US_PER_S, utc_from_us
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.auto_resubmit import Reason, reasons_to_resubmit
from mynth_dagster.engine.collect import read_finished, read_surplus
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.poll import IsDue, Poller, PollRound, always
from mynth_dagster.engine.resolve import expire_interrupted, resolve_unresolved
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import PollFetchError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import Heard
from mynth_dagster.ledger.queries import Moving, PartitionRow
from mynth_dagster.limits import (
    ANNOUNCED_AFTER_MAX_S,
    ANNOUNCED_AFTER_MIN_S,
    HEARD_WITHIN_S,
    POLL_FAILURES_MAX,
    SILENT_AFTER_S,
    UNANNOUNCED_MAX,
)
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import Awaited

# How far webhooks can be relied on: which pending tasks are left to their announcement.
#
# Nobody has to say that webhooks are on. A batch whose tasks were announced before is given
# patience for the next ones, about twice as long as the newest announcements took; polling takes
# over where none comes. So a lost delivery costs some minutes, a dead receiver costs requests.


PATIENCE_FACTOR = 2


@dataclass(frozen=True)
class Unannounced:
    """Tasks that polling found finished and nobody had announced: when last, and how many."""

    at_us: int
    n_tasks: int


@dataclass(frozen=True)
class Hearing:
    """What is known of the announcements of one batch's tasks; None where nothing is."""

    heard: Heard | None
    unannounced: Unannounced | None = None

    @property
    def has_stopped(self) -> bool:
        """Deliveries came, and then tasks finished without one."""
        if self.heard is None or self.unannounced is None:
            return False
        silent_us = self.unannounced.at_us - self.heard.last_at_us
        is_clear = self.unannounced.n_tasks >= UNANNOUNCED_MAX
        grace_s = ANNOUNCED_AFTER_MIN_S if is_clear else SILENT_AFTER_S
        return silent_us > grace_s * US_PER_S

    def patience_s(self, now_us: int) -> float:
        """How long after its submission a task is left to its announcement; 0: not at all."""
        if self.heard is None or self.has_stopped:
            return 0.0
        if now_us - self.heard.last_at_us > HEARD_WITHIN_S * US_PER_S:
            return 0.0
        usual_s = PATIENCE_FACTOR * self.heard.longest_wait_us / US_PER_S
        return min(max(usual_s, ANNOUNCED_AFTER_MIN_S), ANNOUNCED_AFTER_MAX_S)

    def in_words(self) -> str | None:
        """For people, where something is wrong; who switched webhooks off is left in peace."""
        if not self.has_stopped or self.heard is None or self.unannounced is None:
            return None
        if self.unannounced.at_us - self.heard.last_at_us > HEARD_WITHIN_S * US_PER_S:
            return None
        last = utc_from_us(self.heard.last_at_us).strftime("%Y-%m-%d %H:%M:%S")
        return (
            f"webhooks have stopped coming: the last one at {last} UTC, and "
            f"{self.unannounced.n_tasks} tasks finished since without one. "
            "Polling goes on"
        )


async def hearing_of(session: Session, batch: Batch) -> Hearing:
    """What the ledger knows of a batch's announcements."""
    return await asyncio.to_thread(read_hearing, session.ledger, batch.ledger_name)


def read_hearing(ledger: Ledger, batch_name: str) -> Hearing:
    """The same by the batch's name in the ledger; call it from a worker thread."""
    heard = ledger.events.heard(batch_name)
    noted = ledger.read.meta(_key(batch_name)) if heard is not None else None
    return Hearing(heard, Unannounced(**json.loads(noted)) if noted else None)


def is_due_by(hearing: Hearing, batch: Batch, now_us: int) -> IsDue:
    """Which pending tasks are to be polled now."""
    patience_us = 0.0 if _is_mute(batch) else hearing.patience_s(now_us) * US_PER_S
    if patience_us == 0:
        return always

    def is_due(task: Awaited) -> bool:
        return now_us - task.since_us >= patience_us

    return is_due


async def note_unannounced(session: Session, batch: Batch, hearing: Hearing, n_tasks: int) -> None:
    """Polling found finished what nobody had announced."""
    if not n_tasks or hearing.heard is None or _is_mute(batch):
        return
    before = hearing.unannounced
    is_further = before is not None and before.at_us > hearing.heard.last_at_us
    n_before = before.n_tasks if before is not None and is_further else 0
    noted = Unannounced(session.clock.now_us(), n_before + n_tasks)
    await session.ledger.set_meta(_key(batch.ledger_name), json.dumps(asdict(noted)))


def _is_mute(batch: Batch) -> bool:
    """Nobody is told of its tasks."""
    return batch.defaults.mute_registered_webhooks and not batch.defaults.webhook_urls


def _key(batch_name: str) -> str:
    return f"webhook:unannounced:{batch_name}"


# Polling all open partitions within a tick's time, a bounded number of tasks at a time.
#
# What the time is too short for comes first next time: the ledger remembers where a tour ended.


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


@dataclass(frozen=True)
class WatchedPartition:
    """
    One partition as of now.

    Args:
        n_pending: Tasks that are running at Mynth, before their deadline.
        n_sending: Deliveries in flight.
        is_behind: The ledger knows more than the tables show, or images of theirs were not
            dealt with whose files are to be kept.
        submitter: The run that is sending into it, if any.
        auto_resubmit: Why rows of it may be sent again by themselves; None where they may not.
        collector: The run that wrote its tables, as long as nobody looked whether it told so.
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
        """Something of it is moving, or not shown yet."""
        return self.is_behind or not self.is_idle

    @property
    def is_idle(self) -> bool:
        """Nothing current is moving; who sends is for the caller to judge."""
        return self.n_pending == 0 and self.n_sending == 0


async def watch(
    session: Session, batch: Batch, *, budget_s: float
) -> tuple[list[WatchedPartition], bool]:
    """
    Process events, poll what is pending and tell the state of every open partition.

    Returns the partitions that are open, have rows to be sent again, or whose tables may not have
    been told of, and whether the budget was
    enough to ask about all of them; where it was not, the next watch goes on behind the last
    partition that was asked about.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; nothing was asked.
    """
    until_s = session.clock.elapsed_s() + budget_s
    await session.account.number()
    reader, name = session.ledger.read, batch.ledger_name
    moving = await _moving(session, name)
    sending = sorted({window for (window, _), counts in moving.items() if counts.n_sending})
    await expire_interrupted(session, batch, sending)
    await process_events(session, batch, until_s=until_s)
    await resolve_unresolved(session, batch, None, until_s=until_s - budget_s / 2)
    is_complete = await Tour(session, batch, until_s).go(await _moving(session, name))
    await read_surplus(session, batch, None, until_s=until_s)
    rows = await asyncio.to_thread(reader.partitions, name)
    resting = await asyncio.to_thread(session.ledger.read.resting, name)
    stops = await asyncio.to_thread(session.ledger.stops.active)
    reasons = reasons_to_resubmit(rows, resting, stops)
    watched = _watched(batch, rows, await _moving(session, name), reasons)
    return [p for p in watched if p.is_open or p.auto_resubmit or p.collector], is_complete


async def _moving(session: Session, name: str) -> dict[tuple[str, str], Moving]:
    reach, now_us = await session.account.reach(), session.clock.now_us()
    return await asyncio.to_thread(session.ledger.read.moving, name, now_us, reach.asked)


def _watched(
    batch: Batch,
    rows: Iterable[PartitionRow],
    moving: Mapping[tuple[str, str], Moving],
    reasons: Mapping[tuple[str, str], Reason],
) -> list[WatchedPartition]:
    watched = []
    for row in rows:
        place = row.window, row.fan_out
        counts = moving.get(place, Moving())
        watched.append(
            WatchedPartition(
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
        )
    return watched


def _is_behind(batch: Batch, row: PartitionRow, counts: Moving) -> bool:
    shown = row.collected if batch.files is None else min(row.collected, row.downloaded)
    return shown < row.version or counts.n_finished > 0


# When to look for finished tasks again, and at how many of them. Pure.
#
# A look at a page of tasks costs a request, and how fast tasks finish says when the next one is
# worth it: most of what is left should be finished by then. As long as next to nothing is finished
# only the oldest of them are looked at; from then on all that are old enough for some of their kind
# to be finished. Where a look would come too soon to find much, because nobody is to wait longer
# than the longest pause, it is at the oldest tasks alone.


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
"""Share of the time that is left, once all tasks were looked at."""

LAST_SHARE = 0.15
"""Of all tasks; so few are looked at when all of them should be finished."""

SHARE_WORTH_A_LOOK = 0.2
"""With a hundred tasks a request, twenty found: a twentieth of a request for each."""

YOUNG_SHARE = 0.2
"""Of the time that tasks take, by the first look that found some: few are finished as early."""

EMPTY_GROWTH = 1.5
EMPTY_WIDENING = 2


@dataclass(frozen=True)
class Look:
    """
    What one look showed.

    Args:
        at_s: When it was; any clock that only goes forward.
        n_tasks: Pending tasks that were looked at.
        n_finished: Those of them that were found finished.
        n_pending: All tasks that are pending now.
        exposure_s: How long they could have finished since anybody looked, on average.
    """

    at_s: float
    n_tasks: int
    n_finished: int
    n_pending: int
    exposure_s: float


class Pace:
    """
    The rhythm of one wait.

    Args:
        min_s: Shortest time between two looks.
        max_s: Longest time between two looks.
        tasks_a_request: Of how many tasks one request tells.
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
        """The first task was sent."""
        if self._began_s is None:
            self._began_s = now_s
            self._wait(now_s, PROBE_MIN_S)

    def note(self, look: Look) -> None:
        """
        Take in a look.

        `next_at_s`, `n_tasks` (None: all) and `min_age_s` are those of the next one.
        """
        self.begin(look.at_s)
        self._n_most = max(self._n_most, look.n_pending + look.n_finished)
        trusted = PROBE_TRUSTED_SHARE * look.n_tasks if self.is_probing else 0
        if look.n_finished > trusted:
            self._pace(look)
        elif self.is_probing:
            self._wait(look.at_s, max(PROBE_MIN_S, PROBE_GROWTH * self._age_s(look)))
        else:
            self._wait(look.at_s, EMPTY_GROWTH * self._wait_s)
        if look.n_finished == 0 and self.n_tasks is not None and not self._is_too_soon:
            self.n_tasks *= EMPTY_WIDENING

    def look_at_all(self) -> None:
        """The next look is at every task."""
        self.n_tasks, self.min_age_s = None, 0.0

    def _pace(self, look: Look) -> None:
        share = look.n_finished / look.n_tasks
        left_s = look.exposure_s * (1 - share) / share
        is_last = look.n_pending <= LAST_SHARE * self._n_most
        is_known = self.counted_from_s is not None
        self._wait(look.at_s, left_s * (1.0 if is_last else REST if is_known else FIRST_REST))
        if self.is_probing:
            self.min_age_s = min(YOUNG_SHARE * look.exposure_s / share, self._max_s)
        else:
            self.counted_from_s = look.at_s
        self.is_probing, self.n_tasks = False, None
        if self._max_s < SHARE_WORTH_A_LOOK * left_s:
            worth = self._max_s / (SHARE_WORTH_A_LOOK * left_s)
            self.n_tasks = max(self._n_probed, round(worth * look.n_pending))

    def _wait(self, now_s: float, wanted_s: float) -> None:
        """Never longer than it took so far: what was seen of the past reaches no further."""
        assert self._began_s is not None
        known_s = max(PROBE_MIN_S, now_s - self._began_s)
        self._wait_s = min(max(min(wanted_s, known_s), self._min_s), self._max_s)
        self.next_at_s = now_s + self._wait_s

    @property
    def _is_too_soon(self) -> bool:
        """Tasks that take long are no reason to look at more of them."""
        return self.is_probing and self._wait_s < self._max_s

    def _age_s(self, look: Look) -> float:
        assert self._began_s is not None
        return look.at_s - self._began_s


# One look at the tasks of a run that waits: what webhooks told, what polling finds, what can be
# read.


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
        n_events_left: Events that could not be processed yet.
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
        Process events, poll as many tasks as are worth it now, and read those that are finished.

        Raises:
            UnauthorizedError: The key is refused.
            AccountMismatchError: The key is another account's; nothing was asked.
        """
        session, batch = self._session, self._batch
        await session.account.number()
        await process_events(session, batch)
        n_events_left = await asyncio.to_thread(session.ledger.events.n_fresh)
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


# Waiting in the run until a set of partitions is idle, reading tasks as they finish.


LOOK_UP_S = 1.0
"""How often a pause looks whether the run was cancelled or an event came."""


async def wait_until_idle(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    *,
    stop: CancelToken,
    on_round: Callable[[Waiting], None] = lambda _: None,
    looker: Looker | None = None,
) -> Waiting:
    """
    Wait until no task is pending before its deadline, reading tasks as they finish.

    What webhooks tell is taken first; tasks that are likely to be announced are not polled yet.

    Ends early when `stop` is cancelled, or when nothing is left but finished tasks that cannot
    be read; a run that merely may not send any more waits on for what it sent.

    Args:
        looker: Whoever looked while these tasks were sent.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; nothing was asked.
        PollFetchError: Too many rounds in a row in which nothing could be asked.
    """
    looker = looker or Looker(session, batch, slices)
    if not looker.pace.is_probing:
        await _pause(session, looker.pace.next_at_s, stop, n_left=0)
    barren_rounds = unread_rounds = 0
    while True:
        looked = await looker.look()
        waiting = looked.waiting
        on_round(waiting)
        is_over = waiting.n_pending == 0
        unread_rounds = unread_rounds + 1 if is_over else 0
        if stop.is_cancelled or unread_rounds > POLL_FAILURES_MAX:
            return waiting
        if is_over and looked.is_partial:
            looker.pace.look_at_all()  # what is past its deadline may be finished all the same
            continue
        if is_over and looked.n_unread == 0:
            return waiting
        barren_rounds = barren_rounds + 1 if looked.has_failed else 0
        if barren_rounds > POLL_FAILURES_MAX:
            said = f"{barren_rounds} rounds of polling failed"
            raise PollFetchError(looked.oldest_task_id, said)
        await _pause(session, looker.pace.next_at_s, stop, looked.n_events_left)


async def _pause(session: Session, until_s: float, stop: CancelToken, n_left: int) -> None:
    """Sleep until an event came, looking up often enough to be cancelled."""
    while not stop.is_cancelled and (left_s := until_s - session.clock.elapsed_s()) > 0:
        await session.clock.sleep(min(left_s, LOOK_UP_S))
        if await asyncio.to_thread(session.ledger.events.n_fresh) > n_left:
            return
