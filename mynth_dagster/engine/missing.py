"""
Tasks that Mynth says it does not know, although it accepted them.

One 404 proves little: a cache, a router, a wrong server. So each look is made beside another task
of ours that is there, reads the whole task by its id, and only several over an hour make it lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, NotFoundError
from mynth_dagster.ledger.doubts import Missing
from mynth_dagster.models.intent import Intent


async def note_missing(
    session: Session, not_found: Sequence[Intent], *, found: Sequence[Intent]
) -> int:
    """
    Count tasks of which a status said 404, and forgive those that are there again; how many
    became lost.

    Args:
        found: Intents whose tasks answered in the same round.
    """
    seen = [Missing(intent, is_missing=False) for intent in found if intent.missed]
    if not_found and await _has_witness(session, not_found, found):
        looked = await asyncio.gather(*(_look(session, intent) for intent in not_found))
        seen += [missing for missing in looked if missing is not None]
    if not seen:
        return 0
    return await session.ledger.note_missing(seen, session.clock.instant())


async def _look(session: Session, intent: Intent) -> Missing | None:
    try:
        await session.client.get_task(str(intent.task_id))
    except NotFoundError:
        return Missing(intent, is_missing=True)
    except ApiError:
        return None
    return Missing(intent, is_missing=False)


async def _has_witness(
    session: Session, not_found: Sequence[Intent], found: Sequence[Intent]
) -> bool:
    """Another task of ours can be read now: the server is the right one and is well."""
    if found:
        return True
    missing = [str(intent.task_id) for intent in not_found]
    other = await asyncio.to_thread(session.ledger.accounts.newest_task, missing)
    if other is None:
        return False
    try:
        await session.client.get_task(other)
    except ApiError:
        return False
    return True
