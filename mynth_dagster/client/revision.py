"""Asking a server for its revision, by requests that cost nothing; `wire.detection` reads them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mynth_dagster.client.http import Call, HttpSession, Transport
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import ApiError
from mynth_dagster.limits import REVISIONS
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.revision import (
    ESTIMATE_BODY,
    may_be_without_catalog,
    revision_by_catalog,
    revision_by_estimate,
)

OLDEST = REVISIONS[0]


@dataclass(frozen=True)
class RevisionVerdict:
    """
    What a server's answers tell of its revision.

    Args:
        revision: None: they prove nothing.
        basis: In words, what was answered.
        is_certain: False where the answers are those of a server without the routes that were
            asked, which may also be something in between that keeps them back.
        may_pass: Nobody answered, or a server that is unwell: later it may tell.
    """

    revision: str | None
    basis: str
    is_certain: bool = True
    may_pass: bool = False


async def ask_revision(
    settings: ClientSettings, *, seen: str | None = None, transport: Transport | None = None
) -> RevisionVerdict:
    """
    Ask for the public catalogue, and where that does not tell, with the key for an estimate.

    A server that has neither, and has tasks, speaks the oldest revision.

    Args:
        seen: The revision last seen there; None: it may be no address of Mynth's at all.

    Raises:
        ApiError: Nobody answers.
    """
    http = HttpSession(settings, transport)
    try:
        return await _ask(http, settings, seen)
    finally:
        if transport is None:
            await http.aclose()


async def _ask(http: HttpSession, settings: ClientSettings, seen: str | None) -> RevisionVerdict:
    call = Call("ask for the revision", "GET", "/models", anonymous=True)
    answer = await http.exchange(call, timeout_s=settings.read_timeout_s)
    found = revision_by_catalog(answer.status, parse_json(answer.body))
    if found is not None:
        return RevisionVerdict(found, "by its catalogue")
    said = f"HTTP {answer.status} to GET /models"
    is_absent = may_be_without_catalog(answer.status)
    may_pass = answer.status >= 500 or answer.status == 429
    if is_absent and seen is None and not await _has_tasks(http, settings):
        said += " and to GET /tasks: nothing of Mynth is there; check the path of base_url"
        return RevisionVerdict(None, said, is_certain=False)
    if settings.api_key is None:
        found = OLDEST if is_absent else None
        return RevisionVerdict(found, said, is_certain=False, may_pass=may_pass)
    estimate_status: int | None = None
    call = Call(
        "ask for the revision",
        "POST",
        "/image/generate/estimate",
        content=json.dumps(ESTIMATE_BODY).encode("utf-8"),
    )
    try:
        answer = await http.exchange(call, timeout_s=settings.read_timeout_s)
        estimate_status = answer.status
        found = revision_by_estimate(answer.status, parse_json(answer.body))
        said += f", {answer.status} to an estimate"
    except ApiError as error:
        said += f", no answer to an estimate ({error.reason})"
    if found is not None:
        return RevisionVerdict(found, "by an estimate")
    if not is_absent:
        return RevisionVerdict(None, said, is_certain=False, may_pass=may_pass)
    return RevisionVerdict(OLDEST, said, is_certain=estimate_status in (404, 405))


async def _has_tasks(http: HttpSession, settings: ClientSettings) -> bool:
    """Whether a route that every revision has is there: without a key it refuses, free of cost."""
    call = Call("ask for the revision", "GET", "/tasks/tsk_0/status", anonymous=True)
    answer = await http.exchange(call, timeout_s=settings.read_timeout_s)
    return answer.status not in (404, 405, 410)
