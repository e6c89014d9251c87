"""The real thing in processes of their own: Dagster's daemon, run workers, a simulated Mynth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mynth_dagster.simulator import Scenario, SimulatorServer

DEADLINE_S = 100
LOCATION = """
import os
import dagster as dg
from mynth_dagster import Delivery, ImageRequest, MynthResource, build_image_batch

mynth = MynthResource(
    api_key=dg.EnvVar("MYNTH_API_KEY"),
    base_url=os.environ["MYNTH_BASE_URL"],
    root=os.environ["MYNTH_ROOT"],
)
defs = dg.Definitions.merge(
    build_image_batch(
        "night",
        prompts=os.environ["PROMPTS"],
        request=ImageRequest(models=["black-forest-labs/flux.2-dev"]),
        partitions_def=dg.DailyPartitionsDefinition("2026-11-18", end_date="2026-11-24"),
        fan_out=4,
        delivery=Delivery(sensor_interval_s=5),
    ),
    dg.Definitions(resources={"mynth": mynth}),
)
"""
INSTANCE = "telemetry: {enabled: false}\n"


@dataclass
class Deployment:
    """One Dagster instance with its daemon, and the code location `night`."""

    folder: Path
    simulator: SimulatorServer
    instance: dg.DagsterInstance

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.folder / "home"),
            "MYNTH_API_KEY": "mak_simulator",
            "MYNTH_BASE_URL": self.simulator.url,
            "MYNTH_ROOT": str(self.data),
            "PROMPTS": str(self.folder / "prompts.parquet"),
        }

    def write_prompts(self, prompts: pa.Table) -> None:
        pq.write_table(prompts, self.folder / "prompts.parquet")

    def launch(self, job: str, first: str, last: str) -> str:
        """Hand a run over a range of partitions to the daemon; its id."""
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        command = ["-m", "dagster", "job", "launch", "-w", str(self.workspace), "-j", job]
        subprocess.run(
            [sys.executable, *command, "--tags", json.dumps(tags)],
            env=self.environment(),
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        return self.instance.get_runs(limit=1)[0].run_id

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Look until it is so."""
        look_again, until_s = threading.Event(), time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > until_s:
                log = (self.folder / "daemon.log").read_text()[-3000:]
                pytest.fail(f"waited in vain for {what}\n{log}")
            look_again.wait(0.2)

    def wait_for_success(self, run_id: str) -> None:
        self.wait(lambda: self.has_ended(run_id), f"run {run_id}")
        assert self._run(run_id).status is dg.DagsterRunStatus.SUCCESS

    def has_ended(self, run_id: str) -> bool:
        """Whether a run is over, well or not."""
        return self._run(run_id).is_finished

    def kill_worker(self, run_id: str) -> None:
        """SIGKILL to the processes that execute a run."""
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and self._executes(process, run_id):
                os.kill(int(process.name), signal.SIGKILL)
        self.instance.report_run_failed(self._run(run_id), "killed by the test")

    def recorded(self, table: str) -> list[str | None]:
        """The partition of each materialization of a table."""
        key = dg.AssetKey(["night", table])
        records = self.instance.fetch_materializations(key, limit=1000).records
        return sorted(str(record.partition_key) for record in records)

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    @staticmethod
    def _executes(process: Path, run_id: str) -> bool:
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            return False
        return b"execute_run" in command and run_id.encode() in command


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A daemon that runs while the test does."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE)
    (tmp_path / "night.py").write_text(LOCATION)
    (tmp_path / "workspace.yaml").write_text("load_from:\n  - python_file: night.py\n")
    with (
        SimulatorServer(Scenario()) as simulator,
        dg.DagsterInstance.from_config(str(home)) as instance,
        (tmp_path / "daemon.log").open("w") as log,
    ):
        made = Deployment(tmp_path, simulator, instance)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-w", str(made.workspace)],
            env=made.environment(),
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
        yield made
        daemon.send_signal(signal.SIGINT)
        daemon.wait(timeout=30)
