"""Waiting in the run until a set of partitions is settled; polling and reading overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.announced import hearing_of, is_due_by, note_unannounced
from mynth_dagster.engine.collect import read_finished
from mynth_dagster.engine.inbox import work_inbox
from mynth_dagster.engine.poll import Poller, PollRound
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import PollFetchError
from mynth_dagster.limits import POLL_FAILURES_MAX
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import STALLED, IntentState

LOOK_UP_S = 1.0
"""How often a pause looks whether the run was cancelled or an event came."""


@dataclass(frozen=True)
class Waiting:
    """How far the waiting is; tasks, not images."""

    n_pending: int
    n_finished: int
    n_stalled: int


async def wait_until_settled(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    *,
    stop: StopSwitch,
    on_round: Callable[[Waiting], None] = lambda _: None,
) -> Waiting:
    """
    Wait until no task is pending before its deadline, reading tasks as they finish.

    What webhooks tell is taken first; tasks that are likely to be announced are not polled yet.

    Ends early when `stop` is cancelled, or when nothing is left but finished tasks that cannot
    be read; a run that merely may not send any more waits on for what it sent.

    Raises:
        UnauthorizedError: The key is refused.
        AccountMismatchError: The key is another account's; nothing was asked.
        PollFetchError: Too many rounds in a row in which nothing could be asked.
    """
    await session.account.number()
    interval_s, barren_rounds, unread_rounds = session.settings.poll_interval_min_s, 0, 0
    while True:
        n_told = await work_inbox(session, batch)
        n_left = await asyncio.to_thread(session.ledger.inbox.n_fresh)
        tasks = await _accepted(session, batch, slices)
        hearing = await hearing_of(session, batch)
        is_due = is_due_by(hearing, batch, session.clock.now_us())
        found = await Poller(session).run(tasks, is_due)
        await note_unannounced(session, batch, hearing, len(found.finished))
        reach(CrashPoint.POLLED)
        known = [task for task in tasks if task.is_finished_remotely]
        n_unread = await read_finished(session, [*known, *found.finished])
        waiting = _count(session, tasks, found)
        on_round(waiting)
        is_settled = waiting.n_pending == 0 and n_unread == 0
        unread_rounds = unread_rounds + 1 if waiting.n_pending == 0 else 0
        if is_settled or stop.is_cancelled or unread_rounds > POLL_FAILURES_MAX:
            return waiting
        barren_rounds = barren_rounds + 1 if found.n_failed and not found.n_answered else 0
        if barren_rounds > POLL_FAILURES_MAX:
            raise PollFetchError(str(tasks[0].task_id), f"{barren_rounds} rounds of polling failed")
        progressed = bool(found.finished or n_told)
        interval_s = _next_interval_s(session, interval_s, progressed=progressed)
        await _pause(session, interval_s, stop, n_left)


async def _pause(session: Session, delay_s: float, stop: StopSwitch, n_left: int) -> None:
    """Sleep until something came into the inbox, looking up often enough to be cancelled."""
    until_s = session.clock.elapsed_s() + delay_s
    while not stop.is_cancelled and (left_s := until_s - session.clock.elapsed_s()) > 0:
        await session.clock.sleep(min(left_s, LOOK_UP_S))
        if await asyncio.to_thread(session.ledger.inbox.n_fresh) > n_left:
            return


async def _accepted(session: Session, batch: Batch, slices: Sequence[Slice]) -> list[Intent]:
    states = [IntentState.ACCEPTED]
    return await asyncio.to_thread(
        session.ledger.read.intents_in, batch.ledger_name, slices, states
    )


def _count(session: Session, tasks: Sequence[Intent], found: PollRound) -> Waiting:
    now_us = session.clock.now_us()
    finished = {task.intent_id for task in found.finished}
    finished |= {task.intent_id for task in tasks if task.is_finished_remotely}
    left = [task for task in tasks if task.intent_id not in finished]
    n_stalled = sum(task.shown_status(now_us) == STALLED for task in left)
    return Waiting(len(left) - n_stalled, len(found.finished), n_stalled)


def _next_interval_s(session: Session, interval_s: float, *, progressed: bool) -> float:
    settings = session.settings
    wanted_s = interval_s / 1.5 if progressed else interval_s * 1.5
    return min(settings.poll_interval_max_s, max(settings.poll_interval_min_s, wanted_s))
