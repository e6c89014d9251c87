"""Where events are put: the ledger's inbox, opened when first needed and again when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from mynth_dagster.clock import US_PER_S, Clock
from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import InboxEvent
from mynth_dagster.limits import INBOX_KEPT_S, WEBHOOK_COMMIT_TIMEOUT_S, WEBHOOK_WAITING_MAX

T = TypeVar("T")
TIDIED_EVERY_S = 86_400.0


class Shelf:
    """
    One ledger, shared by all requests of a receiver; lives on one event loop.

    A ledger that does not answer costs each request `WEBHOOK_COMMIT_TIMEOUT_S` at most, and all
    of them together a bounded number of writes that wait.
    """

    def __init__(self, ledger_url: str, clock: Clock) -> None:
        self._ledger_url = ledger_url
        self._clock = clock
        self._opening: asyncio.Task[Ledger] | None = None
        self._tidied_at_s: float | None = None
        self._waiting: set[asyncio.Future[bool]] = set()

    @property
    def is_open(self) -> bool:
        """Whether the ledger was reached."""
        opening = self._opening
        is_done = opening is not None and opening.done() and not opening.cancelled()
        return is_done and opening is not None and opening.exception() is None

    async def open(self) -> Ledger:
        """
        The ledger, opened if need be.

        Raises:
            LedgerError: It cannot be opened; the next call tries again.
            ConfigError: The URL is no ledger's.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._opening is opening:
                self._opening = None
            raise

    async def keep(self, event: InboxEvent) -> bool:
        """
        Commit an event; False if it was kept before.

        Raises:
            LedgerError: The ledger did not confirm.
            ConfigError: The ledger cannot be opened at all.
        """
        if len(self._waiting) >= WEBHOOK_WAITING_MAX:
            raise LedgerUnavailableError("too many events wait for the ledger")
        write = asyncio.ensure_future(self._keep(event))
        self._waiting.add(write)
        write.add_done_callback(self._done)
        return await _in_time(asyncio.shield(write))

    async def differs(self, event: InboxEvent) -> bool:
        """
        Whether an event with this id was kept before with another body.

        Raises:
            LedgerError: The ledger does not answer.
        """
        ledger = await _in_time(self.open())
        return await _in_time(asyncio.to_thread(ledger.inbox.differs, event))

    async def ping(self) -> None:
        """
        Prove that the ledger answers.

        Raises:
            LedgerError: It does not.
        """
        ledger = await _in_time(self.open())
        await _in_time(asyncio.to_thread(ledger.read.meta, "ledger_id"))

    async def remember(self, key: str, value: str) -> None:
        """
        Remember one fact in the ledger.

        Raises:
            LedgerError: The ledger did not confirm.
        """
        ledger = await _in_time(self.open())
        await _in_time(ledger.set_meta(key, value))

    async def tidy(self) -> None:
        """
        Forget events that were worked long ago; once a day.

        Raises:
            LedgerError: The ledger did not confirm.
        """
        now_s = self._clock.elapsed_s()
        if self._tidied_at_s is not None and now_s - self._tidied_at_s < TIDIED_EVERY_S:
            return
        self._tidied_at_s = now_s
        ledger = await _in_time(self.open())
        kept_us = round(INBOX_KEPT_S * US_PER_S)
        await _in_time(ledger.inbox.forget(self._clock.now_us() - kept_us))

    async def close(self) -> None:
        """Commit what waits and let go of the database."""
        if self._opening is None:
            return
        opened = (await asyncio.gather(self._opening, return_exceptions=True))[0]
        self._opening = None
        if isinstance(opened, Ledger):
            await asyncio.to_thread(opened.close)

    async def _open(self) -> Ledger:
        return await asyncio.to_thread(Ledger.open, self._ledger_url)

    async def _keep(self, event: InboxEvent) -> bool:
        ledger = await self.open()
        return await ledger.inbox.receive(event)

    def _done(self, write: asyncio.Future[bool]) -> None:
        self._waiting.discard(write)
        if not write.cancelled():
            write.exception()  # whoever waited may have left; the error is not lost on anybody


async def _in_time(waiting: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(waiting, WEBHOOK_COMMIT_TIMEOUT_S)
    except asyncio.TimeoutError:
        said = f"the ledger did not answer within {WEBHOOK_COMMIT_TIMEOUT_S:g} s"
        raise LedgerUnavailableError(said) from None
