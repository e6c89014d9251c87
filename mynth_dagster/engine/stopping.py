"""Stopping and resuming by a person's word, from the command line or from a job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mynth_dagster.clock import Clock, utc_from_us
from mynth_dagster.errors import ConfigError, name_some
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Stop
from mynth_dagster.models.batch import Slice


@dataclass(frozen=True)
class StopTarget:
    """
    What a stop is about.

    Args:
        batch: The batch's identity in the ledger; empty: every batch.
        partition: Key of one partition of the batch; None: all.
    """

    batch: str
    partition: str | None = None

    def __str__(self) -> str:
        of = f"batch {self.batch!r}" if self.batch else "any batch"
        return of if self.partition is None else f"partition {self.partition!r} of {of}"

    @property
    def resume_command(self) -> str:
        """What lifts it."""
        of = f"--batch {self.batch}" if self.batch else "--all"
        only = "" if self.partition is None else f" --partition '{self.partition}'"
        return f"mynth-dagster resume {of}{only}"


async def stop_sending(
    ledger: Ledger, target: StopTarget, *, who: str, reason: str, clock: Clock
) -> Stop:
    """
    Have no further row claimed once this returns, by whatever run.

    Raises:
        ConfigError: The ledger knows no such batch or partition; nothing was stopped.
    """
    window, fan_out = await asyncio.to_thread(_place, ledger, target)
    said = reason or "no reason given"
    stop = Stop(target.batch, window, fan_out, who, said, clock.now_us())
    await ledger.stops.stop(stop, clock.instant())
    return stop


async def lift_stops(
    ledger: Ledger, target: StopTarget, *, who: str, clock: Clock
) -> tuple[list[Stop], list[str]]:
    """
    Lift what stops the target; what was lifted, and in words what still stops it.

    Raises:
        ConfigError: The ledger knows no such batch or partition.
    """
    window, fan_out = await asyncio.to_thread(_place, ledger, target)
    lifted = await ledger.stops.lift(target.batch, window, fan_out, who=who, now=clock.instant())
    return lifted, await asyncio.to_thread(stops_of, ledger, target.batch)


def stops_of(ledger: Ledger, batch: str) -> list[str]:
    """What stops a batch now, or some of it, in words; nothing where nobody did."""
    return [in_words(stop) for stop in ledger.stops.active() if stop.batch in ("", batch)]


def in_words(stop: Stop) -> str:
    """A stop in one line: what, by whom, when, why."""
    of = f"batch {stop.batch}" if stop.batch else "everything"
    if stop.window is not None:
        of = f"partition {Slice(stop.window, stop.fan_out or '').key} of {of}"
    return f"{of}, by {stop.who} at {utc_from_us(stop.at_us):%F %T} UTC: {stop.reason}"


def _place(ledger: Ledger, target: StopTarget) -> tuple[str | None, str | None]:
    if not target.batch:
        return None, None
    ledger.read.require_batch(target.batch)
    if target.partition is None:
        return None, None
    rows = ledger.read.partitions(target.batch)
    keys = {Slice(row.window, row.fan_out).key: (row.window, row.fan_out) for row in rows}
    if target.partition not in keys:
        known = name_some(list(keys))
        raise ConfigError(
            "partition", f"{target.batch} has no partition {target.partition!r}; it has {known}"
        )
    return keys[target.partition]
