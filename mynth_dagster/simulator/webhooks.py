"""
Webhooks: which are registered, what is to be delivered to whom and when, and the sending itself.

An event goes to every registered webhook of the task's account that wants it (signed), and to
every endpoint that the request itself named (unsigned).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from mynth_dagster.clock import US_PER_S, Clock
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.rng import make_id, random_share
from mynth_dagster.simulator.scenario import Endpoint, Quirks, Scenario
from mynth_dagster.simulator.tasks import SimulatedTask

if TYPE_CHECKING:
    import aiohttp

_ID_PREFIXES = {"2026-10": "whk_"}


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """
    What a registered webhook shall be: body of its creation and of its replacement.

    ``api_key_ids`` None: tasks of all keys; ``include_session_tasks``: and those without a key.
    """

    enabled: bool
    url: str
    events: str | list[str]
    api_key_ids: tuple[str, ...] | None = None
    include_session_tasks: bool = False

    def wants(self, task: SimulatedTask) -> bool:
        """Whether the event of a task's end is let through; wildcards filter only."""
        if not self.enabled:
            return False
        if self.api_key_ids is not None and task.key.key_id not in self.api_key_ids:
            return False
        events = [self.events] if isinstance(self.events, str) else self.events
        return not {task.event, "all", f"task.{task.status}"}.isdisjoint(events)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One registered webhook of an account; times are UTC microseconds."""

    webhook_id: str
    user_id: str
    secret: str
    spec: WebhookSpec
    created_us: int
    updated_us: int


class WebhookStore:
    """The registered webhooks of all accounts."""

    def __init__(self, scenario: Scenario, at_us: int) -> None:
        self._seed = scenario.seed
        self._revision = scenario.revision
        self._n_added = 0
        self._webhooks: dict[str, Webhook] = {}
        self.n_disabled = 0
        for endpoint in scenario.webhooks:
            self._register(endpoint, at_us)

    def change(self, scenario: Scenario, previous: Scenario, at_us: int) -> None:
        """
        Register what a changed scenario has and the one before had not.

        An endpoint with the address of one that was there takes its place, with its secret.
        """
        self._revision = scenario.revision
        known = {(endpoint.user_id, endpoint.url) for endpoint in previous.webhooks}
        for endpoint in scenario.webhooks:
            user_id, url = endpoint.user_id, endpoint.url
            if endpoint in previous.webhooks:
                continue
            there = [webhook for webhook in self.list_of(user_id) if webhook.spec.url == url]
            if there and (user_id, url) in known:
                changed = replace(there[0], secret=_secret_of(endpoint))
                self.replace(changed, _spec_of(endpoint), at_us)
            else:
                self._register(endpoint, at_us)

    def list_of(self, user_id: str) -> list[Webhook]:
        """An account's webhooks in the order of their creation."""
        return [webhook for webhook in self._webhooks.values() if webhook.user_id == user_id]

    def find(self, webhook_id: str | None, user_id: str | None = None) -> Webhook | None:
        """A webhook by its id, of one account if it is given."""
        webhook = self._webhooks.get(webhook_id or "")
        if webhook is None or user_id not in (None, webhook.user_id):
            return None
        return webhook

    def add(
        self, spec: WebhookSpec, user_id: str, new_secret: Callable[[int, int], str], at_us: int
    ) -> Webhook:
        """Register a webhook, with a secret made from seed and running number."""
        return self._keep(spec, user_id, new_secret(self._seed, self._n_added + 1), at_us)

    def replace(self, webhook: Webhook, spec: WebhookSpec, at_us: int) -> Webhook:
        """Replace all that can be chosen."""
        changed = replace(webhook, spec=spec, updated_us=at_us)
        self._webhooks[webhook.webhook_id] = changed
        return changed

    def disable(self, webhook_id: str, at_us: int) -> None:
        """Deliver to it no more, until it is replaced by one that is enabled."""
        webhook = self.find(webhook_id)
        if webhook is not None and webhook.spec.enabled:
            self.replace(webhook, replace(webhook.spec, enabled=False), at_us)
            self.n_disabled += 1

    def remove(self, webhook: Webhook) -> None:
        """Forget a webhook."""
        del self._webhooks[webhook.webhook_id]

    def _register(self, endpoint: Endpoint, at_us: int) -> None:
        self._keep(_spec_of(endpoint), endpoint.user_id, _secret_of(endpoint), at_us)

    def _keep(self, spec: WebhookSpec, user_id: str, secret: str, at_us: int) -> Webhook:
        self._n_added += 1
        webhook_id = make_id(_ID_PREFIXES.get(self._revision, "wh_"), self._seed, self._n_added)
        self._webhooks[webhook_id] = Webhook(webhook_id, user_id, secret, spec, at_us, at_us)
        return self._webhooks[webhook_id]


def _spec_of(endpoint: Endpoint) -> WebhookSpec:
    return WebhookSpec(
        endpoint.enabled,
        endpoint.url,
        list(endpoint.events),
        endpoint.api_key_ids,
        endpoint.include_session_tasks,
    )


def _secret_of(endpoint: Endpoint) -> str:
    return defaults.WEBHOOK_SECRET if endpoint.secret is None else endpoint.secret


# What is to be delivered, and when.


class DeliveryFormat(Protocol):
    """The revision in which a delivery is written."""

    @property
    def name(self) -> str:
        """``2026-10`` and the like."""

    def delivery_headers(
        self, delivery: WebhookDelivery, secret: str | None, at_s: int, quirks: Quirks
    ) -> dict[str, str]:
        """The headers of one attempt at ``at_s`` (Unix seconds); unsigned without a secret."""


@dataclass
class WebhookDelivery:
    """
    One event on its way to one endpoint; times are on `Clock.elapsed_s`.

    ``webhook_id`` is None for an endpoint that the request named; such deliveries are unsigned.
    Body and headers stay in the revision that was spoken when the task ended.
    """

    delivery_id: str
    revision: DeliveryFormat
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

    def report(self) -> dict[str, Any]:
        """For the log: each attempt by the status that answered it, null for none."""
        return {
            "event": self.event,
            "task_id": self.task_id,
            "url": self.url,
            "signed": self.webhook_id is not None,
            "attempts": self.attempts,
            "state": self.state,
        }


class WebhookQueue:
    """
    Deliveries of one simulated Mynth that are not made yet.

    ``on_queued`` is called when there is a new one; ``deliveries`` are those in the log, of which
    older ones are counted only.
    """

    reported_max = 10_000

    def __init__(self, scenario: Scenario, clock: Clock, webhooks: WebhookStore) -> None:
        self.scenario = scenario
        self._clock = clock
        self._webhooks = webhooks
        self._numbers = count(1)
        self._due: list[tuple[float, int, WebhookDelivery]] = []
        self._failures: Counter[str] = Counter()
        self.n_attempts: Counter[str] = Counter()
        self.deliveries: list[WebhookDelivery] = []
        self.on_queued: Callable[[], None] = lambda: None

    def announce(
        self,
        task: SimulatedTask,
        revision: DeliveryFormat,
        compose_event: Callable[[SimulatedTask], object],
    ) -> None:
        """A task ended: queue its event for everyone who is to hear of it."""
        rules, seed = self.scenario.deliveries, self.scenario.seed
        targets = list(self._targets_of(task))
        if not targets:
            return
        body = orjson.dumps(compose_event(task))
        for place, (url, webhook_id) in enumerate(targets):
            delivery = WebhookDelivery(
                delivery_id=make_id("dlv_", seed, next(self._numbers)),
                revision=revision,
                event_id=task.event_id,
                task_id=task.task_id,
                event=task.event,
                url=url,
                body=body,
                webhook_id=webhook_id,
                finished_s=self._clock.elapsed_s(),
            )
            if len(self.deliveries) < self.reported_max:
                self.deliveries.append(delivery)
            if random_share(seed, "lost delivery", task.number, place) < rules.lost_share:
                delivery.state = "lost"
                continue
            delay_s = rules.delay.at(random_share(seed, "delivery delay", task.number, place))
            self._queue(delivery, delivery.finished_s + delay_s)

    def take_due(self) -> Iterator[WebhookDelivery]:
        """Take out what is to be attempted by now."""
        now_s = self._clock.elapsed_s()
        while self._due and self._due[0][0] <= now_s:
            delivery = heappop(self._due)[2]
            if delivery.webhook_id is None or self._enabled_webhook(delivery) is not None:
                yield delivery
            else:
                delivery.state = "withdrawn"

    def headers(self, delivery: WebhookDelivery) -> dict[str, str]:
        """The headers of one attempt, signed anew with the time of now."""
        webhook = self._enabled_webhook(delivery)
        secret = None if webhook is None else webhook.secret
        at_s = self._clock.now_us() // US_PER_S
        quirks = self.scenario.effective_quirks
        return delivery.revision.delivery_headers(delivery, secret, at_s, quirks)

    def record_attempt(self, delivery: WebhookDelivery, status: int | None) -> None:
        """An attempt ended with this status; None: without an answer in time."""
        rules, now_s = self.scenario.deliveries, self._clock.elapsed_s()
        delivery.attempts.append(status)
        is_good = _is_good(status)
        self.n_attempts["acknowledged" if is_good else "failed"] += 1
        if delivery.webhook_id is not None:
            failures = 0 if is_good else self._failures[delivery.webhook_id] + 1
            self._failures[delivery.webhook_id] = failures
            most = rules.disables_after(delivery.revision.name)
            if most is not None and failures >= most:
                self._webhooks.disable(delivery.webhook_id, self._clock.now_us())
        if is_good:
            share = random_share(self.scenario.seed, "duplicate", delivery.delivery_id)
            if share < rules.duplicate_share and not delivery.is_duplicate:
                delivery.is_duplicate = True
                self._queue(delivery, now_s)
            delivery.state = "delivered"
            return
        retry_s = now_s + rules.pause_s(sum(not _is_good(it) for it in delivery.attempts))
        if retry_s - delivery.finished_s > rules.window_s(delivery.revision.name):
            delivery.state = "given up"
        else:
            self._queue(delivery, retry_s)

    def totals(self) -> dict[str, int]:
        """Counts for the log."""
        return {
            "acknowledged": self.n_attempts["acknowledged"],
            "failed": self.n_attempts["failed"],
            "waiting": len(self._due),
            "disabled_webhooks": self._webhooks.n_disabled,
        }

    def _targets_of(self, task: SimulatedTask) -> Iterator[tuple[str, str | None]]:
        is_silenced = task.request.silences_registered
        if not is_silenced:
            for webhook in self._webhooks.list_of(task.key.user_id):
                if webhook.spec.wants(task):
                    yield webhook.spec.url, webhook.webhook_id
        if not (is_silenced and self.scenario.effective_quirks.silence_covers_custom):
            for url in task.request.webhook_urls:
                yield url, None

    def _enabled_webhook(self, delivery: WebhookDelivery) -> Webhook | None:
        webhook = self._webhooks.find(delivery.webhook_id)
        return webhook if webhook is not None and webhook.spec.enabled else None

    def _queue(self, delivery: WebhookDelivery, at_s: float) -> None:
        heappush(self._due, (at_s, next(self._numbers), delivery))
        self.on_queued()


def _is_good(status: int | None) -> bool:
    return status is not None and 200 <= status < 300


# The sending, over HTTP, from the simulator's own loop.


TICK_S = 0.05
"""How often, in real seconds, the clock is looked at for tasks and retries that fell due."""

IN_FLIGHT_MAX = 64


class WebhookSender:
    """
    Sends what is due while `run` runs; a reset drops what is on its way.

    Args:
        current_queue: The present queue, after whatever is due has ended; a reset replaces it.
    """

    def __init__(self, current_queue: Callable[[], WebhookQueue]) -> None:
        self._current_queue = current_queue
        self._http: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Deliver until cancelled."""
        is_queued = asyncio.Event()
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                queue = self._current_queue()
                queue.on_queued = is_queued.set
                for delivery in queue.take_due():
                    attempt = asyncio.ensure_future(self._send(queue, delivery))
                    sending.add(attempt)
                    attempt.add_done_callback(sending.discard)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(is_queued.wait(), TICK_S)
                is_queued.clear()
        finally:
            for attempt in sending:
                attempt.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            if self._http is not None:
                await self._http.close()

    async def _send(self, queue: WebhookQueue, delivery: WebhookDelivery) -> None:
        import aiohttp  # noqa: PLC0415 - costs more than starting a simulator that sends nothing

        if self._http is None:
            connector = aiohttp.TCPConnector(limit=IN_FLIGHT_MAX)
            jar = aiohttp.DummyCookieJar()
            self._http = aiohttp.ClientSession(connector=connector, cookie_jar=jar)
        status: int | None = None
        timeout_s = queue.scenario.deliveries.timeout_s
        with suppress(aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError):
            async with self._http.post(
                delivery.url,
                data=delivery.body,
                headers=queue.headers(delivery),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                status = response.status
        queue.record_attempt(delivery, status)
