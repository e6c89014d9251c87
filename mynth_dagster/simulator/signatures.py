"""How deliveries are signed, and how the secrets look that sign them."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Final

from mynth_dagster.simulator import invented
from mynth_dagster.simulator.draws import draw_whole

STANDARD_PREFIX: Final = "whsec_"


def sign_hex(body: bytes, secret: str, at_s: int) -> str:
    """Until 2026-08: HMAC-SHA256 over time and raw body, with the whole secret as key."""
    digest = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def sign_standard(event_id: str, at_s: int, body: bytes, secret: str) -> str:
    """Since 2026-10: HMAC-SHA256 over id, time and raw body, as Standard Webhooks has it."""
    key = b64decode(secret.removeprefix(STANDARD_PREFIX))
    message = f"{event_id}.{at_s}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, message, "sha256")).decode()


def compose_plain_secret(prefix: str, seed: int, number: int) -> str:
    """A secret of the days when its whole text was the key."""
    return f"{prefix}{draw_whole(seed, 'webhook secret', number):016x}"


def compose_standard_secret(seed: int, number: int) -> str:
    """``whsec_`` and 24 bytes in base64."""
    parts = (draw_whole(seed, "webhook secret", number, i) for i in range(3))
    key = b"".join(part.to_bytes(8, "big") for part in parts)
    return STANDARD_PREFIX + b64encode(key).decode()


def is_standard_secret(secret: str) -> bool:
    """Whether a secret can sign since 2026-10."""
    try:
        key = b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith(STANDARD_PREFIX) and bool(key)


def standard_secret(secret: str) -> str:
    """
    The secret that a webhook has since 2026-10.

    Registered webhooks got new secrets with that revision: one of the earlier kind is replaced by
    one that is made of it.
    """
    if is_standard_secret(secret):
        return secret
    if secret == invented.WEBHOOK_SECRET:
        return invented.STANDARD_WEBHOOK_SECRET
    return STANDARD_PREFIX + b64encode(hashlib.sha256(secret.encode()).digest()).decode()
