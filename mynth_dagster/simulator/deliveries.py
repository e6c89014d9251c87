"""
What is to be delivered to whom, and when, and the sending itself.

An event goes to every registered webhook of the task's account that wants it (signed), and to
every endpoint that the request itself named (unsigned).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import orjson

from mynth_dagster.clock import US_PER_S
from mynth_dagster.simulator.completion import View
from mynth_dagster.simulator.revisions import REVISIONS
from mynth_dagster.simulator.tasks import Inspection, Task, compose_id, draw
from mynth_dagster.simulator.webhooks import Webhook

if TYPE_CHECKING:
    import aiohttp

    from mynth_dagster.simulator.app import Service, Simulator


REPORTS_MAX = 10_000
"""Deliveries in the log; older ones are counted only."""


@dataclass
class Parcel:
    """
    One event on its way to one endpoint; times are on `Clock.elapsed_s`.

    ``webhook_id`` is None for an endpoint that the request named; such deliveries are unsigned.
    Body and headers stay in the revision that was spoken when the task ended.
    """

    parcel_id: str
    revision: str
    event_id: str
    task_id: str
    event: str
    url: str
    body: bytes
    webhook_id: str | None
    finished_s: float
    attempts: list[int | None] = field(default_factory=list)
    is_duplicate: bool = False
    state: str = "waiting"

    def spelled(self) -> dict[str, Any]:
        """For the log: each attempt by the status that answered it, null for none."""
        return {
            "event": self.event,
            "task_id": self.task_id,
            "url": self.url,
            "signed": self.webhook_id is not None,
            "attempts": self.attempts,
            "state": self.state,
        }


class Outbox:
    """
    Events of one simulated Mynth that are not delivered yet.

    ``base_url`` is where clients reach the images; ``on_news`` is called when something is due.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers = count(1)
        self._due: list[tuple[float, int, Parcel]] = []
        self._failures: Counter[str] = Counter()
        self.reports: list[Parcel] = []
        self.n_attempts: Counter[str] = Counter()
        self.base_url = ""
        self.on_news: Callable[[], None] = lambda: None

    def announce(self, task: Task) -> None:
        """A task ended: queue its event for everyone who is to hear of it."""
        rules, seed = self._service.scenario.deliveries, self._service.scenario.seed
        targets = list(self._targets(task))
        if not targets:
            return
        body = orjson.dumps(self._service.revision.answers.event(task, self._view))
        for place, (url, webhook_id) in enumerate(targets):
            parcel = Parcel(
                parcel_id=compose_id("dlv_", seed, next(self._numbers)),
                revision=self._service.revision.REVISION,
                event_id=task.event_id,
                task_id=task.task_id,
                event=event_name(task),
                url=url,
                body=body,
                webhook_id=webhook_id,
                finished_s=self._service.clock.elapsed_s(),
            )
            self._report(parcel)
            if draw(seed, "lost delivery", task.number, place) < rules.lost_share:
                parcel.state = "lost"
                continue
            delay_s = rules.delay.at(draw(seed, "delivery delay", task.number, place))
            self._queue(parcel, parcel.finished_s + delay_s)

    def due(self) -> Iterator[Parcel]:
        """Take out what is to be attempted by now."""
        now_s = self._service.clock.elapsed_s()
        while self._due and self._due[0][0] <= now_s:
            parcel = heappop(self._due)[2]
            if parcel.webhook_id is None or self._webhook(parcel) is not None:
                yield parcel
            else:
                parcel.state = "withdrawn"

    def headers(self, parcel: Parcel) -> dict[str, str]:
        """The headers of one attempt, signed anew with the time of now."""
        webhook = self._webhook(parcel)
        secret = None if webhook is None else webhook.secret
        at_s = self._service.clock.now_us() // US_PER_S
        deliveries = REVISIONS[parcel.revision].deliveries
        return deliveries.headers(parcel, secret, at_s, self._service.quirks)

    def answered(self, parcel: Parcel, status: int | None) -> None:
        """An attempt ended with this status; None: without an answer in time."""
        parcel.attempts.append(status)
        is_good = status is not None and 200 <= status < 300
        self.n_attempts["acknowledged" if is_good else "failed"] += 1
        self._count_failure(parcel, is_good=is_good)
        if is_good:
            self._deliver_again(parcel)
            parcel.state = "delivered"
        else:
            self._retry(parcel)

    def totals(self) -> dict[str, int]:
        """Counts for the log."""
        webhooks = self._service.webhooks
        return {
            "acknowledged": self.n_attempts["acknowledged"],
            "failed": self.n_attempts["failed"],
            "waiting": len(self._due),
            "disabled_webhooks": webhooks.n_disabled,
        }

    @property
    def _view(self) -> View:
        scenario = self._service.scenario
        base_url = scenario.public_url.rstrip("/") if scenario.public_url else self.base_url
        return View.under(base_url, scenario, self._service.destinations)

    def _targets(self, task: Task) -> Iterator[tuple[str, str | None]]:
        order = None if isinstance(task.order, Inspection) else task.order
        is_silenced = order is not None and order.silences_registered
        if not is_silenced:
            for webhook in self._service.webhooks.of(task.key.user_id):
                if webhook.wish.enabled and wants(webhook, event_name(task), task.key.key_id):
                    yield webhook.wish.url, webhook.webhook_id
        if order is not None and not (is_silenced and self._service.quirks.silence_covers_custom):
            for url in order.webhook_urls:
                yield url, None

    def _webhook(self, parcel: Parcel) -> Webhook | None:
        if parcel.webhook_id is None:
            return None
        webhook = self._service.webhooks.find(parcel.webhook_id)
        return webhook if webhook is not None and webhook.wish.enabled else None

    def _count_failure(self, parcel: Parcel, *, is_good: bool) -> None:
        if parcel.webhook_id is None:
            return
        failures = 0 if is_good else self._failures[parcel.webhook_id] + 1
        self._failures[parcel.webhook_id] = failures
        most = self._service.scenario.deliveries.disables_after(parcel.revision)
        if most is not None and failures >= most:
            self._service.webhooks.disable(parcel.webhook_id, self._service.clock.now_us())

    def _deliver_again(self, parcel: Parcel) -> None:
        rules = self._service.scenario.deliveries
        toss = draw(self._service.scenario.seed, "duplicate", parcel.parcel_id)
        if toss < rules.duplicate_share and not parcel.is_duplicate:
            parcel.is_duplicate = True
            self._queue(parcel, self._service.clock.elapsed_s())

    def _retry(self, parcel: Parcel) -> None:
        rules = self._service.scenario.deliveries
        n_failures = sum(not (status and 200 <= status < 300) for status in parcel.attempts)
        at_s = self._service.clock.elapsed_s() + rules.pause_s(n_failures)
        if at_s - parcel.finished_s > rules.window_s(parcel.revision):
            parcel.state = "given up"
        else:
            self._queue(parcel, at_s)

    def _queue(self, parcel: Parcel, at_s: float) -> None:
        heappush(self._due, (at_s, next(self._numbers), parcel))
        self.on_news()

    def _report(self, parcel: Parcel) -> None:
        if len(self.reports) < REPORTS_MAX:
            self.reports.append(parcel)


def event_name(task: Task) -> str:
    """``task.image.generate.completed`` and its like; always the specific name."""
    return f"task.{task.type}.{task.status}"


def wants(webhook: Webhook, event: str, key_id: str) -> bool:
    """Whether a webhook's filters let an event of a key's task through; wildcards filter only."""
    key_ids = webhook.wish.api_key_ids
    if key_ids is not None and key_id not in key_ids:
        return False
    events = webhook.wish.events
    chosen = [events] if isinstance(events, str) else events
    return not {event, "all", f"task.{event.rpartition('.')[2]}"}.isdisjoint(chosen)


# Sends what is due in the outbox, over HTTP, from the simulator's own loop.


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
        service.world.complete_due()
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
