"""
Finding out what happened to a POST whose answer was lost.

Only evidence attaches a task to an intent: the tag that we sent along, read from the whole task.
A walk over the task list can find that evidence; where there is no list, the intent is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, UnauthorizedError
from mynth_dagster.ledger.evidence import Attachment, Sighting
from mynth_dagster.limits import INTENT_TAG_KEY
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Intent, IntentTag, parse_tag
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import ListedTask, Task
from mynth_dagster.models.transitions import IntentState

OLDER_BY_US = 600 * US_PER_S
"""A walk goes on until it meets a task this much older than the oldest intent in question."""

WALK_PAGES_MAX = 10_000
IMAGE_TASK = "image.generate"


async def expire_interrupted(session: Session, batch: Batch, windows: Sequence[str]) -> int:
    """
    Rows that a gone process left `sending` become `unresolved`; how many.

    A row counts as interrupted once its time to send and the whole deadline of the POST are over,
    whoever owned it.
    """
    timeout_us = round(session.settings.client.request_timeout_s * US_PER_S)
    before_us = session.clock.now_us() - timeout_us
    expired = [
        await session.ledger.expire_sending(batch.ledger_name, window, before_us)
        for window in windows
    ]
    return sum(expired)


async def attach_by_evidence(
    session: Session, batch: Batch, slices: Sequence[Slice], *, until_s: float | None = None
) -> int:
    """
    Look for the tasks of open deliveries in the task list; how many were attached.

    Costs nothing where nothing is open or where the revision has no list. A list that cannot be
    read proves nothing and is no error: the rows stay open.

    Args:
        until_s: On `Clock.elapsed_s`; no page is asked for later.

    Raises:
        UnauthorizedError: The key is refused.
    """
    if not session.client.profile.HAS_TASK_LIST:
        return 0
    states = [IntentState.SENDING, IntentState.UNRESOLVED]
    open_ = await asyncio.to_thread(
        session.ledger.read.intents_in, batch.ledger_name, slices, states
    )
    if not open_:
        return 0
    oldest_us = min(intent.claimed_at_us for intent in open_) - OLDER_BY_US
    n_attached = 0
    async for page in _walk(session, oldest_us, until_s):
        recent = [task for task in page if task.created_at_us >= oldest_us]
        for task in await _unknown(session, recent):
            n_attached += await _attach(session, batch, task) is Attachment.ATTACHED
    return n_attached


async def _walk(
    session: Session, oldest_us: int, until_s: float | None
) -> AsyncIterator[list[ListedTask]]:
    after: str | None = None
    size = session.client.profile.LIMITS.list_page_max
    for _ in range(WALK_PAGES_MAX):
        if until_s is not None and session.clock.elapsed_s() >= until_s:
            return
        try:
            page = await session.client.list_tasks(limit=size, after=after)
        except UnauthorizedError:
            raise
        except ApiError:
            return
        yield page
        if len(page) < size or page[-1].created_at_us < oldest_us:
            return
        after = page[-1].task_id


async def _unknown(session: Session, page: Sequence[ListedTask]) -> list[Task]:
    """The tasks of a page that the ledger has never seen, read whole."""
    ids = [task.task_id for task in page if task.type == IMAGE_TASK]
    known = await asyncio.to_thread(session.ledger.read.known_tasks, ids)
    unknown = [task_id for task_id in ids if task_id not in known]
    read = await asyncio.gather(*(_read(session, task_id) for task_id in unknown))
    return [task for task in read if task is not None]


async def _read(session: Session, task_id: str) -> Task | None:
    await session.throttle.acquire()
    try:
        return await session.client.get_task(task_id)
    except ApiError:
        return None  # proves nothing: the next walk asks again
    finally:
        await session.throttle.release()


async def _attach(session: Session, batch: Batch, task: Task) -> Attachment | None:
    tag = parse_tag(task.metadata.get(INTENT_TAG_KEY))
    if tag is None or tag.ledger_id != session.ledger.ledger_id:
        return None
    intent = await _intent_of(session, tag)
    if intent is None or not tag.matches(intent.request_hash):
        return None
    now_us = session.clock.now_us()
    return await session.ledger.record_sighting(
        Sighting(
            intent=intent,
            task_id=task.task_id,
            source="list",
            seen_at_us=now_us,
            deadline_at_us=now_us + round(batch.deadline_s * US_PER_S),
        )
    )


async def _intent_of(session: Session, tag: IntentTag) -> Intent | None:
    found = await asyncio.to_thread(session.ledger.read.intents_by_id, [tag.intent_id])
    return found.get(tag.intent_id)
