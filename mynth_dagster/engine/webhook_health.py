"""
The decision whether a batch can rely on its webhooks.

No setting turns webhooks on. A batch relies on them if an event announced one of its tasks within
the last `WEBHOOKS_ON_FOR_S`: its tasks are then polled only once they are older than
`WEBHOOK_GRACE_S`, in case an event was lost. If polling finds several finished tasks that no event
announced, deliveries have stopped, and the batch is polled as if there were no webhooks.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from mynth_dagster.clock import US_PER_S, utc_from_us
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.work import Work
from mynth_dagster.ledger import Ledger
from mynth_dagster.limits import (
    UNANNOUNCED_MAX,
    UNANNOUNCED_MAX_S,
    WEBHOOK_GRACE_S,
    WEBHOOKS_ON_FOR_S,
)
from mynth_dagster.models.intent import Awaited


@dataclass(frozen=True)
class Unannounced:
    """Tasks that polling found finished without an event: when last, and how many."""

    at_us: int
    n_tasks: int


@dataclass(frozen=True)
class WebhookHealth:
    """
    The state of one batch's webhooks.

    Args:
        last_event_at_us: When an event of one of its tasks last came (UTC microseconds); None:
            never.
        unannounced: What polling found finished without an event, if anything.
    """

    last_event_at_us: int | None = None
    unannounced: Unannounced | None = None

    @property
    def have_stopped(self) -> bool:
        """Whether events came, and then tasks finished without one."""
        if self.last_event_at_us is None or self.unannounced is None:
            return False
        silent_s = (self.unannounced.at_us - self.last_event_at_us) / US_PER_S
        n_lost = self.unannounced.n_tasks
        return silent_s > (WEBHOOK_GRACE_S if n_lost >= UNANNOUNCED_MAX else UNANNOUNCED_MAX_S)

    def are_on(self, now_us: int) -> bool:
        """Whether a task that finishes now is likely to be announced."""
        if self.last_event_at_us is None or self.have_stopped:
            return False
        return now_us - self.last_event_at_us <= WEBHOOKS_ON_FOR_S * US_PER_S

    def is_due(self, task: Awaited, now_us: int) -> bool:
        """Whether this task is to be polled now."""
        is_late = now_us - task.since_us >= WEBHOOK_GRACE_S * US_PER_S
        return is_late or not self.are_on(now_us)

    @property
    def problem(self) -> str | None:
        """A message if webhooks have stopped; later none, since they may be off on purpose."""
        if not self.have_stopped or self.last_event_at_us is None or self.unannounced is None:
            return None
        if self.unannounced.at_us - self.last_event_at_us > WEBHOOKS_ON_FOR_S * US_PER_S:
            return None
        return (
            "webhooks have stopped coming: the last one at "
            f"{utc_from_us(self.last_event_at_us):%Y-%m-%d %H:%M:%S} UTC, and "
            f"{self.unannounced.n_tasks} tasks finished since without one. Polling goes on"
        )


def read_webhook_health(ledger: Ledger, batch_name: str) -> WebhookHealth:
    """Read the state by the batch's name in the ledger; call it from a worker thread."""
    last_event_at_us = ledger.events.last_at_us(batch_name)
    noted = None if last_event_at_us is None else ledger.read.meta(_meta_key(batch_name))
    return WebhookHealth(last_event_at_us, Unannounced(**json.loads(noted)) if noted else None)


async def webhook_health(session: Session, work: Work) -> WebhookHealth:
    """Return what polling may rely on: nothing if no endpoint gets the events of its tasks."""
    if work.delivery.mute_registered_webhooks and not work.delivery.webhook_urls:
        return WebhookHealth()
    return await asyncio.to_thread(read_webhook_health, session.ledger, work.ledger_name)


async def note_unannounced(
    session: Session, work: Work, health: WebhookHealth, n_tasks: int
) -> None:
    """Record that polling found this many finished tasks without an event."""
    if not n_tasks or health.last_event_at_us is None:
        return
    before = health.unannounced
    is_further = before is not None and before.at_us > health.last_event_at_us
    n_before = before.n_tasks if before is not None and is_further else 0
    noted = Unannounced(session.clock.now_us(), n_before + n_tasks)
    await session.ledger.set_meta(_meta_key(work.ledger_name), json.dumps(asdict(noted)))


def _meta_key(batch_name: str) -> str:
    return f"webhooks:unannounced:{batch_name}"
