"""
What goes wrong, and when: rules for task failures and for faults on the wire.

The first rule of a list that applies decides; later ones are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mynth_dagster.simulator.orders import TaskType

FailureKind = Literal["task", "images", "moderation", "refused", "stuck"]
FaultKind = Literal[
    "lost_answer",
    "reset",
    "reset_after",
    "truncated",
    "server_error",
    "server_error_with_task",
    "html_error",
    "rate_limited",
    "slow",
    "bad_json",
    "status",
    "token_failed",
]


@dataclass(frozen=True)
class FailureRule:
    """
    A request that is understood and yet comes to nothing, wholly or in part.

    Args:
        kind: ``task`` fails the whole task with ``code``; ``images`` fails some images with
            ``code``, of generate requests only; ``moderation`` fails every image with
            ``RESTRICTED_CONTENT`` and keeps them in the result, a task of another type wholly;
            ``refused`` answers the POST with 400 and ``code``; ``stuck`` leaves the task pending
            until it is settled by its id.
        code: Error code, any case; None: ``RESTRICTED_CONTENT`` for ``refused`` and
            ``moderation``, else ``GENERATION_FAILED``, in 2026-10 ``provider_error``.
        type: Only tasks of this type, such as ``image.rate``; None: any.
        prompt_contains: Only prompts with this text; None: any request, also without a prompt.
        url_contains: Only requests that look at a URL with this text; None: any request.
        model: Only requests for this model id, as asked for; None: any request.
        share: Share of the matching requests, 0 to 1, drawn from the seed, the prompt, the model
            and how often that pair was seen; where there is no prompt, the type and the URLs.
        first: Only the first so many requests of each such pair; None: all. A retry that shall
            succeed is ``first=1``.
        image_indexes: For ``images``: 0-based indexes; out of range ones are ignored.
            Empty: the first ``n_images``.
        n_images: For ``images``: how many fail, from the first on.
    """

    kind: FailureKind = "task"
    code: str | None = None
    type: TaskType | None = None
    prompt_contains: str | None = None
    url_contains: str | None = None
    model: str | None = None
    share: float = 1.0
    first: int | None = None
    image_indexes: tuple[int, ...] = ()
    n_images: int = 1

    def __post_init__(self) -> None:
        _check_share(self.share)

    def error_code(self, usual: str) -> str:
        """The code that the failure carries; ``usual`` is the revision's for failed work."""
        if self.code is not None:
            return self.code
        return "RESTRICTED_CONTENT" if self.kind in ("refused", "moderation") else usual

    @property
    def counts(self) -> bool:
        """Whether the rule must know how often a prompt was seen."""
        return self.first is not None or 0 < self.share < 1


@dataclass(frozen=True)
class FaultRule:
    """
    An answer that goes astray.

    "Matching" requests are those of the route with the prompt marker; they are counted from 1.

    Args:
        route: Route as the log spells it, ``POST /image/generate`` or ``GET /tasks/:id/status``;
            ``*``: any.
        kind: Without any effect on the API: ``reset`` (TCP RST), ``server_error`` (``status``),
            ``rate_limited`` (429), ``status`` (``status`` and ``code``). After the request was
            carried out: ``lost_answer`` (closed without a byte), ``reset_after`` (TCP RST),
            ``truncated`` (half the body, then closed), ``server_error_with_task`` (``status``),
            ``bad_json`` (the usual status, garbage), ``slow`` (the usual answer, ``delay_s``
            late), ``token_failed`` (where a token was asked for, the switch ``token_failure``
            says how its lack shows; else the usual answer). ``html_error`` (``status``) goes by
            ``with_task``.
        share: Share of the matching requests, 0 to 1, drawn from the seed, route and prompt.
        every: Only every n-th matching request (counted after ``after``); None: each.
        first: Only the first n matching requests; None: no such limit.
        after: Not before so many matching requests have passed.
        count: No more than so many times in all; None: no such limit.
        prompt_contains: Only requests whose prompt has this text; None: any.
        task_id: Only requests about this task; None: any.
        status: HTTP status; None: 500, for ``html_error`` 502, for ``status`` 503.
        code: Error code, any case; None: the status's usual one.
        with_task: Whether ``html_error`` and ``status`` carry the request out first.
        task_id_field: For ``server_error_with_task``: the error field that tells the task's id;
            None: the id is not told.
        retry_after_s: For ``rate_limited``: seconds; None: no header.
        retry_after_as_date: Spell ``Retry-After`` as an HTTP date.
        delay_s: For ``slow``: seconds.
    """

    route: str = "POST /image/generate"
    kind: FaultKind = "lost_answer"
    share: float = 1.0
    every: int | None = None
    first: int | None = None
    after: int = 0
    count: int | None = None
    prompt_contains: str | None = None
    task_id: str | None = None
    status: int | None = None
    code: str | None = None
    with_task: bool = False
    task_id_field: str | None = None
    retry_after_s: float | None = None
    retry_after_as_date: bool = False
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self.share)
        if self.every is not None and self.every < 1:
            raise ValueError("every must be at least 1")

    @property
    def carries_out(self) -> bool:
        """Whether the request takes effect before the fault."""
        if self.kind in ("html_error", "status"):
            return self.with_task
        return self.kind not in ("reset", "server_error", "rate_limited")

    @property
    def http_status(self) -> int:
        """The status of a fault that answers with one."""
        fallback = {"html_error": 502, "status": 503, "rate_limited": 429}.get(self.kind, 500)
        return fallback if self.status is None else self.status


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError("share must be between 0 and 1")
