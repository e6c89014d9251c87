"""
What Dagster adds: a hundred partitions in one run, beside the engine's own time.

Beside it stand assets that do nothing, which is what Dagster takes for its own events.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import ours
from benchmarks.measured import cores, measure
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, serving
from benchmarks.submitting import folder
from mynth_dagster.engine.reconcile import wait_until_idle
from mynth_dagster.engine.run import collect, prepare, submit
from mynth_dagster.engine.session import open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import ImageRequest
from mynth_dagster.tables.source import open_source

if TYPE_CHECKING:
    import dagster as dg

N_PARTITIONS = 100
N_ROWS = 1_000
_AIM = Aim(at_most=0.03)
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def lines(*, n_rounds: int, **_: float) -> list[Line]:
    """The same table by the engine and by Dagster, and as many plain assets, in turn."""
    server_core, core = cores()
    runs: list[list[float]] = []
    with serving(server_core) as server:
        for _ in range(min(n_rounds, 3)):
            took_s: list[float] = []
            for go in (by_engine, by_dagster, by_plain_assets, by_dagster_planned_at_once):
                server.behave(Behaviour())
                with folder() as path:
                    ours.write_prompts_file(Path(path) / "prompts.parquet", N_ROWS)
                    took_s.append(measure(core, go, server.url, path, before=_imports).result)
            runs.append(took_s)
    engines, dagsters, plains, at_once = map(list, zip(*runs, strict=True))
    what = f"{N_PARTITIONS} partitions, {N_ROWS:,} rows, "
    return [
        line(f"{what}the engine alone, s", engines, "{:.2f}"),
        line(f"{what}prompts, tasks and images in one run each, s", dagsters, "{:.2f}"),
        line("Dagster's share, s a partition", _shares(dagsters, engines), "{:.3f}", _AIM),
        line("as many assets that do nothing, s a partition", _shares(plains), "{:.3f}"),
        line("share, planned in one event, s a partition", _shares(at_once, engines), "{:.3f}"),
    ]


def _shares(took_s: Sequence[float], without_s: Sequence[float] | None = None) -> list[float]:
    """Seconds a partition, over those of something else."""
    without_s = without_s or [0.0] * len(took_s)
    return [(one - other) / N_PARTITIONS for one, other in zip(took_s, without_s, strict=True)]


def _imports() -> None:
    import mynth_dagster.plugin.definitions  # noqa: F401, PLC0415 - takes seconds


def by_engine(url: str, path: str) -> float:
    """Seconds for the phases, without Dagster."""
    batch = Batch("b", request=ImageRequest(models=["m/benchmark"]), fan_out=N_PARTITIONS)

    async def work() -> None:
        settings = ours.settings_for(url, path, None, 128)
        slices = batch.slices("")
        async with open_session(settings) as session:
            await prepare(session, batch, open_source(f"{path}/prompts.parquet"), window="")
            stop = CancelToken()
            await submit(session, ImageWork(batch), slices, submitter="benchmark", stop=stop)
            await wait_until_idle(session, ImageWork(batch), slices, stop=stop)
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
        "b",
        prompts=f"{path}/prompts.parquet",
        request=ImageRequest(models=["m/benchmark"]),
        fan_out=N_PARTITIONS,
    )
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": mynth}))
    return _seconds_of_jobs(defs)


def by_dagster_planned_at_once(url: str, path: str) -> float:
    """The same where Dagster stores one event for all partitions that a run is going to make."""
    os.environ["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] = "true"
    return by_dagster(url, path)


def by_plain_assets(_url: str, _path: str) -> float:
    """Seconds for as many assets and jobs that write nothing and tell nothing."""
    import dagster as dg  # noqa: PLC0415 - takes seconds

    partitions = dg.StaticPartitionsDefinition([f"{n:03d}" for n in range(N_PARTITIONS)])

    def plain(tables: Sequence[str], upstream: Sequence[str]) -> dg.AssetsDefinition:
        specs = [dg.AssetSpec(name, deps=upstream, partitions_def=partitions) for name in tables]
        policy = dg.BackfillPolicy.single_run()

        @dg.multi_asset(name=f"make_{tables[0]}", specs=specs, backfill_policy=policy)
        def body() -> Iterator[Any]:
            yield from (dg.MaterializeResult(asset_key=name) for name in tables)

        return body

    made = (plain(["prompts"], []), plain(["tasks"], ["prompts"]))
    collected = plain(["images", "failures"], ["tasks"])
    jobs = [
        dg.define_asset_job("b_submit", selection=["prompts", "tasks"]),
        dg.define_asset_job("b_collect", selection=["images", "failures"]),
    ]
    return _seconds_of_jobs(dg.Definitions(assets=[*made, collected], jobs=jobs))


def _seconds_of_jobs(defs: dg.Definitions) -> float:
    """Two runs over the range of all partitions, on an instance of their own."""
    import dagster as dg  # noqa: PLC0415 - takes seconds

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
