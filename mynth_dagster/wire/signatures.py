"""
Signatures of registered webhooks, in both forms.

Revisions 2026-04 and 2026-08: one header, ``X-Mynth-Signature: t=<unix seconds>,v1=<lower-case
hex>``; the message is ``<t>.<raw body>``, the key the whole secret as UTF-8.

Revision 2026-10: Standard Webhooks. Each delivery has a `Stamp` (``webhook-id`` and
``webhook-timestamp``), and ``webhook-signature`` is a list, by spaces, of ``v1,<base64>``; the
message is ``<id>.<timestamp>.<raw body>``, the key what the secret after ``whsec_`` is in base64.

Either form may have several signatures, and is checked against several secrets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S
from mynth_dagster.errors import WebhookRejectedError

TOLERANCE_S = 300
SIGNATURES_MAX = 16
HEADER_MAX_CHARS = 4096
SECRET_PREFIX = "whsec_"  # noqa: S105 - how secrets begin, not a secret

_SECONDS = re.compile(r"[0-9]{1,15}")
_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""Without a full stop, which ends an id within the signed message."""

_SIGNATURE = re.compile(r"v1,([A-Za-z0-9+/]+={0,2})")


def sign(body: bytes, secret: str, *, at_s: int) -> str:
    """Return the ``X-Mynth-Signature`` of a body sent at ``at_s`` (Unix seconds)."""
    return f"t={at_s},v1={_digest(body, secret, at_s)}"


def verify(body: bytes, header: str | None, secrets: Sequence[str], *, now_us: int) -> int:
    """
    Check a delivery of the older form against any of the secrets.

    Args:
        body: The raw bytes as received, never parsed and written again.
        now_us: The receiver's time; more than 300 s off, either way, is refused.

    Returns:
        The signed time in Unix seconds.

    Raises:
        WebhookRejectedError: Missing, malformed, stale, or signed with no known secret.
    """
    at_s, signatures = _parse(header)
    _require_fresh(at_s, now_us)
    expected = [_digest(body, secret, at_s).encode("ascii") for secret in secrets]
    _require_match(expected, signatures)
    return at_s


@dataclass(frozen=True)
class Stamp:
    """The headers of each delivery of the newer form, signed or not; see `read_stamp`."""

    event_id: str
    timestamp: str

    @property
    def at_s(self) -> int:
        """When this attempt was sent, in Unix seconds."""
        return int(self.timestamp)


def read_stamp(event_id: str | None, timestamp: str | None, *, now_us: int) -> Stamp:
    """
    Read the stamp in the headers ``webhook-id`` and ``webhook-timestamp``.

    Args:
        now_us: The receiver's time; more than 300 s off, either way, is refused.

    Raises:
        WebhookRejectedError: One of them is missing or malformed, or the time is stale.
    """
    if event_id is None or not _EVENT_ID.fullmatch(event_id):
        raise WebhookRejectedError("webhook-id is missing or malformed")
    if timestamp is None or not _SECONDS.fullmatch(timestamp):
        raise WebhookRejectedError("webhook-timestamp is missing or malformed")
    stamp = Stamp(event_id, timestamp)
    _require_fresh(stamp.at_s, now_us)
    return stamp


def sign_standard(body: bytes, secret: str, stamp: Stamp) -> str:
    """
    Return the ``webhook-signature`` of a body sent with this stamp.

    Raises:
        ValueError: The secret is not one of the newer form.
    """
    key = key_of(secret)
    if key is None:
        raise ValueError("the secret after whsec_ is no base64")
    return f"v1,{_standard_digest(body, key, stamp)}"


def verify_standard(body: bytes, stamp: Stamp, header: str | None, secrets: Sequence[str]) -> None:
    """
    Check a delivery of the newer form against any of the secrets.

    Args:
        body: The raw bytes as received, never parsed and written again.
        header: ``webhook-signature``; entries of other versions, or malformed, do not count.
        secrets: Those of the older form are no keys here, and are skipped.

    Raises:
        WebhookRejectedError: Missing, malformed, or signed with no known secret.
    """
    if not header or len(header) > HEADER_MAX_CHARS:
        raise WebhookRejectedError("webhook-signature is missing or malformed")
    matches = (_SIGNATURE.fullmatch(entry) for entry in header.split(" "))
    signatures = [match[1].encode("ascii") for match in matches if match]
    if not signatures:
        raise WebhookRejectedError("webhook-signature has no usable signature")
    keys = [key for key in map(key_of, secrets) if key is not None]
    if not keys:
        raise WebhookRejectedError("no secret is one of revision 2026-10, whsec_ and base64")
    expected = [_standard_digest(body, key, stamp).encode("ascii") for key in keys]
    _require_match(expected, signatures)


def key_of(secret: str) -> bytes | None:
    """Return the key in a secret of the newer form, with or without prefix and padding, or None."""
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) or None
    except ValueError:
        return None


def _require_fresh(at_s: int, now_us: int) -> None:
    if abs(now_us - at_s * US_PER_S) > TOLERANCE_S * US_PER_S:
        raise WebhookRejectedError("the time of sending is more than 300 s off: check the clock")


def _require_match(expected: Sequence[bytes], signatures: Sequence[bytes]) -> None:
    """Compare each signature with each expected one, in constant time."""
    matches = [hmac.compare_digest(known, given) for known in expected for given in signatures]
    if not any(matches):
        raise WebhookRejectedError("no signature matches")


def _parse(header: str | None) -> tuple[int, list[bytes]]:
    if not header or len(header) > HEADER_MAX_CHARS or not header.isascii():
        raise WebhookRejectedError("the signature header is missing or malformed")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for key, _, value in pairs if key == "t"]
    signatures = [value.encode("ascii") for key, _, value in pairs if key == "v1"]
    if len(times) != 1 or not _SECONDS.fullmatch(times[0]):
        raise WebhookRejectedError("the signature header has no usable time")
    if not 1 <= len(signatures) <= SIGNATURES_MAX:
        raise WebhookRejectedError("the signature header has no usable signature")
    return int(times[0]), signatures


def _digest(body: bytes, secret: str, at_s: int) -> str:
    message = str(at_s).encode("ascii") + b"." + body
    return hmac.new(secret.encode("utf-8"), message, hashlib.sha256).hexdigest()


def _standard_digest(body: bytes, key: bytes, stamp: Stamp) -> str:
    message = f"{stamp.event_id}.{stamp.timestamp}.".encode("ascii") + body
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode("ascii")
