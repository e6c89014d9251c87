"""Which module speaks which API revision; all of them offer the same names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

from mynth_dagster.limits import RevisionLimits
from mynth_dagster.simulator import v2026_04, v2026_08
from mynth_dagster.simulator.orders import Inspection, Order, WebhookWish
from mynth_dagster.simulator.refusals import Refusal
from mynth_dagster.simulator.results import View
from mynth_dagster.simulator.switches import Switches
from mynth_dagster.simulator.tasks import Task


class Requests(Protocol):
    """How a revision's request bodies are read; each raises `Refusal`."""

    def read_generate(
        self, body: Mapping[str, Any], choices: Switches, *, strict: bool
    ) -> Order: ...

    def read_inspection(
        self, route: str, body: Mapping[str, Any], *, strict: bool
    ) -> Inspection: ...

    def read_webhook(self, body: Mapping[str, Any]) -> WebhookWish: ...


class Answers(Protocol):
    """How a revision spells its answers."""

    def created(self, task: Task, token: str | None) -> dict[str, Any]: ...

    def status(self, word: str) -> dict[str, Any]: ...

    def result(self, task: Task, view: View) -> dict[str, Any]: ...

    def detail(self, task: Task, view: View) -> dict[str, Any]: ...

    def event(self, task: Task, view: View) -> dict[str, Any]: ...

    def uploaded(self, urls: list[str]) -> dict[str, Any]: ...

    def wrapped(self, data: object) -> object: ...

    def error(self, refusal: Refusal, choices: Switches) -> dict[str, Any]: ...


class Revision(Protocol):
    """One API revision."""

    REVISION: str
    LIMITS: RevisionLimits
    RESULT_WORD: str
    ROUTES: frozenset[str]
    requests: Requests
    answers: Answers


REVISIONS: MappingProxyType[str, Revision] = MappingProxyType(
    {module.REVISION: cast("Revision", module) for module in (v2026_04, v2026_08)}
)
