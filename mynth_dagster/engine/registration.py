"""Having Mynth send its events to a receiver, where a key may ask for that."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import (
    ConfigError,
    InvalidRequestError,
    NotFoundError,
    RefusedError,
    UnauthorizedError,
)
from mynth_dagster.models.request import INSPECTION_TASKS
from mynth_dagster.models.task import IMAGE_TASK
from mynth_dagster.wire.events import events_of
from mynth_dagster.wire.revision import RevisionProfile

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

    A registered one is replaced whole: what revision 2026-10 can choose beside URL and events
    (`api_key_ids`, `include_session_tasks`) is at its default again.

    Raises:
        ConfigError: The URL is none, or Mynth refuses it.
        ApiError: No answer came; a webhook may have been made, see the dashboard.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("URL", "an http or https URL is needed, such as https://hooks.…/")
    events = events_wanted(session.client.profile)
    try:
        made = await session.client.put_webhook(url, events, webhook_id)
    except (UnauthorizedError, NotFoundError) as error:
        return Registration(note=_by_hand(events, url, webhook_id, error))
    except InvalidRequestError as error:
        raise ConfigError("URL", f"Mynth refuses it: {error.reason}") from None
    await session.ledger.set_meta(REGISTERED_META, made.webhook_id)
    return Registration(made.webhook_id, made.secret)


def events_wanted(profile: RevisionProfile) -> list[str]:
    """The events that the revision has and that finish a task of ours; each by its own name."""
    inspections = INSPECTION_TASKS if profile.HAS_INSPECTIONS else ()
    return events_of(IMAGE_TASK, *inspections)


def _by_hand(events: list[str], url: str, webhook_id: str | None, error: RefusedError) -> str:
    status = f"HTTP {error.status}"
    if webhook_id is not None:
        refused = f"Mynth does not let this key change webhook {webhook_id} ({status})"
        step = f"enable it and set its URL to {url}; its secret stays."
    else:
        refused = f"Mynth does not let this key manage webhooks ({status})"
        step = (
            f"add a webhook with the URL {url} and the events {', '.join(events)}, "
            "and set MYNTH_WEBHOOK_SECRET to the secret that is shown once."
        )
    if error.code == "insufficient_scope":
        refused += ": the key lacks the scope `manage`. Use a key that has it, or do it by hand"
    return f"{refused}. In Mynth's dashboard, {step}"
