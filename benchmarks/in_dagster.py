"""What Dagster adds: a hundred partitions in one run, beside the engine's own time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.measured import cores, measure
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, serving
from benchmarks.submitting import folder
from mynth_dagster.engine.pipeline import collect, prepare, submit
from mynth_dagster.engine.session import open_session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.engine.wait import wait_until_settled
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.source import open_source

N_PARTITIONS = 100
N_ROWS = 1_000
SHARE_MAX_S = 0.03
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def lines(*, n_rounds: int, **_: float) -> list[Line]:
    """The same table by the engine and by Dagster, in turn."""
    server_core, core = cores()
    shares, engines, dagsters = [], [], []
    with serving(server_core) as server:
        for _ in range(min(n_rounds, 3)):
            took_s = []
            for go in (by_engine, by_dagster):
                server.behave(Behaviour())
                with folder() as path:
                    ours.write_prompts_file(Path(path) / "prompts.parquet", N_ROWS)
                    took_s.append(measure(core, go, server.url, path, before=_imports).result)
            engines.append(took_s[0])
            dagsters.append(took_s[1])
            shares.append((took_s[1] - took_s[0]) / N_PARTITIONS)
    what = f"{N_PARTITIONS} partitions, {N_ROWS:,} rows, "
    return [
        line(f"{what}the engine alone, s", engines, "{:.2f}"),
        line(f"{what}prompts, tasks and images in one run each, s", dagsters, "{:.2f}"),
        line("Dagster's share, s a partition", shares, "{:.3f}", Aim(at_most=SHARE_MAX_S)),
    ]


def _imports() -> None:
    import mynth_dagster.plugin.assets  # noqa: F401, PLC0415 - takes seconds


def by_engine(url: str, path: str) -> float:
    """Seconds for the phases, without Dagster."""
    batch = Batch(name="b", models=("m/benchmark",), shards=N_PARTITIONS)

    async def work() -> None:
        settings = ours.settings_for(url, path, None, 128)
        slices = batch.slices("")
        async with open_session(settings) as session:
            await prepare(session, batch, open_source(f"{path}/prompts.parquet"), window="")
            stop = StopSwitch()
            await submit(session, batch, slices, submitter="benchmark", stop=stop)
            await wait_until_settled(session, batch, slices, stop=stop)
            assert [summary async for summary in collect(session, batch, slices)]

    began_s = time.perf_counter()
    asyncio.run(work())
    return time.perf_counter() - began_s


def by_dagster(url: str, path: str) -> float:
    """Seconds for three jobs over the range of all partitions, in process."""
    import dagster as dg  # noqa: PLC0415 - takes seconds

    from mynth_dagster import MynthResource, build_image_batch  # noqa: PLC0415

    settings: dict[str, Any] = {"base_url": url, "api_revision": "2026-08"}
    mynth = MynthResource(api_key="mak_benchmark", root=path, **settings)
    batch = build_image_batch(
        "b", prompts=f"{path}/prompts.parquet", models=["m/benchmark"], shards=N_PARTITIONS
    )
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": mynth}))
    tags = {
        "dagster/asset_partition_range_start": "000",
        "dagster/asset_partition_range_end": f"{N_PARTITIONS - 1:03d}",
    }
    with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
        jobs = [defs.resolve_job_def(f"b_{phase}") for phase in ("submit", "collect")]
        began_s = time.perf_counter()
        for job in jobs:
            assert job.execute_in_process(instance=instance, tags=tags, run_config=SILENT).success
        return time.perf_counter() - began_s
