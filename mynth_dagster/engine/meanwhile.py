"""Sending in a run that also waits: what is finished already is read while the rest is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from mynth_dagster.engine.answers import SubmitCounts
from mynth_dagster.engine.asking import Asking
from mynth_dagster.engine.look import Looker
from mynth_dagster.engine.pipeline import SubmitReport, submit
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.engine.survey import Survey
from mynth_dagster.engine.wait import LOOK_UP_S
from mynth_dagster.errors import UnauthorizedError
from mynth_dagster.models.batch import Batch, Slice


async def submit_and_look(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    *,
    submitter: str,
    stop: StopSwitch,
    asking: Asking,
    counts: SubmitCounts,
    on_quote: Callable[[Survey, Quote], None],
) -> tuple[SubmitReport, Looker]:
    """
    As `submit`; returns who looked meanwhile too, for the waiting to go on with.

    Raises:
        MynthError: As `submit`, and what the ledger says to a look.
    """
    looker = Looker(session, batch, slices)
    meanwhile = _Meanwhile(session, looker, stop)
    counts.on_accepted = meanwhile.look_if_due
    counts.before_more = meanwhile.catch_up
    try:
        report = await submit(
            session,
            batch,
            slices,
            submitter=submitter,
            stop=stop,
            asking=asking,
            counts=counts,
            on_quote=on_quote,
        )
    except BaseException:
        await meanwhile.give_up()
        raise
    if stop.is_cancelled:
        await meanwhile.give_up()
    await meanwhile.end()
    return report, looker


UNREAD_MAX = 2_000
"""
Finished tasks that may be read while more rows are taken to be sent.

Where sending is faster than reading, what is unread would grow with the table, and with it what
each look holds.
"""


class _Meanwhile:
    """One look at a time, driven by the answers that come: no look without a task since."""

    def __init__(self, session: Session, looker: Looker, stop: StopSwitch) -> None:
        self._clock = session.clock
        self._looker = looker
        self._stop = stop
        self._look: asyncio.Task[object] | None = None

    def look_if_due(self) -> None:
        """A task was accepted."""
        now_s = self._clock.elapsed_s()
        self._looker.pace.begin(now_s)
        is_due = now_s >= self._looker.pace.next_at_s
        if is_due and not self._is_looking and not self._has_failed:
            self._look = asyncio.create_task(self._looker.look())

    async def catch_up(self) -> None:
        """More is sent when what is finished is read, or little of it is left unread."""
        while self._has_much_to_read and not self._stop.is_set:
            assert self._look is not None
            await asyncio.wait([self._look], timeout=LOOK_UP_S)

    async def end(self) -> None:
        """Let the look that is under way end; a refused key is found again by whoever waits."""
        if self._look is not None:
            with suppress(UnauthorizedError):
                await self._look

    async def give_up(self) -> None:
        """Read no further; what was read is kept."""
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
            await asyncio.gather(look, return_exceptions=True)

    @property
    def _has_much_to_read(self) -> bool:
        return self._is_looking and self._looker.n_reading > UNREAD_MAX

    @property
    def _is_looking(self) -> bool:
        return self._look is not None and not self._look.done()

    @property
    def _has_failed(self) -> bool:
        """The error is for whoever comes next; another look would meet it too."""
        look = self._look
        return look is not None and (look.cancelled() or look.exception() is not None)
