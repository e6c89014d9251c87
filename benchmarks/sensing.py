"""A tick of the completion sensor over a thousand open partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks import ours
from benchmarks.measured import cores, measure
from benchmarks.paid import keep
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, serving
from benchmarks.submitting import folder
from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.session import open_session, run
from mynth_dagster.ledger import Ledger
from mynth_dagster.limits import SENSOR_BUDGET_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.request import RowRequest, request_hash
from mynth_dagster.tables.requests import PlannedRow

N_TASKS = 1_000_000
N_WINDOWS = 10
N_SHARDS = 100
N_TICKS = 3
BATCH = replace(ours.BATCH, fan_out=N_SHARDS)
TICK_MAX_S = 40.0
"""What leaves a third of Dagster's deadline."""


@dataclass(frozen=True)
class Tick:
    """Seconds, whether all tasks were asked about, and how many partitions have news."""

    wall_s: float
    is_complete: bool
    n_noticed: int


def lines(*, scale: float, **_: int) -> list[Line]:
    """Some ticks, one after the other; each goes on where the one before stopped."""
    n_tasks, (server_core, core) = round(N_TASKS * scale), cores()
    with serving(server_core) as server, folder() as path:
        url = f"sqlite:///{path}/ledger.db"
        slices = [slice_ for w in range(N_WINDOWS) for slice_ in BATCH.slices(f"w{w}")]
        open_all(url, slices)
        keep(url, BATCH, rows_of(slices, n_tasks), finished=False)
        server.behave(Behaviour(task_max_s=1200.0, n_there=n_tasks))
        measured = measure(core, tick, server.url, path)
        requests = server.seen().requests
    ticks: list[Tick] = measured.result
    what = f"sensor, {len(slices):,} partitions, {n_tasks:,} tasks: "
    return [
        line(f"{what}s a tick", [t.wall_s for t in ticks], "{:.1f}", Aim(at_most=TICK_MAX_S)),
        line(f"{what}MiB over the base", [measured.over_base_mib], aim=Aim(at_most=300)),
        line(f"{what}pages of the list a tick", [requests["GET /tasks"] / len(ticks)]),
        line(f"{what}partitions with news after each tick", [float(t.n_noticed) for t in ticks]),
        line(f"{what}ticks that reached all", [float(sum(t.is_complete for t in ticks))]),
    ]


def open_all(url: str, slices: list[Slice]) -> None:
    """Make the partitions known."""

    async def work() -> None:
        ledger = Ledger.open(url)
        await ledger.open_partitions(BATCH.ledger_name, slices, "benchmark")
        await ledger.close_partitions(BATCH.ledger_name, slices)
        ledger.close()

    asyncio.run(work())


def rows_of(slices: list[Slice], n_rows: int) -> Iterator[tuple[Slice, PlannedRow]]:
    """So many rows, partition by partition, as runs send them."""
    request = RowRequest(prompt="a lighthouse", model="m/benchmark")
    identity, each = request_hash(request), n_rows // len(slices)
    for slice_ in slices:
        for n in range(each):
            name = f"{slice_.fan_out}-{n:06d}"
            yield slice_, PlannedRow(n, name, name, identity, request)


def tick(url: str, path: str) -> list[Tick]:
    """As the sensor does, without Dagster."""

    async def one() -> Tick:
        async with open_session(ours.settings_for(url, path, None, 128)) as session:
            began_s = time.perf_counter()
            watched, is_complete = await partition_status(session, BATCH, budget_s=SENSOR_BUDGET_S)
            n_noticed = sum(partition.n_finished > 0 for partition in watched)
            return Tick(time.perf_counter() - began_s, is_complete, n_noticed)

    return [run(one()) for _ in range(N_TICKS)]
