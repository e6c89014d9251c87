"""
The decision whether a run is requested for rows that were not sent, without a person.

A run is requested only for reasons that pass by themselves, after a pause, and a few times; it
sends by the same rules as any other. No run is requested where a person or money must change first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum

from mynth_dagster.clock import US_PER_S, SystemClock
from mynth_dagster.engine.session import EngineSettings, Session
from mynth_dagster.engine.stop import StopReason
from mynth_dagster.ledger import Ledger, Stopped
from mynth_dagster.ledger.queries import PartitionRow, Resting
from mynth_dagster.ledger.stops import Stop
from mynth_dagster.limits import (
    AUTO_RESUBMIT_AFTER_S,
    AUTO_RESUBMIT_PAUSE_FACTOR,
    AUTO_RESUBMITS_MAX,
)
from mynth_dagster.models.batch import Batch, Slice


class Reason(str, Enum):
    """Why rows of a partition were not sent, where that passes by itself."""

    RATE_LIMITED = "rate_limited"
    OUTAGE = "outage"
    NOT_ACCEPTED = "not_accepted"
    RESUMED = "resumed"
    UNPREPARED = "unprepared"


Place = tuple[str, str]

OUTCOMES_UNKNOWN = "outcomes_unknown"
NOT_PREPARED = "not_prepared"
"""Code of a stop before the prompts of a run that was to send were written."""

PASSING_STOPS = {
    NOT_PREPARED: Reason.UNPREPARED,
    "rate_limited": Reason.RATE_LIMITED,
    "unreachable": Reason.OUTAGE,
    OUTCOMES_UNKNOWN: Reason.OUTAGE,
    "stopped": Reason.RESUMED,
}
"""Codes of stops that pass by themselves; money, keys, settings and people do not."""


@dataclass(frozen=True)
class Unsent:
    """A partition with rows that may be sent by themselves, as of one version."""

    slice: Slice
    version: int
    reason: Reason


@dataclass(frozen=True)
class RequestedRun:
    """A run that was requested before, for one partition; `has_sent_all`: it ended well."""

    slice: Slice
    at_us: int
    has_sent_all: bool


async def leave_to_sensor(
    settings: EngineSettings, batch: Batch, slices: Sequence[Slice], stop: StopReason
) -> None:
    """
    Record that nothing was sent into these partitions, since Mynth was unreachable.

    Makes no request and needs no session: opening one may be what failed.
    """
    stopped = Stopped(stop.code, stop.message, SystemClock().instant())
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        await ledger.note_stop(batch.ledger_name, slices, stopped)


def reasons_to_resubmit(
    rows: Sequence[PartitionRow], resting: Mapping[Place, Resting], stops: Sequence[Stop]
) -> dict[Place, Reason]:
    """
    Return by window and fan-out why rows may be sent again automatically; others are left out.

    Partitions that a person stopped are left alone until the stop is lifted.
    """
    rows = [r for r in rows if not any(s.covers(r.batch, r.window, r.fan_out) for s in stops)]
    in_doubt = {window for (window, _), counts in resting.items() if counts.n_unsearched}
    found = {}
    for row in rows:
        place = row.window, row.fan_out
        n_not_accepted = resting.get(place, Resting()).n_not_accepted
        reason = _reason(row, n_not_accepted, is_in_doubt=row.window in in_doubt)
        if reason is not None:
            found[place] = reason
    return found


def _reason(row: PartitionRow, n_not_accepted: int, *, is_in_doubt: bool) -> Reason | None:
    """
    Return the reason for one partition; none while a run sends, or if it was killed while it did.

    An outage in which responses were lost is over when each of them in the whole window was found,
    proved absent, or searched for in a list that could be read. A row that is held then stays held,
    and the other rows need not wait for it: their tasks may show what the search lacked.
    """
    if row.submitter is not None:
        return None
    if row.stop_code is None:
        return Reason.NOT_ACCEPTED if n_not_accepted else None
    if row.stop_code == OUTCOMES_UNKNOWN and is_in_doubt:
        return None
    return PASSING_STOPS.get(row.stop_code)


def is_due(now_us: int, tried_at_us: int, requested: Sequence[RequestedRun]) -> bool:
    """
    Whether to request a run now: minutes after the last try, longer after each requested run.

    Args:
        tried_at_us: When a delivery was last begun, or a run that was to send stopped.
        requested: Runs for this partition within `limits.AUTO_RESUBMITS_WITHIN_S`.
    """
    if len(requested) >= AUTO_RESUBMITS_MAX:
        return False
    pause_s = AUTO_RESUBMIT_AFTER_S * float(AUTO_RESUBMIT_PAUSE_FACTOR) ** len(requested)
    since_us = max([tried_at_us, *(run.at_us for run in requested)])
    return bool(now_us - since_us >= pause_s * US_PER_S)


async def choose_due(
    session: Session, batch: Batch, unsent: Sequence[Unsent], requested: Sequence[RequestedRun]
) -> list[Unsent]:
    """
    Return the partitions to request a run for now.

    If a run ended well and sent none of the resting rows (they left the table), the next one would
    send none either: the ledger remembers such a partition until it changes.
    """
    in_vain = await _in_vain(session, batch)
    noted = {one.slice.key: one.version for one in unsent if _is_noted(one, in_vain)}
    due = list[Unsent]()
    for one, tried_at_us, now_us in await _tried(session, batch, unsent, noted):
        runs = [run for run in requested if run.slice == one.slice]
        if any(run.has_sent_all and run.at_us > tried_at_us for run in runs):
            noted[one.slice.key] = one.version
        elif is_due(now_us, tried_at_us, runs):
            due.append(one)
    if noted != in_vain:
        await session.ledger.set_meta(_key(batch), json.dumps(noted))
    return due


async def _tried(
    session: Session, batch: Batch, unsent: Sequence[Unsent], noted: Container[str]
) -> list[tuple[Unsent, int, int]]:
    """Return those not recorded as vain, each with its last try and now, on the ledger's clock."""
    left = [one for one in unsent if one.slice.key not in noted]
    if not left:
        return []
    read, slices = session.ledger.read.last_tries_us, [one.slice for one in left]
    tried = await asyncio.to_thread(read, batch.ledger_name, slices)
    now_us = (await session.ledger.now(session.clock.instant())).wall_us
    places = [(one.slice.window, one.slice.fan_out) for one in left]
    return [(one, tried.get(at, 0), now_us) for one, at in zip(left, places, strict=True)]


def _is_noted(one: Unsent, in_vain: Mapping[str, int]) -> bool:
    return in_vain.get(one.slice.key) == one.version


async def _in_vain(session: Session, batch: Batch) -> Mapping[str, int]:
    """Return the versions by partition for which a run had nothing to send."""
    noted = await asyncio.to_thread(session.ledger.read.meta, _key(batch))
    found: dict[str, int] = json.loads(noted) if noted else {}
    return found


def _key(batch: Batch) -> str:
    return f"auto_resubmit:in_vain:{batch.ledger_name}"
