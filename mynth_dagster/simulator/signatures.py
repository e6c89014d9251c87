"""How deliveries are signed, and how the secrets look that sign them."""

from __future__ import annotations

import hashlib
import hmac

from mynth_dagster.simulator.draws import draw_whole


def sign_hex(body: bytes, secret: str, at_s: int) -> str:
    """Until 2026-08: HMAC-SHA256 over time and raw body, with the whole secret as key."""
    digest = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def compose_plain_secret(prefix: str, seed: int, number: int) -> str:
    """A secret of the days when its whole text was the key."""
    return f"{prefix}{draw_whole(seed, 'webhook secret', number):016x}"
