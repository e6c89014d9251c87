"""What a revision must provide; a module with these names is a profile."""

from __future__ import annotations

from typing import Any, Protocol

from mynth_dagster.limits import RevisionLimits
from mynth_dagster.models.request import ImageRequest, Inspection
from mynth_dagster.models.task import Task, TaskEvent


class RevisionProfile(Protocol):
    """
    One API revision: how it spells a request, and what it offers.

    `HAS_TASK_LIST`, `HAS_ESTIMATE`, `HAS_CATALOG` and `HAS_ACCOUNT` name free look-ups that
    only some revisions have, `HAS_DESTINATIONS` the one for the user's own storage;
    `HAS_INSPECTIONS`: images can be rated, described and reviewed, one
    paid task each. `RESULT_WORD` ends the path of a result, `WEBHOOK_PATH` is where
    webhooks are managed. `OWN_FIELDS` are the request fields that we add without being
    asked: a refusal that names one is our mistake, never the row's.
    """

    @property
    def REVISION(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def LIMITS(self) -> RevisionLimits: ...  # noqa: N802 - a module's constant
    @property
    def HAS_TASK_LIST(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_ESTIMATE(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_CATALOG(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_ACCOUNT(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_DESTINATIONS(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def HAS_INSPECTIONS(self) -> bool: ...  # noqa: N802 - a module's constant
    @property
    def RESULT_WORD(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def WEBHOOK_PATH(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def OWN_FIELDS(self) -> frozenset[str]: ...  # noqa: N802 - a module's constant

    def encode_request(self, request: ImageRequest, *, tag: str | None) -> dict[str, Any]:
        """
        The body of `POST /image/generate`.

        Raises:
            UnsupportedFeatureError: The revision cannot express something that is asked.
        """
        ...

    def encode_inspection(self, inspection: Inspection) -> dict[str, Any]:
        """
        The body of `POST /image/rate`, `/image/alt` or `/image/review`.

        Raises:
            UnsupportedFeatureError: The revision has no such task.
        """
        ...

    def decode_task(self, operation: str, body: Any) -> Task:
        """
        A full task (`GET /tasks/:id`).

        Raises:
            UnexpectedPayloadError: Not a task.
        """
        ...

    def decode_event(self, body: Any, *, at_us: int) -> TaskEvent | None:
        """
        A webhook's parsed body; None where it does not finish an image task.

        ``at_us`` stands for the task's end, which events do not tell.
        """
        ...
