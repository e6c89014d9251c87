"""Answers that an earlier process could not write into the ledger are taken in as sightings."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.journal import read_left_behind
from mynth_dagster.ledger.observations import Sighting


async def take_in_spools(ledger: Ledger, folder: Path) -> int:
    """
    Bring what gone processes left behind into the ledger; how many answers.

    A spool is deleted only when all of it is committed. An answer to an intent that this ledger
    does not know is another ledger's: its spool is left alone.
    """
    n_taken = 0
    for path, answers in await asyncio.to_thread(lambda: list(read_left_behind(folder))):
        ids = [answer.intent_id for answer in answers]
        intents = await asyncio.to_thread(ledger.read.intents_by_id, ids)
        if set(ids) - set(intents):
            continue
        for answer in answers:
            sighting = Sighting(
                intent=intents[answer.intent_id],
                task_id=answer.task_id,
                source="spool",
                seen_at_us=answer.seen_at_us,
                deadline_at_us=answer.deadline_at_us,
                reserved_units=answer.reserved_units,
            )
            await ledger.record_sighting(sighting)
            n_taken += 1
        reach(CrashPoint.SPOOL_TAKEN_IN)
        path.unlink(missing_ok=True)
    return n_taken
