"""Waiting in the run until a set of partitions is settled, reading tasks as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mynth_dagster.engine.look import Looker, Waiting
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import PollFetchError
from mynth_dagster.limits import POLL_FAILURES_MAX
from mynth_dagster.models.batch import Batch, Slice

LOOK_UP_S = 1.0
"""How often a pause looks whether the run was cancelled or an event came."""


async def wait_until_settled(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    *,
    stop: StopSwitch,
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


async def _pause(session: Session, until_s: float, stop: StopSwitch, n_left: int) -> None:
    """Sleep until something came into the inbox, looking up often enough to be cancelled."""
    while not stop.is_cancelled and (left_s := until_s - session.clock.elapsed_s()) > 0:
        await session.clock.sleep(min(left_s, LOOK_UP_S))
        if await asyncio.to_thread(session.ledger.inbox.n_fresh) > n_left:
            return
