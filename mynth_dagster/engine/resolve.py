"""
Resolving requests of unknown outcome: by evidence in the task list, or by a person.

`resolve_unresolved` searches the task list, attaches the tasks that it finds, and marks the rows
that `engine.absence` proves absent. `attach` and `give_up` carry out what a person decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S, Instant, utc_from_us
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.absence import (
    ListSearch,
    is_not_accepted,
    is_walk_due,
    next_page_size,
    why_not_absent,
)
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import ConfigError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.observations import Attachment, Observation, Source
from mynth_dagster.ledger.queries import Attempt
from mynth_dagster.limits import TASK_DEADLINE_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent, Trail, UnresolvedIntent, Walk, tag_of
from mynth_dagster.models.task import Task
from mynth_dagster.models.transitions import HELD, RESUBMIT, IntentState

GIVEN_UP = "given up by a person"


@dataclass(frozen=True)
class InDoubt:
    """
    An intent that waits for evidence or a person.

    `exposure_units` is the most that it may have cost (10⁻⁸ USD), None where no price is known.
    """

    intent: Intent
    age_s: float
    exposure_units: int | None
    evidence: tuple[Attempt, ...]


def list_in_doubt(ledger: Ledger, batch: str | None, *, now_us: int) -> list[InDoubt]:
    """List the intents in doubt, oldest first, with their evidence."""
    return [
        InDoubt(
            intent=intent,
            age_s=(now_us - intent.claimed_at_us) / US_PER_S,
            exposure_units=intent.reserved_units or intent.quoted_units,
            evidence=tuple(ledger.read.attempts_of(intent.intent_id)),
        )
        for intent in ledger.read.held(batch)
    ]


def find_in_doubt(ledger: Ledger, intent_id: str) -> Intent:
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
    intent = await asyncio.to_thread(find_in_doubt, session.ledger, intent_id)
    task = await session.client.get_task(task_id)
    _require_no_other_owner(task, intent)
    now = session.clock.instant()
    observed = await session.ledger.observe(
        Observation.of_intent(Source.PERSON, intent, task_id, now, deadline_s=TASK_DEADLINE_S)
    )
    assert observed.attachment is not None
    return observed.attachment


async def give_up(ledger: Ledger, intent_id: str, *, ask_again: bool) -> Intent:
    """
    Stop waiting for an intent; with `ask_again` the next run sends its row as a new generation.

    Its money stays unknown until evidence comes: a task of it that is seen later is still
    polled, charged and listed.

    Raises:
        ConfigError: There is no such intent in doubt.
    """
    intent = await asyncio.to_thread(find_in_doubt, ledger, intent_id)
    if not await ledger.abandon(intent, RESUBMIT if ask_again else GIVEN_UP):
        raise ConfigError("INTENT_ID", f"{intent_id} was resolved in the meantime")
    return intent


def _require_no_other_owner(task: Task, intent: Intent) -> None:
    tag = tag_of(task)
    if tag is not None and tag.intent_id != intent.intent_id:
        raise ConfigError("--attach", f"{task.task_id} was made for {tag.intent_id}")
    if tag is not None and not tag.matches(intent.request_hash):
        raise ConfigError("--attach", f"{task.task_id} was made for another text of this row")


# Resolving by evidence.
#
# Only evidence attaches a task to an intent: the tag that we sent along, read from the whole task.
# A walk over the task list can find that evidence, and two of them can prove that there is none
# (`engine.absence` defines when). Where there is no list, the intent is held.


UNRESOLVED = (IntentState.UNRESOLVED,)
ALL_OPEN = (IntentState.UNRESOLVED, IntentState.SENDING)


@dataclass(frozen=True)
class ResolveResult:
    """The result of a search: tasks found, and requests proved not to have been accepted."""

    n_attached: int = 0
    n_not_accepted: int = 0


NOTHING_RESOLVED = ResolveResult()


async def expire_interrupted(session: Session, ledger_name: str, windows: Sequence[str]) -> int:
    """
    Turn rows that a gone process left `sending` into `unresolved`; return how many.

    A row counts as interrupted once its time to send and the whole deadline of the POST are over,
    whichever process claimed it.
    """
    grace_us = round(session.settings.client.request_timeout_s * US_PER_S)
    now = session.clock.instant()
    expired = [
        await session.ledger.expire_sending(ledger_name, window, grace_us, now)
        for window in windows
    ]
    return sum(expired)


async def resolve_unresolved(
    session: Session,
    work: Work,
    slices: Sequence[Slice] | None,
    *,
    states: Sequence[IntentState] = UNRESOLVED,
    until_s: float | None = None,
) -> ResolveResult:
    """
    Search for the tasks of deliveries in doubt, if a search is due.

    Makes no request if nothing is open or if the revision has no list. A list that cannot be read
    proves nothing and is no error: the rows stay in doubt.

    Args:
        slices: None: all partitions.
        states: `ALL_OPEN` also searches for requests that a killed process may have sent just now.
        until_s: On `Clock.elapsed_s`; no page is requested later.

    Raises:
        UnauthorizedError: The key is refused.
    """
    if not session.client.profile.HAS_TASK_LIST:
        return NOTHING_RESOLVED
    open_ = await _unresolved(session, work.ledger_name, slices, states)
    if not open_:
        return NOTHING_RESOLVED
    account = await session.account.number()
    walks = await asyncio.to_thread(session.ledger.read.walks, account)
    now = await _now(session)
    marks_absent = work.batch.marks_absent
    if not any(
        is_walk_due(unresolved, walks, now, marks_absent=marks_absent) for unresolved in open_
    ):
        return NOTHING_RESOLVED
    page_size = next_page_size(walks)
    oldest_seq = min(unresolved.claimed_seq for unresolved in open_)
    searching = ListSearch(
        session,
        deadline_s=work.batch.deadline_s,
        page_size=page_size,
        older_than_seq=oldest_seq,
    )
    if not await searching.go(until_s=until_s):
        return ResolveResult(searching.n_attached)
    await searching.look_for_flaws()
    reach(CrashPoint.WALKED)
    ended = await _now(session)
    left = await _unresolved(session, work.ledger_name, slices, UNRESOLVED)
    searched = {unresolved.intent.intent_id for unresolved in open_}
    left = [unresolved for unresolved in left if unresolved.intent.intent_id in searched]
    findings = await _findings(session, work, left, searching.trail, now, account)
    walk = Walk(account, page_size, now, ended, findings)
    await session.ledger.record_walk(walk)
    reach(CrashPoint.WALK_RECORDED)
    n_not_accepted = 0
    if marks_absent:
        n_not_accepted = await _mark_absent(session, left, [*walks, walk])
        reach(CrashPoint.CLEARED)
    return ResolveResult(searching.n_attached, n_not_accepted)


async def _findings(
    session: Session,
    work: Work,
    all_unresolved: Sequence[UnresolvedIntent],
    trail: Trail,
    began: Instant,
    account: int,
) -> dict[str, str]:
    """Return by intent why the walk does not prove that it has no task; empty where it does."""
    tells = any(strange.asked is not None for _, strange in trail.strange)
    asked = await asyncio.to_thread(work.asked_for, session, all_unresolved) if tells else {}

    def finding(unresolved: UnresolvedIntent) -> str:
        by_it = asked.get((unresolved.intent.row.request_key, unresolved.intent.request_hash))
        return why_not_absent(unresolved, trail, began=began, account=account, asked=by_it)

    return {unresolved.intent.intent_id: finding(unresolved) for unresolved in all_unresolved}


async def _mark_absent(
    session: Session, all_unresolved: Sequence[UnresolvedIntent], walks: Sequence[Walk]
) -> int:
    absent = [unresolved for unresolved in all_unresolved if is_not_accepted(unresolved, walks)]
    if not absent:
        return 0
    last = utc_from_us(walks[-1].ended.wall_us)
    message = f"two complete walks over the task list found nothing, the last at {last:%F %TZ}"
    return await session.ledger.mark_not_accepted(absent, message)


async def _unresolved(
    session: Session,
    ledger_name: str,
    slices: Sequence[Slice] | None,
    states: Sequence[IntentState],
) -> list[UnresolvedIntent]:
    read = session.ledger.read.unresolved
    return await asyncio.to_thread(read, ledger_name, slices, states)


async def _now(session: Session) -> Instant:
    return await session.ledger.now(session.clock.instant())
