"""
The ASGI app: from a request to its route, its endpoint, its fault and its answer.

A request is counted when it arrives and takes effect before any fault swallows its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from mynth_dagster.clock import Clock, SystemClock
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import (
    POLLED,
    Answer,
    Call,
    Route,
    answer_json,
    date_of,
    find_route,
)
from mynth_dagster.simulator.deliveries import Courier, Outbox
from mynth_dagster.simulator.destinations import DestinationStore
from mynth_dagster.simulator.endpoints import control
from mynth_dagster.simulator.endpoints.table import CORS, find_endpoint
from mynth_dagster.simulator.faults import (
    BodyTooLargeError,
    FaultPicker,
    compose_refusal,
    cut,
    read_body,
    retry_after,
    send_answer,
    send_truncated,
    spoil,
    task_id_in,
)
from mynth_dagster.simulator.images import UploadStore, pixels_of
from mynth_dagster.simulator.request_log import CUT, Connections, Journal, compose_log
from mynth_dagster.simulator.revisions import REVISIONS
from mynth_dagster.simulator.scenario import FaultRule, Scenario
from mynth_dagster.simulator.state import Archive, World
from mynth_dagster.simulator.tasks import draw
from mynth_dagster.simulator.validation import TOO_LARGE, Refusal
from mynth_dagster.simulator.webhooks import WebhookStore

# Everything a request can reach: the world, its files and webhooks, and the revision spoken.


class Service:
    """
    A simulated Mynth under one scenario; replaced whole by a reset.

    Raises:
        ScenarioError: The tasks in the archive were made under another scenario.
    """

    def __init__(self, scenario: Scenario, clock: Clock, archive: Archive | None = None) -> None:
        self.clock = clock
        self.world = World(scenario, clock)
        self.uploads = UploadStore(scenario.seed)
        self.webhooks = WebhookStore(scenario, clock.now_us())
        self.destinations = DestinationStore(scenario, clock.now_us())
        self.faults = FaultPicker(scenario)
        self._adopt(scenario)
        self.outbox = Outbox(self)
        if archive is not None:
            archive.restore(self.world, self.revision)
            self.world.on_created.append(archive.add)
        self.world.on_finished.append(self.outbox.announce)

    def change(self, scenario: Scenario) -> None:
        """Play on under a changed scenario."""
        self.world.change(scenario)
        self.webhooks.adopt(scenario, self.scenario, self.clock.now_us())
        self.destinations.adopt(scenario, self.scenario, self.clock.now_us())
        self.faults = self.faults.change(scenario)
        self._adopt(scenario)

    def pixels_of(self, url: str) -> str:
        """Width and height of an image by its URL; those of foreign ones are invented."""
        name = urlsplit(url).path.rpartition("/cdn/")[2]
        upload = self.uploads.find(name)
        if upload is not None:
            return pixels_of(upload.content) or defaults.SOURCE_PIXELS
        found = self.world.find_image(name.rpartition(".")[0])
        return defaults.SOURCE_PIXELS if found is None else found[0].outcome.pixels

    def _adopt(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.quirks = scenario.effective_quirks
        self.revision = REVISIONS[scenario.revision]
        self.delays = not scenario.response_delay_s.is_nothing


_CUTS = frozenset({"lost_answer", "reset", "reset_after"})
_ANSWERS_WITH_STATUS = frozenset(
    {"server_error", "server_error_with_task", "rate_limited", "status"}
)


def create_app(scenario: Scenario, *, clock: Clock | None = None) -> Simulator:
    """The simulator as an ASGI app; see `Simulator`."""
    return Simulator(scenario, clock=clock)


class Simulator:
    """
    A simulated Mynth as an ASGI app.

    All its methods must be called on the thread that serves it.
    """

    def __init__(
        self, scenario: Scenario, *, clock: Clock | None = None, archive: Archive | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.connections = Connections()
        self.journal = Journal()
        self._archive = archive
        self.service = Service(scenario, self.clock, archive)
        self._n_delayed = 0
        self._pauses: set[asyncio.Future[None]] = set()

    @property
    def scenario(self) -> Scenario:
        """What is being played."""
        return self.service.scenario

    def log(self, *, lists: bool = True) -> dict[str, Any]:
        """What ``GET /_simulator/log`` answers; without its lists if not ``lists``."""
        service = self.service
        return compose_log(
            service.world,
            self.journal,
            self.connections,
            service.outbox,
            n_uploads=service.uploads.n_added,
            lists=lists,
        )

    def reset(self, scenario: Scenario | None = None) -> None:
        """Forget all tasks, money and counts, and start over."""
        if self._archive is not None:
            self._archive.clear()
        self.service = Service(scenario or self.scenario, self.clock, self._archive)
        self.journal.restart()
        self.connections.restart()
        self._n_delayed = 0

    def change(self, changes: Mapping[str, Any]) -> None:
        """
        Replace some fields of the scenario; tasks, money and counts stay.

        Raises:
            ScenarioError: A field is unknown or does not fit; nothing was changed.
        """
        self.service.change(self.scenario.changed(changes))

    def complete(self, task_ids: Iterable[str] | None = None) -> int:
        """Settle some tasks, or all that are pending; how many were pending."""
        return self.service.world.complete(task_ids)

    async def deliver(self) -> None:
        """Deliver webhooks until cancelled; whoever serves the app runs this beside it."""
        await Courier(self).run()

    def close(self) -> None:
        """End every deliberate delay by cutting its connection."""
        for pause in tuple(self._pauses):
            pause.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await _follow_lifespan(scope, receive, send)
        if scope["path"].startswith(control.PREFIX):
            return await self._control(scope, receive, send)
        route = find_route(scope["method"], scope["path"])
        self.journal.arrived(route.name)
        try:
            await self._serve(scope, receive, send, route)
        finally:
            self.journal.left()

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, defaults.MAX_BODY_BYTES)
        query = scope["query_string"]
        answer = control.answer_control(self, scope["method"], scope["path"], query, body)
        await send_answer(send, answer)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        service = self.service
        is_upload = route.pattern == "/image/upload"
        most = defaults.MAX_UPLOAD_BODY_BYTES if is_upload else defaults.MAX_BODY_BYTES
        try:
            body = await read_body(receive, most)
        except BodyTooLargeError:
            await self._send(scope, send, self._refuse(Refusal(TOO_LARGE, defaults.TOO_LARGE_TEXT)))
            return
        except ConnectionResetError:
            return
        call = Call(scope, route, body, service)
        fault = self._pick_fault(call)
        call.token_fails = fault is not None and fault.kind == "token_failed"
        answer = await self._carry_out(call, fault)
        if service.delays or (fault is not None and fault.delay_s):
            try:
                await self._delay(fault)
            except asyncio.CancelledError:
                await self._cut(scope, receive, with_reset=False)
                return
        if fault is None:
            await self._send(scope, send, answer)
        else:
            await self._send_faulty(scope, receive, send, fault, answer)

    def _pick_fault(self, call: Call) -> FaultRule | None:
        faults = self.service.faults
        if not faults.rules:
            return None
        prompt = None
        if faults.needs_prompt and call.body:
            prompt = call.prompt
        return faults.pick(call.route, prompt)

    async def _carry_out(self, call: Call, fault: FaultRule | None) -> Answer:
        answer = Answer(200)
        if fault is None or fault.carries_out:
            answer = await self._answer(call)
        if fault is not None and fault.kind in _ANSWERS_WITH_STATUS:
            now_us = self.clock.now_us()
            answer = self._refuse(compose_refusal(fault, task_id_in(answer)))
            answer.headers += retry_after(fault, now_us)
        if call.route.pattern in POLLED:
            answer.headers.append(CORS)
        answer.headers.append(date_of(self.clock.now_us()))
        return answer if fault is None else spoil(fault, answer)

    async def _answer(self, call: Call) -> Answer:
        service = call.service
        try:
            offers_review = bool(service.quirks.offers_review)
            endpoint = find_endpoint(call.route, service.revision, offers_review=offers_review)
            answer = endpoint(call)
            return answer if isinstance(answer, Answer) else await answer
        except Refusal as refusal:
            return self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> Answer:
        revision = self.service.revision
        told = refusal.renamed(revision.REASONS)
        return answer_json(revision.answers.error(told, self.service.quirks), told.status)

    async def _delay(self, fault: FaultRule | None) -> None:
        self._n_delayed += 1
        share = draw(self.scenario.seed, "delay", self._n_delayed)
        delay_s = self.scenario.response_delay_s.at(share)
        if fault is not None:
            delay_s += fault.delay_s
        pause = asyncio.ensure_future(self.clock.sleep(delay_s))
        self._pauses.add(pause)
        try:
            await pause
        finally:
            self._pauses.discard(pause)

    async def _send_faulty(
        self, scope: Scope, receive: Receive, send: Send, fault: FaultRule, answer: Answer
    ) -> None:
        if fault.kind in _CUTS:
            await self._cut(scope, receive, with_reset=fault.kind != "lost_answer")
        elif fault.kind == "truncated":
            self.journal.responses[CUT] += 1
            await send_truncated(scope, receive, send, answer)
        else:
            await self._send(scope, send, answer)

    async def _cut(self, scope: Scope, receive: Receive, *, with_reset: bool) -> None:
        self.journal.responses[CUT] += 1
        await cut(scope, receive, with_reset=with_reset)

    async def _send(self, scope: Scope, send: Send, answer: Answer) -> None:
        self.journal.responses[str(answer.status)] += 1
        await send_answer(send, answer, is_head=scope["method"] == "HEAD")


async def _follow_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        raise RuntimeError(f"the simulator speaks HTTP only, not {scope['type']}")
    while True:
        word = (await receive())["type"]
        await send({"type": f"{word}.complete"})
        if word == "lifespan.shutdown":
            return
