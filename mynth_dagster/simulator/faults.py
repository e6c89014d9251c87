"""
Faults on the wire: which request is hit, and what its answer turns into.

The choice is a pure function of the rules and of what was counted before; the end of this file
sends the answer, or cuts the connection.
"""

from __future__ import annotations

import socket
import struct
from asyncio import Transport
from collections import Counter
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import orjson
from starlette.types import Receive, Scope, Send

from mynth_dagster.clock import utc_from_us
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import HTML_TYPE, Answer, Route
from mynth_dagster.simulator.scenario import FaultRule
from mynth_dagster.simulator.tasks import draw, draw_whole
from mynth_dagster.simulator.validation import RATE_LIMITED, SERVER, Reason, Refusal

if TYPE_CHECKING:
    from mynth_dagster.simulator.scenario import Scenario


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

    def pick(self, route: Route, prompt: str | None) -> FaultRule | None:
        """The fault that hits this request, or None; ``prompt`` is None where there is none."""
        for position, rule in enumerate(self.rules):
            if rule.route not in (route.name, ANY_ROUTE):
                continue
            if rule.task_id is not None and rule.task_id != route.param:
                continue
            if rule.prompt_contains is not None and rule.prompt_contains not in (prompt or ""):
                continue
            if self._fires(position, rule, route, prompt):
                self._fired[position] += 1
                return rule
        return None

    def _fires(self, position: int, rule: FaultRule, route: Route, prompt: str | None) -> bool:
        self._matched[position] += 1
        nth = self._matched[position]
        if nth <= rule.after or (rule.first is not None and nth > rule.first):
            return False
        if rule.count is not None and self._fired[position] >= rule.count:
            return False
        if rule.every is not None and (nth - rule.after) % rule.every:
            return False
        return rule.share >= 1 or self._is_drawn(
            position, rule, f"{route.name} {prompt or route.param}"
        )

    def _is_drawn(self, position: int, rule: FaultRule, subject: str) -> bool:
        seen = (position, draw_whole(0, subject))
        self._seen[seen] += 1
        return draw(self._seed, "fault", position, subject, self._seen[seen]) < rule.share


def compose_refusal(rule: FaultRule, task_id: str | None) -> Refusal:
    """The error that an answering fault gives, in no revision's spelling yet."""
    usual = RATE_LIMITED if rule.http_status == 429 else SERVER
    reason = usual if rule.code is None else Reason(rule.code.lower(), usual.status)
    text = defaults.RATE_TEXT if usual is RATE_LIMITED else defaults.SERVER_TEXT
    extra = {}
    if rule.task_id_field is not None and task_id is not None:
        extra[rule.task_id_field] = task_id
    return Refusal(reason, text, status=rule.http_status, extra=extra)


def retry_after(rule: FaultRule, at_us: int) -> list[tuple[bytes, bytes]]:
    """The ``Retry-After`` header of a fault: seconds, or a date counted from ``at_us``."""
    if rule.retry_after_s is None:
        return []
    if rule.retry_after_as_date:
        moment = utc_from_us(at_us) + timedelta(seconds=rule.retry_after_s)
        return [(b"retry-after", format_datetime(moment, usegmt=True).encode())]
    return [(b"retry-after", f"{rule.retry_after_s:g}".encode())]


def spoil(rule: FaultRule, answer: Answer) -> Answer:
    """An answer with its body replaced or cut short."""
    if rule.kind == "html_error":
        return Answer(rule.http_status, defaults.HTML_PAGE, HTML_TYPE)
    if rule.kind == "bad_json":
        return Answer(answer.status, defaults.GARBAGE, headers=answer.headers)
    if rule.kind == "truncated":
        half = answer.body[: len(answer.body) // 2]
        n_bytes = max(len(answer.body), 1)
        return Answer(answer.status, half, answer.content_type, answer.headers, n_bytes)
    return answer


def task_id_in(answer: Answer) -> str | None:
    """The id of the task that a successful answer tells of, in any revision's spelling."""
    if answer.status >= 300 or not answer.body.startswith(b"{"):
        return None
    payload = orjson.loads(answer.body)
    data = payload.get("data", payload)
    if not isinstance(data, dict):
        return None
    task_id = data.get("task_id", data.get("taskId"))
    return task_id if isinstance(task_id, str) else None


# The last step to the socket: sending an answer over ASGI, or cutting the connection.
#
# Cutting needs the transport, which `server` puts into the scope. Without it (an app called in
# process) a cut is raised as `ConnectionResetError`.


TRANSPORT = "mynth_dagster.transport"
_LINGER_NOT = struct.pack("ii", 1, 0)


class BodyTooLargeError(Exception):
    """A request body beyond what the server reads."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """
    The whole request body.

    Raises:
        BodyTooLargeError: It is longer than ``max_bytes``.
        ConnectionResetError: The client went away.
    """
    message = await receive()
    body = message.get("body", b"")
    if not message.get("more_body") and message["type"] == "http.request":
        return _bounded(body, max_bytes)
    chunks = [body]
    n_bytes = len(body)
    while message.get("more_body") or message["type"] == "http.disconnect":
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away")
        message = await receive()
        chunks.append(message.get("body", b""))
        n_bytes += len(chunks[-1])
        if n_bytes > max_bytes:
            raise BodyTooLargeError
    return b"".join(chunks)


async def send_answer(send: Send, answer: Answer, *, is_head: bool = False) -> None:
    """Send a whole answer; for HEAD its headers only."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": answer.all_headers(),
        }
    )
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})


async def send_truncated(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    """Send less than was announced, then close."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": answer.all_headers(),
        }
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    await cut(scope, receive, with_reset=False)


async def cut(scope: Scope, receive: Receive, *, with_reset: bool) -> None:
    """Close the connection, by FIN after what was written, or by RST at once."""
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


def _bounded(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise BodyTooLargeError
    return body
