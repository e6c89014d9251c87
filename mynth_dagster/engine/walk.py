"""
A walk over the task list, newest first, that reads every task which the ledger does not know.

Whatever carries the tag of an intent of ours is attached to it, of whichever batch it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, UnauthorizedError
from mynth_dagster.ledger.evidence import Attachment, Sighting
from mynth_dagster.limits import INTENT_TAG_KEY
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Intent, IntentTag, parse_tag
from mynth_dagster.models.task import ListedTask, Task

WALK_PAGES_MAX = 100_000
IMAGE_TASK = "image.generate"


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
        await _take_in(session, batch, recent, found)
        if not page or page[-1].created_at_us < oldest_us:
            found.reached_us = page[-1].created_at_us if page else None
            found.is_complete = found.n_unread == 0
            return found
        after = page[-1].task_id
    return found


async def _take_in(
    session: Session, batch: Batch, page: Sequence[ListedTask], found: WalkFindings
) -> None:
    ids = [task.task_id for task in page if task.type == IMAGE_TASK]
    known = await asyncio.to_thread(session.ledger.read.known_tasks, ids)
    if found.witness_no == 0 and known:
        found.witness_no = await asyncio.to_thread(session.ledger.doubts.witness_no, known)
    unknown = [task_id for task_id in ids if task_id not in known]
    for task in await asyncio.gather(*(_read(session, task_id) for task_id in unknown)):
        if task is None:
            found.n_unread += 1
        else:
            found.n_attached += await _attach(session, batch, task) is Attachment.ATTACHED


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


async def _attach(session: Session, batch: Batch, task: Task) -> Attachment | None:
    tag = parse_tag(task.metadata.get(INTENT_TAG_KEY))
    if tag is None or tag.ledger_id != session.ledger.ledger_id:
        return None
    intent = await _intent_of(session, tag)
    if intent is None:
        return None
    if not tag.matches(intent.request_hash):
        await session.ledger.record_dispute(intent, task.task_id, session.clock.instant())
        return None
    now_us = session.clock.now_us()
    return await session.ledger.record_sighting(
        Sighting.at(now_us, intent, task.task_id, "list", deadline_s=batch.deadline_s)
    )


async def _intent_of(session: Session, tag: IntentTag) -> Intent | None:
    found = await asyncio.to_thread(session.ledger.read.intents_by_id, [tag.intent_id])
    return found.get(tag.intent_id)
