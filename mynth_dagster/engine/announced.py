"""
How far webhooks can be relied on: which pending tasks are left to their announcement.

Nobody has to say that webhooks are on. A batch whose tasks were announced before is given
patience for the next ones, about twice as long as the newest announcements took; polling takes
over where none comes. So a lost delivery costs some minutes, a dead receiver costs requests.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from mynth_dagster.clock import US_PER_S, utc_from_us
from mynth_dagster.engine.poll import IsDue, always
from mynth_dagster.engine.session import Session
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import Heard
from mynth_dagster.limits import (
    ANNOUNCED_AFTER_MAX_S,
    ANNOUNCED_AFTER_MIN_S,
    HEARD_WITHIN_S,
    SILENT_AFTER_S,
    UNANNOUNCED_MAX,
)
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Awaited

PATIENCE_FACTOR = 2


@dataclass(frozen=True)
class Unannounced:
    """Tasks that polling found finished and nobody had announced: when last, and how many."""

    at_us: int
    n_tasks: int


@dataclass(frozen=True)
class Hearing:
    """What is known of the announcements of one batch's tasks; None where nothing is."""

    heard: Heard | None
    unannounced: Unannounced | None = None

    @property
    def has_stopped(self) -> bool:
        """Deliveries came, and then tasks finished without one."""
        if self.heard is None or self.unannounced is None:
            return False
        silent_us = self.unannounced.at_us - self.heard.last_at_us
        is_clear = self.unannounced.n_tasks >= UNANNOUNCED_MAX
        grace_s = ANNOUNCED_AFTER_MIN_S if is_clear else SILENT_AFTER_S
        return silent_us > grace_s * US_PER_S

    def patience_s(self, now_us: int) -> float:
        """How long after its submission a task is left to its announcement; 0: not at all."""
        if self.heard is None or self.has_stopped:
            return 0.0
        if now_us - self.heard.last_at_us > HEARD_WITHIN_S * US_PER_S:
            return 0.0
        usual_s = PATIENCE_FACTOR * self.heard.longest_wait_us / US_PER_S
        return min(max(usual_s, ANNOUNCED_AFTER_MIN_S), ANNOUNCED_AFTER_MAX_S)

    def in_words(self) -> str | None:
        """For people, where something is wrong; who switched webhooks off is left in peace."""
        if not self.has_stopped or self.heard is None or self.unannounced is None:
            return None
        if self.unannounced.at_us - self.heard.last_at_us > HEARD_WITHIN_S * US_PER_S:
            return None
        last = utc_from_us(self.heard.last_at_us).strftime("%Y-%m-%d %H:%M:%S")
        return (
            f"webhooks have stopped coming: the last one at {last} UTC, and "
            f"{self.unannounced.n_tasks} tasks finished since without one. "
            "Polling goes on"
        )


async def hearing_of(session: Session, batch: Batch) -> Hearing:
    """What the ledger knows of a batch's announcements."""
    return await asyncio.to_thread(read_hearing, session.ledger, batch.ledger_name)


def read_hearing(ledger: Ledger, batch_name: str) -> Hearing:
    """The same by the batch's name in the ledger; call it from a worker thread."""
    heard = ledger.inbox.heard(batch_name)
    noted = ledger.read.meta(_key(batch_name)) if heard is not None else None
    return Hearing(heard, Unannounced(**json.loads(noted)) if noted else None)


def is_due_by(hearing: Hearing, batch: Batch, now_us: int) -> IsDue:
    """Which pending tasks are to be polled now."""
    patience_us = 0.0 if _is_mute(batch) else hearing.patience_s(now_us) * US_PER_S
    if patience_us == 0:
        return always

    def is_due(task: Awaited) -> bool:
        return now_us - task.since_us >= patience_us

    return is_due


async def note_unannounced(session: Session, batch: Batch, hearing: Hearing, n_tasks: int) -> None:
    """Polling found finished what nobody had announced."""
    if not n_tasks or hearing.heard is None or _is_mute(batch):
        return
    before = hearing.unannounced
    is_further = before is not None and before.at_us > hearing.heard.last_at_us
    n_before = before.n_tasks if before is not None and is_further else 0
    noted = Unannounced(session.clock.now_us(), n_before + n_tasks)
    await session.ledger.set_meta(_key(batch.ledger_name), json.dumps(asdict(noted)))


def _is_mute(batch: Batch) -> bool:
    """Nobody is told of its tasks."""
    return batch.defaults.mute_registered_webhooks and not batch.defaults.webhook_urls


def _key(batch_name: str) -> str:
    return f"webhook:unannounced:{batch_name}"
