"""Sends what is due in the outbox, over HTTP, from the simulator's own loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from mynth_dagster.simulator.outbox import Outbox, Parcel

if TYPE_CHECKING:
    import aiohttp

    from mynth_dagster.simulator.app import Simulator

TICK_S = 0.05
"""How often, in real seconds, the clock is looked at for tasks and retries that fell due."""

IN_FLIGHT_MAX = 64


class Courier:
    """Delivers for one simulator while `run` runs; a reset drops what is on its way."""

    def __init__(self, app: Simulator) -> None:
        self._app = app
        self._news = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                self._start_due()
                await self._pause()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            if self._http is not None:
                await self._http.close()

    def _start_due(self) -> None:
        service = self._app.service
        service.outbox.on_news = self._news.set
        service.world.settle_due()
        for parcel in service.outbox.due():
            task = asyncio.ensure_future(self._send(service.outbox, parcel))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _pause(self) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), TICK_S)
        self._news.clear()

    async def _send(self, outbox: Outbox, parcel: Parcel) -> None:
        import aiohttp  # noqa: PLC0415 - costs more than starting a simulator that sends nothing

        if self._http is None:
            connector = aiohttp.TCPConnector(limit=IN_FLIGHT_MAX)
            jar = aiohttp.DummyCookieJar()
            self._http = aiohttp.ClientSession(connector=connector, cookie_jar=jar)
        status: int | None = None
        timeout_s = self._app.scenario.deliveries.timeout_s
        with suppress(aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError):
            async with self._http.post(
                parcel.url,
                data=parcel.body,
                headers=outbox.headers(parcel),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                status = answer.status
        outbox.answered(parcel, status)
