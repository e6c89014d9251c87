"""
Tasks that Mynth says it does not know, although it accepted them.

One 404 proves little: a cache, a router, a wrong server. So only the URL that a task was made at
can miss it, each look is made beside another task from there that is there, reads the whole task by
its id, and only several over an hour make it lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, NotFoundError
from mynth_dagster.ledger.observations import Missing
from mynth_dagster.models.intent import Awaited


async def note_missing(
    session: Session, not_found: Sequence[Awaited], *, found: Sequence[Awaited]
) -> int:
    """
    Count tasks of which a status said 404, and forgive those that are there again; how many
    became lost.

    Args:
        found: Those whose tasks answered in the same round.
    """
    seen = [Missing(awaited.intent_id, is_missing=False) for awaited in found if awaited.missed]
    if not_found:
        certain = (await session.account.reach()).certain
        not_found = [x for x in not_found if x.account in certain]
        found = [x for x in found if x.account in certain]
    if not_found and await _has_witness(session, not_found, found, certain):
        looked = await asyncio.gather(*(_look(session, awaited) for awaited in not_found))
        seen += [missing for missing in looked if missing is not None]
    if not seen:
        return 0
    return await session.ledger.note_missing(seen, session.clock.instant())


async def _look(session: Session, awaited: Awaited) -> Missing | None:
    try:
        await session.client.get_task(awaited.task_id)
    except NotFoundError:
        return Missing(awaited.intent_id, is_missing=True)
    except ApiError:
        return None
    return Missing(awaited.intent_id, is_missing=False)


async def _has_witness(
    session: Session,
    not_found: Sequence[Awaited],
    found: Sequence[Awaited],
    accounts: Collection[int],
) -> bool:
    """Another task of ours can be read now: the server is the right one and is well."""
    if found:
        return True
    missing = [awaited.task_id for awaited in not_found]
    other = await asyncio.to_thread(session.ledger.accounts.newest_task, accounts, missing)
    if other is None:
        return False
    try:
        await session.client.get_task(other)
    except ApiError:
        return False
    return True
