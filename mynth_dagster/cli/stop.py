"""`mynth-dagster stop` and `mynth-dagster resume`: a person's word that nothing more is sent."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say
from mynth_dagster.cli.options import Ledger, Root
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.session import ledger_url_in
from mynth_dagster.engine.stop import StopTarget, lift_stops, stop_sending
from mynth_dagster.errors import ConfigError
from mynth_dagster.ledger import Ledger as OpenLedger

T = TypeVar("T")
BatchName = Annotated[str | None, typer.Option("--batch", help="Name of the batch.")]
PartitionKey = Annotated[
    str | None, typer.Option("--partition", help="Only this partition, as `status` names it.")
]
All = Annotated[bool, typer.Option("--all", help="Every batch of the ledger.")]


def stop(
    root: Root,
    batch: BatchName = None,
    partition: PartitionKey = None,
    everything: All = False,
    reason: Annotated[str, typer.Option(help="Why; shown to whoever finds rows unsent.")] = "",
    ledger: Ledger = None,
) -> None:
    """
    Send nothing more, from any run on any machine, until `mynth-dagster resume`.

    When it returns no further row is claimed. Requests that have left are paid for, and recorded.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        target = _target(batch, partition, everything=everything)

        async def work(opened: OpenLedger) -> str:
            await stop_sending(opened, target, who=_who(), reason=reason, clock=SystemClock())
            return (
                f"Stopped: nothing more is sent of {target}. To go on: `{target.resume_command}`."
            )

        say(Console(), _with_ledger(ledger or ledger_url_in(root, must_exist=True), work))


def resume(
    root: Root,
    batch: BatchName = None,
    partition: PartitionKey = None,
    everything: All = False,
    ledger: Ledger = None,
) -> None:
    """
    Lift a stop. What was not sent is sent by the next run, which the sensor starts by itself.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        target = _target(batch, partition, everything=everything)

        async def work(opened: OpenLedger) -> str:
            lifted, left = await lift_stops(opened, target, who=_who(), clock=SystemClock())
            told = [f"{len(lifted)} stops lifted of {target}."]
            told += [f"Still stopped: {each}" for each in left]
            if lifted and not left:
                told.append("The next run sends what is left; the completion sensor starts one.")
            return "\n".join(told)

        say(Console(), _with_ledger(ledger or ledger_url_in(root, must_exist=True), work))


def _target(batch: str | None, partition: str | None, *, everything: bool) -> StopTarget:
    if everything is (batch is not None):
        raise ConfigError("--batch", "name a batch, or say --all")
    if everything and partition is not None:
        raise ConfigError("--partition", "a partition is one of a batch: name that, too")
    return StopTarget(batch or "", partition)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _with_ledger(url: str, work: Callable[[OpenLedger], Awaitable[str]]) -> str:
    async def opened() -> str:
        with closing(OpenLedger.open(url)) as ledger:
            return await work(ledger)

    return asyncio.run(opened())
