"""
Whose task is it? Asked of each task that was read whole, before anything is filed under a row.

A cache that mixes up answers, or an edge that rewrites them, must not put a picture, or its price,
on the wrong row.
"""

from __future__ import annotations

import asyncio

from mynth_dagster.engine.session import Session
from mynth_dagster.models.intent import Awaited, Intent, tag_of
from mynth_dagster.models.request import task_type_of
from mynth_dagster.models.task import IMAGE_TASK, Task
from mynth_dagster.printable import printable_logger

_log = printable_logger(__name__)
PERSON = "person"
"""The source of a sighting that a person vouches for."""


async def is_own(session: Session, task: Task, intent: Intent | Awaited) -> bool:
    """
    Whether this task is what came of an intent; one that is not is kept as a dispute.

    It carries the tag that the request was sent with. A server that was never seen to give a tag
    back may leave it out; so may a task that a person attached. Looks at images carry none, and are
    known by their type.
    """
    said = await _why_foreign(session, task, intent)
    if not said:
        return True
    _log.warning("%s is not shown as the task of %s: %s", task.task_id, intent.intent_id, said)
    now = session.clock.instant()
    await session.ledger.record_dispute(intent.intent_id, task.task_id, now)
    return False


async def _why_foreign(session: Session, task: Task, intent: Intent | Awaited) -> str:
    tag = tag_of(task)
    if tag is not None:
        if not tag.is_of(intent.intent_id, intent.request_hash):
            return f"it carries the tag of {tag.intent_id}, or of another text of this row"
        await session.account.note_echo()
        return ""
    wanted = task_type_of(intent.model)
    if wanted != IMAGE_TASK:
        return "" if task.type == wanted else f"it is of the type {task.type}"
    if not await session.account.echoes_tags():
        return ""
    sources = await asyncio.to_thread(
        session.ledger.doubts.sources_of, intent.intent_id, task.task_id
    )
    return "" if PERSON in sources else "it has no tag, which this server gives back"
