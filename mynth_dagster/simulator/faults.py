"""
Faults on the wire: which request is hit, and what its answer turns into.

The choice is a pure function of the rules and of what was counted before. Cutting a connection
needs its transport, which `server` puts into the ASGI scope.
"""

from __future__ import annotations

import socket
import struct
from asyncio import Transport
from collections import Counter
from datetime import timedelta
from email.utils import format_datetime

import orjson
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from mynth_dagster.clock import utc_from_us
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.rng import random_share, random_whole
from mynth_dagster.simulator.scenario import FaultRule, Scenario
from mynth_dagster.simulator.validation import RATE_LIMITED, SERVER, ErrorCode, Refusal

ANY_ROUTE = "*"


class FaultPicker:
    """Decides which requests a scenario's faults hit, counting as they come."""

    def __init__(self, scenario: Scenario) -> None:
        self.rules = scenario.faults
        self._seed = scenario.seed
        self._matched: Counter[int] = Counter()
        self._fired: Counter[int] = Counter()
        self._seen: Counter[tuple[int, int]] = Counter()
        self.needs_prompt = any(
            rule.prompt_contains is not None or 0 < rule.share < 1 for rule in self.rules
        )

    def change(self, scenario: Scenario) -> FaultPicker:
        """A picker for a changed scenario; equal rules go on counting."""
        changed = FaultPicker(scenario)
        if changed.rules == self.rules:
            changed._matched, changed._fired = self._matched, self._fired
            changed._seen = self._seen
        return changed

    def pick(self, route: str, entry_id: str, prompt: str | None) -> FaultRule | None:
        """
        The fault that hits a request, or None.

        Args:
            route: ``GET /tasks/:id/status`` and the like.
            entry_id: What stands for ``:id``, or an empty string.
            prompt: The request's prompt; None if it has none.
        """
        for position, rule in enumerate(self.rules):
            if rule.route not in (route, ANY_ROUTE):
                continue
            if rule.task_id is not None and rule.task_id != entry_id:
                continue
            if rule.prompt_contains is not None and rule.prompt_contains not in (prompt or ""):
                continue
            if self._fires(position, rule, f"{route} {prompt or entry_id}"):
                self._fired[position] += 1
                return rule
        return None

    def _fires(self, position: int, rule: FaultRule, subject: str) -> bool:
        self._matched[position] += 1
        nth = self._matched[position]
        if nth <= rule.after or (rule.first is not None and nth > rule.first):
            return False
        if rule.count is not None and self._fired[position] >= rule.count:
            return False
        if rule.every is not None and (nth - rule.after) % rule.every:
            return False
        if rule.share >= 1:
            return True
        seen = (position, random_whole(0, subject))
        self._seen[seen] += 1
        share = random_share(self._seed, "fault", position, subject, self._seen[seen])
        return share < rule.share


def refusal_of(rule: FaultRule, response: Response | None) -> Refusal:
    """The error that a fault answers with; it may tell the task that ``response`` tells of."""
    usual = RATE_LIMITED if rule.http_status == 429 else SERVER
    error = usual if rule.code is None else ErrorCode(rule.code.lower(), usual.status)
    text = defaults.RATE_TEXT if usual is RATE_LIMITED else defaults.SERVER_TEXT
    extra = {}
    task_id = None if response is None else _task_id_in(response)
    if rule.task_id_field is not None and task_id is not None:
        extra[rule.task_id_field] = task_id
    return Refusal(error, text, status=rule.http_status, extra=extra)


def retry_after_of(rule: FaultRule, at_us: int) -> str | None:
    """The ``Retry-After`` header of a fault: seconds, or a date counted from ``at_us``."""
    if rule.retry_after_s is None:
        return None
    if rule.retry_after_as_date:
        date = utc_from_us(at_us) + timedelta(seconds=rule.retry_after_s)
        return format_datetime(date, usegmt=True)
    return f"{rule.retry_after_s:g}"


def spoil(rule: FaultRule, response: Response) -> Response:
    """A response with its body replaced, or cut in half under its announced length."""
    if rule.kind == "html_error":
        return HTMLResponse(defaults.HTML_PAGE, rule.http_status)
    if rule.kind == "bad_json":
        response.body = defaults.GARBAGE
        if response.status_code != 204:
            response.headers["content-length"] = str(len(defaults.GARBAGE))
            response.headers["content-type"] = "application/json"
    if rule.kind == "truncated":
        response.body = bytes(response.body[: len(response.body) // 2])
    return response


def _task_id_in(response: Response) -> str | None:
    # as any revision tells it
    if response.status_code >= 300 or bytes(response.body[:1]) != b"{":
        return None
    payload = orjson.loads(response.body)
    data = payload.get("data", payload)
    if not isinstance(data, dict):
        return None
    task_id = data.get("task_id", data.get("taskId"))
    return task_id if isinstance(task_id, str) else None


# The last step to the socket.


TRANSPORT = "mynth_dagster.transport"
"""Where the ASGI scope's extensions have the connection's transport."""

_LINGER_NOT = struct.pack("ii", 1, 0)


async def send_truncated(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send less than was announced, then close."""
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await cut(scope, receive, with_reset=False)


async def cut(scope: Scope, receive: Receive, *, with_reset: bool) -> None:
    """
    Close the connection, by FIN after what was written, or by RST at once.

    Raises:
        ConnectionResetError: There is no connection; the app is called in process.
    """
    transport: Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:
        raise ConnectionResetError("the simulator cut the connection")
    if with_reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
