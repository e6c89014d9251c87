"""
Deliveries of webhooks in 2026-04 and 2026-08, which do not differ in this: headers and secrets.

The signature is spelled in hexadecimal digits, and the whole secret is its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.webhooks import compose_plain_secret, sign_hex

if TYPE_CHECKING:
    from mynth_dagster.simulator.deliveries import Parcel


def headers(parcel: Parcel, secret: str | None, at_s: int, quirks: Quirks) -> dict[str, str]:
    """The headers of one attempt at ``at_s`` (Unix seconds); unsigned without a secret."""
    spelled = {"Content-Type": "application/json"}
    if quirks.webhook_delivery_header:
        spelled["X-Mynth-Delivery"] = parcel.parcel_id
    if secret is not None or quirks.custom_event_header:
        spelled["X-Mynth-Event"] = parcel.event
    if secret is not None:
        spelled["X-Mynth-Signature"] = sign_hex(parcel.body, secret, at_s)
    return spelled


def compose_secret(quirks: Quirks, seed: int, number: int) -> str:
    """The secret of the ``number``-th webhook."""
    return compose_plain_secret(quirks.webhook_secret_prefix or "", seed, number)
