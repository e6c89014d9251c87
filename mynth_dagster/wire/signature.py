"""
The signature of registered webhooks, revisions 2026-04 and 2026-08.

Header ``X-Mynth-Signature: t=<unix seconds>,v1=<lower-case hex>``; the message is
``<t>.<raw body>``, the key the whole secret as UTF-8. Several ``v1`` may be given.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from mynth_dagster.clock import US_PER_S
from mynth_dagster.errors import WebhookRejectedError

TOLERANCE_S = 300
SIGNATURES_MAX = 16
HEADER_MAX_CHARS = 4096


def sign(body: bytes, secret: str, *, at_s: int) -> str:
    """The header's value for a body sent at ``at_s`` (Unix seconds)."""
    return f"t={at_s},v1={_digest(body, secret, at_s)}"


def verify(body: bytes, header: str | None, secrets: Sequence[str], *, now_us: int) -> int:
    """
    Check a delivery against any of the secrets (two while one is being replaced).

    Args:
        body: The raw bytes as received, never parsed and written again.
        now_us: The receiver's time; more than 300 s off, either way, is refused.

    Returns:
        The signed time in Unix seconds.

    Raises:
        WebhookRejectedError: Missing, malformed, stale, or signed by nobody we know.
    """
    at_s, signatures = _parse(header)
    if abs(now_us - at_s * US_PER_S) > TOLERANCE_S * US_PER_S:
        raise WebhookRejectedError("the signed time is more than 300 s off: check the clock")
    expected = [_digest(body, secret, at_s).encode("ascii") for secret in secrets]
    matches = [hmac.compare_digest(known, given) for known in expected for given in signatures]
    if not any(matches):
        raise WebhookRejectedError("no signature matches")
    return at_s


def _parse(header: str | None) -> tuple[int, list[bytes]]:
    if not header or len(header) > HEADER_MAX_CHARS or not header.isascii():
        raise WebhookRejectedError("the signature header is missing or malformed")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for key, _, value in pairs if key == "t"]
    signatures = [value.encode("ascii") for key, _, value in pairs if key == "v1"]
    if len(times) != 1 or not times[0].isdigit() or len(times[0]) > 15:
        raise WebhookRejectedError("the signature header has no usable time")
    if not 1 <= len(signatures) <= SIGNATURES_MAX:
        raise WebhookRejectedError("the signature header has no usable signature")
    return int(times[0]), signatures


def _digest(body: bytes, secret: str, at_s: int) -> str:
    message = str(at_s).encode("ascii") + b"." + body
    return hmac.new(secret.encode("utf-8"), message, hashlib.sha256).hexdigest()
