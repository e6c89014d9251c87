"""The engine as the product runs it: prompt table, ledger, checks and all."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.run import RunProgress, prepare, run_table, submit
from mynth_dagster.engine.session import EngineSettings, open_session, run
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import ImageRequest
from mynth_dagster.tables.source import open_source

ROWS_WRITTEN_AT_ONCE = 100_000
BATCH = Batch(
    "b",
    request=ImageRequest(
        models=["m/benchmark"], size="landscape", output_format="webp", output_quality=80
    ),
)


@dataclass(frozen=True)
class Submitted:
    """
    Seconds of one submission, phase by phase.

    `cpu_s` are those of the whole process, `ledger_cpu_s` of the ledger's thread, over both.
    """

    prepare_s: float
    submit_s: float
    cpu_s: float
    ledger_cpu_s: float
    n_accepted: int


def write_prompts_file(path: Path, n_rows: int) -> None:
    """A prompt table as a user has it: an id and a prompt."""
    schema = pa.schema([("prompt_id", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, ROWS_WRITTEN_AT_ONCE):
            numbers = range(start, min(n_rows, start + ROWS_WRITTEN_AT_ONCE))
            prompts = [
                f"a watercolour of lighthouse {n}, soft morning light, wide angle" for n in numbers
            ]
            ids = [f"p{n:08d}" for n in numbers]
            writer.write_table(pa.table([ids, prompts], schema=schema))


def settings_for(url: str, folder: str, ledger_url: str | None, concurrency: int) -> EngineSettings:
    client = ClientSettings(base_url=url, api_key="mak_benchmark", concurrency=concurrency)
    return EngineSettings(
        client, ledger_url or f"sqlite:///{folder}/ledger.db", folder, api_revision="2026-08"
    )


def submit_table(
    url: str, folder: str, concurrency: int = 128, ledger_url: str | None = None
) -> Submitted:
    """Check `prompts.parquet`, quote it, and send all of it durably."""

    async def work() -> Submitted:
        settings = settings_for(url, folder, ledger_url, concurrency)
        async with open_session(settings) as session:
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            opened_cpu_s = thread_cpu_s("mynth-ledger")
            await prepare(session, BATCH, open_source(f"{folder}/prompts.parquet"), window="")
            prepared_s = time.perf_counter()
            report = await submit(
                session,
                ImageWork(BATCH),
                BATCH.slices(""),
                submitter="benchmark",
                stop=CancelToken(),
            )
            ended_s = time.perf_counter()
            return Submitted(
                prepared_s - began_s,
                ended_s - prepared_s,
                time.process_time() - began_cpu_s,
                thread_cpu_s("mynth-ledger") - opened_cpu_s,
                report.counts.n_accepted,
            )

    return run(work())


async def prepare_table(url: str, folder: str) -> None:
    """Check `prompts.parquet` and write it as the batch's table."""
    async with open_session(settings_for(url, folder, None, 128)) as session:
        await prepare(session, BATCH, open_source(f"{folder}/prompts.parquet"), window="")


def submit_again(url: str, folder: str) -> int:
    """Plan and send what is missing of a table that is there; how many requests that was."""

    async def work() -> int:
        async with open_session(settings_for(url, folder, None, 128)) as session:
            report = await submit(
                session,
                ImageWork(BATCH),
                BATCH.slices(""),
                submitter="benchmark",
                stop=CancelToken(),
            )
            return report.counts.n_posts

    return run(work())


@dataclass(frozen=True)
class Finished:
    """Seconds from the prompt table to the result tables, and images in them."""

    wall_s: float
    n_images: int


def run_whole_table(url: str, folder: str, concurrency: int = 128) -> Finished:
    """Check, quote, send, wait and write, as `mynth-dagster run` does."""

    async def work() -> Finished:
        async with open_session(settings_for(url, folder, None, concurrency)) as session:
            began_s = time.perf_counter()
            source = open_source(f"{folder}/prompts.parquet")
            report = await run_table(
                session, BATCH, source, window="", stop=CancelToken(), progress=RunProgress()
            )
            return Finished(time.perf_counter() - began_s, report.images)

    return run(work())


def warm_up(url: str) -> None:
    """A table of a few rows, so that everything which is imported on first use is there."""
    with tempfile.TemporaryDirectory() as folder:
        write_prompts_file(Path(folder) / "prompts.parquet", 3)
        run_whole_table(url, folder)


def thread_cpu_s(name: str) -> float:
    """CPU seconds of this process's thread of that name."""
    for thread in threading.enumerate():
        if thread.name == name:
            assert thread.ident is not None
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    raise LookupError(name)
