"""
A walk over the task list, newest first, that reads every task which the ledger does not know.

Whatever carries the tag of an intent of ours is attached to it, of whichever batch it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, UnauthorizedError
from mynth_dagster.ledger.evidence import Attachment, Sighting
from mynth_dagster.ledger.subjects import OpenSubject, Subject
from mynth_dagster.limits import INTENT_TAG_KEY, WALK_MARGIN_S
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.inspection import normal_url
from mynth_dagster.models.intent import Intent, parse_tag
from mynth_dagster.models.task import IMAGE_TASK, ListedTask, Task

WALK_PAGES_MAX = 100_000


@dataclass
class WalkFindings:
    """
    What a walk saw.

    Args:
        is_complete: Every page down to the wanted age, or to the end, and every unknown task on
            them was read.
        reached_us: Creation of the oldest task seen, on the server's clock; None: the end.
        witness_no: The running number of the newest claim whose task was listed.
    """

    page_size: int
    is_complete: bool = False
    reached_us: int | None = None
    witness_no: int = 0
    n_attached: int = 0
    n_unread: int = 0


async def walk_list(
    session: Session,
    batch: Batch,
    *,
    oldest_us: int,
    page_size: int,
    until_s: float | None = None,
) -> WalkFindings:
    """
    Walk down to a task older than `oldest_us` (server's clock), or to the end.

    The end is an empty page: a short one proves nothing, since a server may give fewer than asked.

    Raises:
        UnauthorizedError: The key is refused.
    """
    found, after = WalkFindings(page_size), None
    subjects = await asyncio.to_thread(session.ledger.subjects.open)
    for _ in range(WALK_PAGES_MAX):
        if until_s is not None and session.clock.elapsed_s() >= until_s:
            return found
        try:
            page = await session.client.list_tasks(limit=page_size, after=after)
        except UnauthorizedError:
            raise
        except ApiError:
            return found
        recent = [task for task in page if task.created_at_us >= oldest_us]
        await _take_in(session, batch, recent, found, subjects)
        if not page or page[-1].created_at_us < oldest_us:
            found.reached_us = oldest_us if page else None  # what is older there was not read
            found.is_complete = found.n_unread == 0
            return found
        after = page[-1].task_id
    return found


async def _take_in(
    session: Session,
    batch: Batch,
    page: Sequence[ListedTask],
    found: WalkFindings,
    subjects: Mapping[Subject, Sequence[OpenSubject]],
) -> None:
    types = {IMAGE_TASK, *(task_type for task_type, _ in subjects)}
    ids = [task.task_id for task in page if task.type in types]
    known = await asyncio.to_thread(session.ledger.read.owners, ids)
    if found.witness_no == 0 and known:
        found.witness_no = await asyncio.to_thread(session.ledger.doubts.witness_no, known)
    unknown = [task_id for task_id in ids if task_id not in known]
    for task in await asyncio.gather(*(_read(session, task_id) for task_id in unknown)):
        if task is None or (task.type != IMAGE_TASK and task.inspected_url is None):
            found.n_unread += 1
            continue
        intent = await _intent_of(session, task, subjects)
        if intent is not None:
            attachment = await _attach(session, batch, task, intent)
            found.n_attached += attachment is Attachment.ATTACHED


async def _read(session: Session, task_id: str) -> Task | None:
    await session.throttle.acquire()
    try:
        return await session.client.get_task(task_id)
    except UnauthorizedError:
        raise
    except ApiError:
        return None  # proves nothing: the walk is not complete, the next one asks again
    finally:
        await session.throttle.release()


async def _attach(session: Session, batch: Batch, task: Task, intent: Intent) -> Attachment:
    now_us = session.clock.now_us()
    return await session.ledger.record_sighting(
        Sighting.at(now_us, intent, task.task_id, "list", deadline_s=batch.deadline_s)
    )


async def _intent_of(
    session: Session, task: Task, subjects: Mapping[Subject, Sequence[OpenSubject]]
) -> Intent | None:
    """By the tag that a task carries; a look at an image by what it looked at."""
    if task.type == IMAGE_TASK:
        return await _tagged(session, task)
    account = await session.account.number()
    candidates = [
        candidate.intent
        for candidate in subjects.get((task.type, normal_url(task.inspected_url or "")), ())
        if candidate.account == account and _is_later(task, candidate)
    ]
    if len(candidates) == 1:
        return candidates[0]
    for intent in candidates:  # whose it is cannot be told: none of them may be cleared
        await session.ledger.record_dispute(intent, task.task_id, session.clock.instant())
    return None


def _is_later(task: Task, candidate: OpenSubject) -> bool:
    """Whether the task may have been made by this intent's request, by the server's clock."""
    claimed_us = candidate.claimed_server_us
    return claimed_us is None or task.created_at_us >= claimed_us - WALK_MARGIN_S * US_PER_S


async def _tagged(session: Session, task: Task) -> Intent | None:
    """The intent of ours that a task carries the tag of."""
    tag = parse_tag(task.metadata.get(INTENT_TAG_KEY))
    if tag is None or tag.ledger_id != session.ledger.ledger_id:
        return None
    found = await asyncio.to_thread(session.ledger.read.intents_by_id, [tag.intent_id])
    intent = found.get(tag.intent_id)
    if intent is not None and not tag.matches(intent.request_hash):
        await session.ledger.record_dispute(intent, task.task_id, session.clock.instant())
        return None
    return intent
