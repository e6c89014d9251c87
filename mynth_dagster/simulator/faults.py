"""
Faults on the wire: which request is hit, and what its answer turns into.

The choice is a pure function of the rules and of what was counted before; cutting the connection
itself is `wire`'s business.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import orjson

from mynth_dagster.clock import utc_from_us
from mynth_dagster.simulator import invented
from mynth_dagster.simulator.answers import HTML_TYPE, Answer
from mynth_dagster.simulator.draws import draw, draw_whole
from mynth_dagster.simulator.refusals import RATE_LIMITED, SERVER, Reason, Refusal
from mynth_dagster.simulator.routes import Route
from mynth_dagster.simulator.rules import FaultRule

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
    text = invented.RATE_TEXT if usual is RATE_LIMITED else invented.SERVER_TEXT
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
        return Answer(rule.http_status, invented.HTML_PAGE, HTML_TYPE)
    if rule.kind == "bad_json":
        return Answer(answer.status, invented.GARBAGE, headers=answer.headers)
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
