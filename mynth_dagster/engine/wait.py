"""Waiting in the run until a set of partitions is settled; polling and reading overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mynth_dagster.engine.collect import read_finished
from mynth_dagster.engine.poll import Poller
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import PollFetchError
from mynth_dagster.limits import POLL_FAILURES_MAX
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.transitions import STALLED, IntentState


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
    Poll until no task is pending before its deadline, reading tasks as they finish.

    Raises:
        UnauthorizedError: The key is refused.
        PollFetchError: Too many rounds in a row in which nothing could be read.
    """
    interval_s, barren_rounds = session.settings.poll_interval_min_s, 0
    while True:
        tasks = await _accepted(session, batch, slices)
        pending = [task for task in tasks if not task.is_finished_remotely]
        found = await Poller(session).run(tasks)
        unread = [task for task in tasks if task.is_finished_remotely]
        n_unread = await read_finished(session, [*unread, *found.finished])
        waiting = _count(session, tasks, len(found.finished))
        on_round(waiting)
        is_barren = bool(found.n_failed or n_unread) and not found.finished
        barren_rounds = barren_rounds + 1 if is_barren else 0
        if barren_rounds >= POLL_FAILURES_MAX and pending:
            raise PollFetchError(str(pending[0].task_id), f"{barren_rounds} rounds failed")
        if (waiting.n_pending == 0 and n_unread == 0) or stop.is_set:
            return waiting
        interval_s = _next_interval_s(session, interval_s, progressed=bool(found.finished))
        await session.clock.sleep(interval_s)


async def _accepted(session: Session, batch: Batch, slices: Sequence[Slice]) -> list[Intent]:
    states = [IntentState.ACCEPTED]
    return await asyncio.to_thread(
        session.ledger.read.intents_in, batch.ledger_name, slices, states
    )


def _count(session: Session, tasks: Sequence[Intent], n_finished: int) -> Waiting:
    now_us = session.clock.now_us()
    n_stalled = sum(task.shown_status(now_us) == STALLED for task in tasks)
    n_unfinished = sum(not task.is_finished_remotely for task in tasks)
    return Waiting(max(0, n_unfinished - n_finished - n_stalled), n_finished, n_stalled)


def _next_interval_s(session: Session, interval_s: float, *, progressed: bool) -> float:
    settings = session.settings
    wanted_s = interval_s / 1.5 if progressed else interval_s * 1.5
    return min(settings.poll_interval_max_s, max(settings.poll_interval_min_s, wanted_s))
