"""What revision 2026-04 tells of an account: its webhooks alone."""

from __future__ import annotations

from typing import Any

from mynth_dagster.simulator.tasks import spell_instant
from mynth_dagster.simulator.webhooks import Webhook


def webhook(record: Webhook, *, is_new: bool) -> dict[str, Any]:
    """A registered webhook; the secret is shown by its creation only."""
    spelled: dict[str, Any] = {
        "id": record.webhook_id,
        "userId": record.user_id,
        "enabled": record.wish.enabled,
        "url": record.wish.url,
        "events": record.wish.events,
        "createdAt": spell_instant(record.created_us),
        "updatedAt": spell_instant(record.updated_us),
    }
    if is_new:
        spelled["secret"] = record.secret
    return spelled
