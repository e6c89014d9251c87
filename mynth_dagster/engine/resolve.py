"""What a person decides about requests of unknown outcome: list them, attach a task, give up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ConfigError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.observations import Attachment, Observation, Source
from mynth_dagster.ledger.queries import Attempt
from mynth_dagster.limits import TASK_DEADLINE_S
from mynth_dagster.models.intent import Intent, tag_of
from mynth_dagster.models.task import Task
from mynth_dagster.models.transitions import HELD, RESUBMIT

GIVEN_UP = "given up by a person"


@dataclass(frozen=True)
class HeldRequest:
    """
    An intent that waits for evidence or a person.

    `exposure_units` is the most that it may have cost (10⁻⁸ USD), None where no price is known.
    """

    intent: Intent
    age_s: float
    exposure_units: int | None
    evidence: tuple[Attempt, ...]


def list_held(ledger: Ledger, batch: str | None, *, now_us: int) -> list[HeldRequest]:
    """List the intents in doubt, oldest first, with their evidence."""
    return [
        HeldRequest(
            intent=intent,
            age_s=(now_us - intent.claimed_at_us) / US_PER_S,
            exposure_units=intent.reserved_units or intent.quoted_units,
            evidence=tuple(ledger.read.attempts_of(intent.intent_id)),
        )
        for intent in ledger.read.held(batch)
    ]


def find_held(ledger: Ledger, intent_id: str) -> Intent:
    """
    Return the intent with this id, if a person may resolve it.

    Raises:
        ConfigError: There is none, or it is not in doubt.
    """
    intent = ledger.read.intents_by_id([intent_id]).get(intent_id)
    if intent is None:
        raise ConfigError("INTENT_ID", f"the ledger has no {intent_id}")
    if intent.state not in HELD:
        raise ConfigError("INTENT_ID", f"{intent_id} is {intent.state.value}, not in doubt")
    return intent


async def attach(session: Session, intent_id: str, task_id: str) -> Attachment:
    """
    Say that this task is what came of an intent; the task is read to check it.

    Raises:
        ConfigError: The task carries the tag of another intent.
        ApiError: The task cannot be read; nothing was changed.
    """
    intent = await asyncio.to_thread(find_held, session.ledger, intent_id)
    task = await session.client.get_task(task_id)
    _require_no_other_owner(task, intent)
    now = session.clock.instant()
    observed = await session.ledger.observe(
        Observation.of_intent(Source.PERSON, intent, task_id, now, deadline_s=TASK_DEADLINE_S)
    )
    assert observed.attachment is not None
    return observed.attachment


async def give_up(ledger: Ledger, intent_id: str, *, resubmit: bool) -> Intent:
    """
    Stop waiting for an intent; with `resubmit` the next run sends its row as a new generation.

    Its money stays unknown until evidence comes: a task of it that is seen later is still
    polled, charged and listed.

    Raises:
        ConfigError: There is no such intent in doubt.
    """
    intent = await asyncio.to_thread(find_held, ledger, intent_id)
    if not await ledger.abandon(intent, RESUBMIT if resubmit else GIVEN_UP):
        raise ConfigError("INTENT_ID", f"{intent_id} was resolved in the meantime")
    return intent


def _require_no_other_owner(task: Task, intent: Intent) -> None:
    tag = tag_of(task)
    if tag is not None and tag.intent_id != intent.intent_id:
        raise ConfigError("--attach", f"{task.task_id} was made for {tag.intent_id}")
    if tag is not None and not tag.matches(intent.request_hash):
        raise ConfigError("--attach", f"{task.task_id} was made for another text of this row")
