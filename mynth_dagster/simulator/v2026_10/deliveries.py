"""Deliveries of webhooks in 2026-10: Standard Webhooks, with a secret that is base64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mynth_dagster.simulator.scenario import Quirks
from mynth_dagster.simulator.webhooks import compose_standard_secret, sign_standard, standard_secret

if TYPE_CHECKING:
    from mynth_dagster.simulator.deliveries import Parcel


def headers(
    parcel: Parcel,
    secret: str | None,
    at_s: int,
    quirks: Quirks,  # noqa: ARG001 - no source leaves a choice here
) -> dict[str, str]:
    """The headers of one attempt at ``at_s`` (Unix seconds); unsigned without a secret."""
    spelled = {
        "Content-Type": "application/json",
        "webhook-id": parcel.event_id,
        "webhook-timestamp": str(at_s),
    }
    if secret is not None:
        key = standard_secret(secret)
        spelled["webhook-signature"] = sign_standard(parcel.event_id, at_s, parcel.body, key)
    return spelled


def compose_secret(quirks: Quirks, seed: int, number: int) -> str:  # noqa: ARG001 - one form
    """The secret of the ``number``-th webhook."""
    return compose_standard_secret(seed, number)
