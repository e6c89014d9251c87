"""Having Mynth send its events to a receiver, where a key may ask for that."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ConfigError, InvalidRequestError, NotFoundError, UnauthorizedError
from mynth_dagster.models.task import IMAGE_TASK
from mynth_dagster.wire.events import FINAL_EVENTS

REGISTERED_META = "webhook:registered"
"""The ledger's fact that holds the id of the webhook that was registered with it."""


@dataclass(frozen=True)
class Registration:
    """What came of it; `note` says what a person has to do where the key may not."""

    webhook_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    note: str | None = None


async def register(session: Session, url: str, webhook_id: str | None = None) -> Registration:
    """
    Register an endpoint for the end of image tasks, or enable and move a registered one.

    Raises:
        ConfigError: The URL is none, or Mynth refuses it.
        ApiError: No answer came; a webhook may have been made, see the dashboard.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("URL", "an http or https URL is needed, such as https://hooks.…/")
    try:
        made = await session.client.put_webhook(url, _events(session), webhook_id)
    except (UnauthorizedError, NotFoundError) as error:
        return Registration(note=_by_hand(session, url, webhook_id, error.status))
    except InvalidRequestError as error:
        raise ConfigError("URL", f"Mynth refuses it: {error.reason}") from None
    await session.ledger.set_meta(REGISTERED_META, made.webhook_id)
    return Registration(made.webhook_id, made.secret)


def _events(session: Session) -> list[str]:
    """The events that the revision has and that finish a task of ours."""
    if session.client.profile.HAS_INSPECTIONS:
        return sorted(FINAL_EVENTS)
    return sorted(event for event in FINAL_EVENTS if IMAGE_TASK in event)


def _by_hand(session: Session, url: str, webhook_id: str | None, status: int) -> str:
    events = ", ".join(_events(session))
    if webhook_id is not None:
        return (
            f"Mynth does not let this key change webhook {webhook_id} (HTTP {status}). "
            f"In Mynth's dashboard, enable it and set its URL to {url}; its secret stays."
        )
    return (
        f"Mynth does not let this key manage webhooks (HTTP {status}). In Mynth's dashboard, "
        f"add a webhook with the URL {url} and the events {events}, "
        "and set MYNTH_WEBHOOK_SECRET to the secret that is shown once."
    )
