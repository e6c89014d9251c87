"""
Who is let in: pure decisions about one request, from its raw bytes.

A signature proves the sender; a token in the URL proves only that somebody knows the URL, so
what comes that way is a hint and no more. The headers say which form a request has, that of
revision 2026-10 or the older one; a request with headers of both is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mynth_dagster.clock import US_PER_S
from mynth_dagster.errors import WebhookRejectedError
from mynth_dagster.ledger.events import InboxEvent
from mynth_dagster.limits import WEBHOOK_HEAD_MAX_BYTES, WEBHOOK_HEADERS_MAX
from mynth_dagster.webhook.settings import WebhookSettings
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.events import FINAL_EVENTS, EventHead, read_head
from mynth_dagster.wire.signatures import Stamp, read_stamp, verify, verify_standard

Headers = Sequence[tuple[bytes, bytes]]

ID, TIMESTAMP, SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
"""Of revision 2026-10; one of them is enough for a request to be judged by its rules."""

OLDER_SIGNATURE, OLDER_EVENT = b"x-mynth-signature", b"x-mynth-event"
"""Of the revisions before."""

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
    try:
        stamp, signed_at_s = _prove(settings, headers, body, now_us, is_signed=is_signed)
    except WebhookRejectedError as error:
        raise Refused(401, error.reason) from None
    head = read_head(parse_json(body))
    if head is None:
        raise Refused(400, "the body is no event")
    _require_agreement(headers, stamp, head)
    if head.name not in FINAL_EVENTS:
        return None
    # Mynth gives an event one id for all its deliveries; before 2026-10 it had none.
    shared = f"{head.name}:{head.task_id}" if stamp is None else stamp.event_id
    return InboxEvent(
        event_id=f"{'signed' if is_signed else 'hint'}:{shared}",
        is_signed=is_signed,
        event=head.name,
        task_id=head.task_id,
        # A hint is confirmed by a reading: what else it says is never looked at.
        body=body.decode("utf-8") if is_signed else None,
        received_at_us=now_us,
        signed_at_us=None if signed_at_s is None else signed_at_s * US_PER_S,
        body_sha256=hashlib.sha256(body).hexdigest(),
    )


def _prove(
    settings: WebhookSettings, headers: Headers, body: bytes, now_us: int, *, is_signed: bool
) -> tuple[Stamp | None, int | None]:
    """
    The stamp, which the newer form alone has; and when the sender signed, where it has to.

    Raises:
        WebhookRejectedError: The headers do not prove what they have to.
    """
    if not any(name.lower() in (ID, TIMESTAMP, SIGNATURE) for name, _ in headers):
        if not is_signed:
            return None, None
        header = _only(headers, OLDER_SIGNATURE)
        return None, verify(body, header, settings.secrets, now_us=now_us)
    if _values(headers, OLDER_SIGNATURE):
        raise WebhookRejectedError("headers of both forms")
    stamp = read_stamp(_only(headers, ID), _only(headers, TIMESTAMP), now_us=now_us)
    if is_signed:
        verify_standard(body, stamp, _only(headers, SIGNATURE), settings.secrets)
    return stamp, stamp.at_s if is_signed else None


def _require_agreement(headers: Headers, stamp: Stamp | None, head: EventHead) -> None:
    """
    Headers and body are of one form and name one event.

    Raises:
        Refused: They do not.
    """
    if (stamp is None) is not (head.event_id is None):
        raise Refused(400, "the body is of another form than the headers")
    said = _values(headers, OLDER_EVENT) if stamp is None else []
    is_other = stamp is not None and stamp.event_id != head.event_id
    if is_other or len(said) > 1 or (said and said[0] != head.name.encode("utf-8")):
        raise Refused(400, "header and body name different events")


def _only(headers: Headers, name: bytes) -> str | None:
    values = _values(headers, name)
    if len(values) > 1:
        raise WebhookRejectedError(f"several {name.decode('ascii')} headers")
    return values[0].decode("latin-1") if values else None


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]
