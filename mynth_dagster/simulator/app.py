"""
The simulator as an ASGI app: requests with their faults and delays, and its own control routes.

A request is counted when it arrives and takes effect before any fault swallows its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mynth_dagster.clock import US_PER_S, Clock, SystemClock
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.defaults import format_price
from mynth_dagster.simulator.endpoints import (
    POLLED_PATHS,
    OrjsonResponse,
    RequestContext,
    handle,
)
from mynth_dagster.simulator.faults import (
    cut,
    refusal_of,
    retry_after_of,
    send_truncated,
    spoil,
)
from mynth_dagster.simulator.request_log import CUT, ConnectionCounts, RequestCounts, compose_log
from mynth_dagster.simulator.rng import random_share
from mynth_dagster.simulator.scenario import FaultRule, Scenario, ScenarioError
from mynth_dagster.simulator.state import Archive, State
from mynth_dagster.simulator.validation import Refusal
from mynth_dagster.simulator.webhooks import WebhookQueue, WebhookSender

CONTROL_PREFIX = "/_simulator"
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
        self.connections = ConnectionCounts()
        self.counts = RequestCounts()
        self._archive = archive
        self.state = State(scenario, self.clock, archive)
        self._n_delayed = 0
        self._pauses: set[asyncio.Future[None]] = set()

    @property
    def scenario(self) -> Scenario:
        """What is being played."""
        return self.state.scenario

    def log(self, *, lists: bool = True) -> dict[str, Any]:
        """What ``GET /_simulator/log`` answers; without its lists if not ``lists``."""
        return compose_log(self.state, self.counts, self.connections, lists=lists)

    def reset(self, scenario: Scenario | None = None) -> None:
        """Forget all tasks, money and counts, and start over."""
        if self._archive is not None:
            self._archive.clear()
        self.state = State(scenario or self.scenario, self.clock, self._archive)
        self.counts.restart()
        self.connections.restart()
        self._n_delayed = 0

    def change(self, changes: Mapping[str, Any]) -> None:
        """
        Replace some fields of the scenario; tasks, money and counts stay.

        Raises:
            ScenarioError: A field is unknown or does not fit; nothing was changed.
        """
        self.state.change(self.scenario.changed(changes))

    def complete(self, task_ids: Iterable[str] | None = None) -> int:
        """End the named tasks, or all that are pending; how many were pending."""
        return self.state.complete(task_ids)

    async def deliver(self) -> None:
        """Deliver webhooks until cancelled; whoever serves the app runs this beside it."""
        await WebhookSender(self._current_queue).run()

    def close(self) -> None:
        """End every deliberate delay by cutting its connection."""
        for pause in tuple(self._pauses):
            pause.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
        elif scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP only, not {scope['type']}")
        elif scope["path"].startswith(CONTROL_PREFIX):
            response = await self._control(Request(scope, receive))
            await response(scope, receive, send)
        else:
            context = RequestContext(scope, receive, self.state)
            self.counts.arrived(context.route)
            try:
                await self._serve(context, send)
            finally:
                self.counts.left()

    async def _serve(self, context: RequestContext, send: Send) -> None:
        scope, receive = context.scope, context.receive
        try:
            body = await context.body()
        except Refusal as refusal:
            await self._send(_refuse(context, refusal), context, send)
            return
        except ClientDisconnect:
            return
        faults = context.api.faults
        fault = None
        if faults.rules:
            prompt = await context.prompt() if faults.needs_prompt and body else None
            fault = faults.pick(context.route, context.entry_id, prompt)
        response = await self._respond(context, fault)
        delay = context.api.scenario.response_delay_s
        if not delay.is_nothing or (fault is not None and fault.delay_s):
            self._n_delayed += 1
            share = random_share(self.scenario.seed, "delay", self._n_delayed)
            try:
                await self._pause(delay.at(share) + (0.0 if fault is None else fault.delay_s))
            except asyncio.CancelledError:
                await self._cut(context, with_reset=False)
                return
        if fault is not None and fault.kind in _CUTS:
            await self._cut(context, with_reset=fault.kind != "lost_answer")
        elif fault is not None and fault.kind == "truncated":
            self.counts.responses[CUT] += 1
            await send_truncated(response, scope, receive, send)
        else:
            await self._send(response, context, send)

    async def _respond(self, context: RequestContext, fault: FaultRule | None) -> Response:
        """What is answered, before any of it is lost on the way."""
        now_us = self.clock.now_us()
        response = None
        context.token_fails = fault is not None and fault.kind == "token_failed"
        if fault is None or fault.carries_out:
            try:
                response = await handle(context)
            except Refusal as refusal:
                response = _refuse(context, refusal)
        if fault is not None and fault.kind in _ANSWERS_WITH_STATUS:
            response = _refuse(context, refusal_of(fault, response))
            retry_after = retry_after_of(fault, now_us)
            if retry_after is not None:
                response.headers["retry-after"] = retry_after
        if response is None:
            response = OrjsonResponse(None)  # of a reset, or of a page that takes its place
        if context.path in POLLED_PATHS:
            response.raw_headers.append((b"access-control-allow-origin", b"*"))
        response.raw_headers.append((b"date", _http_date(now_us // US_PER_S)))
        return response if fault is None else spoil(fault, response)

    async def _pause(self, delay_s: float) -> None:
        pause = asyncio.ensure_future(self.clock.sleep(delay_s))
        self._pauses.add(pause)
        try:
            await pause
        finally:
            self._pauses.discard(pause)

    async def _cut(self, context: RequestContext, *, with_reset: bool) -> None:
        self.counts.responses[CUT] += 1
        await cut(context.scope, context.receive, with_reset=with_reset)

    async def _send(self, response: Response, context: RequestContext, send: Send) -> None:
        self.counts.responses[str(response.status_code)] += 1
        if context.method == "HEAD":
            response.body = b""
        await response(context.scope, context.receive, send)

    def _current_queue(self) -> WebhookQueue:
        self.state.complete_due()
        return self.state.webhook_queue

    # The simulator's own routes.

    async def _control(self, request: Request) -> Response:
        """The answer of a control route; 400 and 404 in plain words."""
        try:
            body = await request.body()
            payload = self._obey(request, orjson.loads(body) if body else {})
        except (ScenarioError, orjson.JSONDecodeError) as exc:
            return OrjsonResponse({"error": str(exc)}, 400)
        except KeyError as exc:
            return OrjsonResponse({"error": f"there is no task {exc.args[0]}"}, 404)
        if payload is None:
            return OrjsonResponse({"error": "the simulator has no such control route"}, 404)
        return OrjsonResponse(payload)

    def _obey(self, request: Request, changes: object) -> dict[str, Any] | None:
        if not isinstance(changes, dict):
            raise ScenarioError("the request body must be a JSON object")
        route = f"{request.method} {request.url.path.removeprefix(CONTROL_PREFIX)}"
        if route in ("GET ", "GET /"):
            return self._describe()
        if route == "GET /log":
            return self.log(lists=request.query_params.get("view") != "summary")
        if route == "POST /complete":
            return {"completed": self.complete(changes.get("task_ids"))}
        if route == "POST /reset":
            self.reset(self.scenario.changed(changes))
        elif route == "POST /scenario":
            self.change(changes)
        elif route != "GET /scenario":
            return None
        return self.scenario.to_dict()

    def _describe(self) -> dict[str, Any]:
        prices = self.state.prices
        prices_usd = {
            model_id: {
                name: None if units is None else format_price(units)
                for name, units in asdict(prices[model_id]).items()
            }
            for model_id in prices.models
        }
        control = ("GET /log", "GET /log?view=summary", "POST /reset", "GET /scenario")
        routes = [*control, "POST /scenario", "POST /complete"]
        return {
            "notice": defaults.NOTICE,
            "revision": self.scenario.revision,
            "routes": sorted(self.state.revision.routes),
            "control": [route.replace(" ", f" {CONTROL_PREFIX}") for route in routes],
            "invented": {
                "prices_usd": prices_usd,
                "pixels": {**defaults.PIXELS, **self.scenario.pixels},
                "auto_ceiling_usd": self.scenario.auto_ceiling_usd,
            },
            "scenario": self.scenario.to_dict(),
        }


def _refuse(context: RequestContext, refusal: Refusal) -> Response:
    body, status = context.api.revision.refuse(refusal, context.api.quirks)
    return OrjsonResponse(body, status)


@lru_cache(maxsize=4)
def _http_date(at_s: int) -> bytes:
    return formatdate(at_s, usegmt=True).encode()
