"""
A run in a process of its own that kills itself at a named moment.

`Job.start` forks it from a process that has imported everything already, which takes seconds;
`python -m tests.crash.job '{"kill_at": "ANSWER_READ", "nth": 2, …}'` makes a new one. `Job.run` is
how a test runs the same job again without dying, in its own process.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import US_PER_S, Instant, SystemClock
from mynth_dagster.crash_points import EVENT
from mynth_dagster.engine.run import RunProgress, RunReport, run_table
from mynth_dagster.engine.session import EngineSettings, Session, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import Delivery, Files, ImageRequest
from mynth_dagster.tables.source import source_from_arrow
from tests.factories import KEY, MODEL, WITH_INPUTS
from tests.releases import next_release


class ShiftedClock(SystemClock):
    """The machine's clocks, so much later: time that has passed while nothing ran."""

    def __init__(self, shift_s: float) -> None:
        self._shift_s = shift_s

    def now_us(self) -> int:
        return super().now_us() + round(self._shift_s * US_PER_S)

    def elapsed_s(self) -> float:
        return super().elapsed_s() + self._shift_s

    def instant(self) -> Instant:
        now = super().instant()
        shift_us = round(self._shift_s * US_PER_S)
        return replace(now, boot_us=(now.boot_us or 0) + shift_us)


@dataclass(frozen=True)
class Job:
    """
    One run of one table.

    Args:
        kill_at: Name of a crash point, or empty: the job ends by itself.
        nth: At which arrival there.
        freeze_at: Name of a crash point from which on the ledger cannot be written, or empty.
        keeps_files: Whether images are downloaded.
        store: Where to; empty: beside the tables.
        shift_s: How much later it runs.
        batch: Name of the batch.
        window: Of its rows; empty: they have none.
        inputs: Folder of images; each row starts from one of them. Empty: from none.
        migrations: Folder of the made-up next release, which then runs. Empty: this one does.
    """

    base_url: str
    root: str
    ledger_url: str
    n_rows: int
    kill_at: str = ""
    nth: int = 1
    freeze_at: str = ""
    shift_s: float = 0.0
    concurrency: int = 4
    keeps_files: bool = False
    store: str = ""
    inputs: str = ""
    batch: str = "b"
    window: str = ""
    migrations: str = ""

    async def run(self) -> RunReport:
        """The job, in this process and on this event loop."""
        with next_release(Path(self.migrations)) if self.migrations else nullcontext():
            return await self._run()

    async def _run(self) -> RunReport:
        client = ClientSettings(
            base_url=self.base_url,
            api_key=KEY,
            concurrency=self.concurrency,
            request_timeout_s=5.0,
            read_attempts=2,
        )
        settings = EngineSettings(
            client,
            self.ledger_url,
            self.root,
            poll_interval_min_s=0.02,
            poll_interval_max_s=0.05,
        )
        source = source_from_arrow(pa.Table.from_pylist(self._rows()), "prompts")
        files = FILES.model_copy(update={"store": self.store}) if self.keeps_files else None
        self._listen(None)
        async with open_session(settings, clock=ShiftedClock(self.shift_s)) as session:
            self._listen(session)
            return await run_table(
                session,
                Batch(
                    self.batch,
                    request=ImageRequest(models=[WITH_INPUTS if self.inputs else MODEL]),
                    delivery=Delivery(files=files),
                ),
                source,
                window=self.window,
                stop=CancelToken(),
                progress=RunProgress(),
            )

    def start(self) -> ForkServerProcess:
        """The job in a process of its own."""
        process = _FORKS.Process(target=_run_here, args=(self,))
        process.start()
        return process

    def exit_code(self) -> int | None:
        """How the job ends in a process of its own."""
        process = self.start()
        process.join(100)
        return process.exitcode

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"prompt_id": f"p{n:05d}", "prompt": f"prompt {n}"} for n in range(self.n_rows)
        ]
        files = sorted(Path(self.inputs).iterdir()) if self.inputs else []
        for row, file in zip(rows, cycle(files), strict=False):
            row["inputs"] = [str(file)]
        return rows

    def _listen(self, session: Session | None) -> None:
        """Before the session there is only dying; with it, its ledger can be frozen."""
        arrivals: Counter[str] = Counter()

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event != EVENT:
                return
            arrivals[args[0]] += 1
            if session is not None and args[0] == self.freeze_at and arrivals[args[0]] == 1:
                _freeze(session)
            if args[0] == self.kill_at and arrivals[args[0]] == self.nth:
                os.kill(os.getpid(), signal.SIGKILL)

        if self.kill_at and (session is None) == (self.kill_at in BEFORE_SESSION):
            sys.addaudithook(hook)


_FORKS = multiprocessing.get_context("forkserver")
# Beside this module, what a run imports when it first needs it.
_FORKS.set_forkserver_preload([__name__, "alembic.command", "certifi", "mako.template", "pandas"])


def _run_here(job: Job) -> None:
    asyncio.run(job.run())


FILES = Files(concurrency=3)
BEFORE_SESSION = ("BACKED_UP", "MIGRATING", "SPOOL_TAKEN_IN")


def _freeze(session: Session) -> None:
    """From now on SQLite refuses to write, as on a disk that became read-only."""
    with session.ledger._engines[0].connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = 1").close()


if __name__ == "__main__":
    asyncio.run(Job(**json.loads(sys.argv[1])).run())
