"""
Who is let in: pure decisions about one request, from its raw bytes.

Only the configured way counts. A signature proves the sender; a token in the URL proves only
that somebody knows the URL, so what comes that way is a hint and no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from mynth_dagster.clock import US_PER_S
from mynth_dagster.errors import WebhookRejectedError
from mynth_dagster.ledger.inbox import InboxEvent
from mynth_dagster.limits import WEBHOOK_HEAD_MAX_BYTES, WEBHOOK_HEADERS_MAX
from mynth_dagster.webhook.settings import WebhookSettings
from mynth_dagster.wire.cells import parse_json
from mynth_dagster.wire.events import FINAL_EVENTS, read_name_and_task
from mynth_dagster.wire.signatures import verify

Headers = Sequence[tuple[bytes, bytes]]

SIGNATURE = b"x-mynth-signature"
EVENT = b"x-mynth-event"
CUSTOM = "/custom/"


class Refused(Exception):  # noqa: N818 - an outcome of the gate, told as a status
    """A request that is not let in; `reason` is one of a few fixed texts, for our own log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def require_known_place(settings: WebhookSettings, method: str, path: str) -> bool:
    """
    Whether a request came to the signed endpoint (else to a custom one, with its token).

    Raises:
        Refused: There is no such endpoint.
    """
    is_custom = path.startswith(CUSTOM)
    if path not in ("", "/") and not is_custom:
        raise Refused(404, "no such path")
    if is_custom and not settings.knows_token(path.removeprefix(CUSTOM)):
        raise Refused(404, "the token in the URL is wrong")
    if method != "POST":
        raise Refused(405, "the method is not POST")
    return not is_custom


def require_bounded_head(headers: Headers) -> None:
    """
    Refuse heads that no sender of ours makes.

    Raises:
        Refused: Too many headers, or too long.
    """
    n_bytes = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > WEBHOOK_HEADERS_MAX or n_bytes > WEBHOOK_HEAD_MAX_BYTES:
        raise Refused(431, "too many or too long headers")


def admit(
    settings: WebhookSettings, *, is_signed: bool, headers: Headers, body: bytes, now_us: int
) -> InboxEvent | None:
    """
    The event in a request; None where it is genuine and means nothing to us.

    Raises:
        Refused: Not signed by a secret of ours, stale, or no event.
    """
    at_s = _verify(settings, headers, body, now_us) if is_signed else None
    named = read_name_and_task(parse_json(body))
    if named is None:
        raise Refused(400, "the body is no event")
    name, task_id = named
    said = _values(headers, EVENT)
    if len(said) > 1 or (said and said[0] != name.encode("utf-8")):
        raise Refused(400, "header and body name different events")
    if name not in FINAL_EVENTS:
        return None
    return InboxEvent(
        event_id=f"{'signed' if is_signed else 'hint'}:{name}:{task_id}",
        is_signed=is_signed,
        event=name,
        task_id=task_id,
        # A hint is confirmed by a reading: what else it says is never looked at.
        body=body.decode("utf-8") if is_signed else None,
        received_at_us=now_us,
        signed_at_us=None if at_s is None else at_s * US_PER_S,
    )


def _verify(settings: WebhookSettings, headers: Headers, body: bytes, now_us: int) -> int:
    signatures = _values(headers, SIGNATURE)
    if len(signatures) > 1:
        raise Refused(401, "several signature headers")
    header = signatures[0].decode("latin-1") if signatures else None
    try:
        return verify(body, header, settings.secrets, now_us=now_us)
    except WebhookRejectedError as error:
        raise Refused(401, error.reason) from None


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]
