"""Every way in which a run is cancelled: within two seconds no further row is claimed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from mynth_dagster.simulator import Scenario, SimulatorServer
from tests.factories import KEY, write_parquet

LOCATION = """
import os
import sys

import dagster as dg

from mynth_dagster import ImageRequest, MynthResource, build_image_batch

mynth = MynthResource(
    api_key=dg.EnvVar("MYNTH_API_KEY"),
    base_url=os.environ["MYNTH_BASE_URL"],
    root=os.environ["MYNTH_ROOT"],
    concurrency=4,
)
batch = build_image_batch(
    "night",
    prompts=os.environ["PROMPTS"],
    request=ImageRequest(models=["black-forest-labs/flux.2-dev"]),
)
steps_apart = dg.define_asset_job(
    "steps_apart",
    dg.AssetSelection.assets(["night", "prompts"], ["night", "tasks"]),
    executor_def=dg.multiprocess_executor,
)
defs = dg.Definitions.merge(batch, dg.Definitions(jobs=[steps_apart], resources={"mynth": mynth}))


def night_submit():
    return defs.resolve_job_def("night_submit")


def steps_apart_job():
    return defs.resolve_job_def("steps_apart")


if __name__ == "__main__":
    from dagster import DagsterInstance, execute_job, reconstructable

    import location

    job = reconstructable(getattr(location, sys.argv[1]))
    with DagsterInstance.get() as instance:
        sys.exit(not execute_job(job, instance=instance).success)
"""
N_ROWS = 200
SLOW = Scenario.from_dict({"progress": "manual", "response_delay_s": 0.3})
WITHIN_S = 2.0


class Night:
    """A run in processes of its own, that sends about thirteen rows a second."""

    def __init__(self, folder: Path, server: SimulatorServer) -> None:
        self.folder = folder
        self.server = server
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        (folder / "location.py").write_text(LOCATION)
        self.prompts = write_parquet(folder / "prompts.parquet", N_ROWS)
        self.instance = dg.DagsterInstance.from_config(str(self.home))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, job: str) -> None:
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.home),
            "MYNTH_API_KEY": KEY,
            "MYNTH_BASE_URL": self.server.url,
            "MYNTH_ROOT": str(self.folder / "root"),
            "PROMPTS": self.prompts,
            "PYTHONPATH": os.pathsep.join([str(self.folder), *sys.path]),
        }
        command = [sys.executable, "location.py", job]
        with (self.folder / "run.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log
            )

    @property
    def ledger(self) -> Path:
        return self.folder / "root" / "mynth-ledger.db"

    @property
    def run(self) -> dg.DagsterRun:
        (run,) = self.instance.get_runs()
        return run

    def n_posts(self) -> int:
        return int(self.server.log()["requests"].get("POST /image/generate", 0))

    def n_claimed(self) -> int:
        connection = sqlite3.connect(self.ledger)
        (count,) = connection.execute("SELECT count(*) FROM intents").fetchone()
        connection.close()
        return int(count)

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + 90
        while not is_so():
            if time.monotonic() > until_s:
                log = (self.folder / "run.log").read_text()[-3000:]
                pytest.fail(f"waited in vain for {what}\n{log}")
            threading.Event().wait(0.02)

    def children(self) -> list[int]:
        """Processes that the run's own process started, and that are there."""
        assert self.process is not None
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(pid) for pid in found.stdout.split()]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with SimulatorServer(SLOW) as server:
        made = Night(tmp_path, server)
        yield made
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait(30)
        made.instance.dispose()


def force(night: Night) -> None:
    night.instance.report_run_canceled(night.run)


def terminate(night: Night) -> None:
    assert night.process is not None
    night.process.send_signal(signal.SIGTERM)


def stop_by_command(night: Night) -> None:
    root = str(night.folder / "root")
    assert CliRunner().invoke(app, ["stop", "--root", root, "--all"]).exit_code == 0


def kill_parent(night: Night) -> None:
    assert night.process is not None
    night.process.kill()


@pytest.mark.parametrize(
    ("job", "cancel"),
    [
        ("night_submit", force),
        ("night_submit", terminate),
        ("night_submit", stop_by_command),
        ("steps_apart_job", force),
        ("steps_apart_job", kill_parent),
    ],
    ids=["by force", "terminated", "by command", "a step by force", "a step's parent killed"],
)
def test_within_two_seconds_no_further_row_is_claimed(night, job, cancel):
    """The server's log is the judge; what was in flight is recorded, and the rest is sent later."""
    night.start(job)
    night.wait(lambda: night.n_posts() >= 20, "rows to be sent")
    workers = night.children()

    cancel(night)
    threading.Event().wait(WITHIN_S)
    claimed, posts = night.n_claimed(), night.n_posts()
    night.wait(lambda: not any(map(is_alive, workers)), "the steps to end")
    assert night.process is not None
    night.process.wait(60)

    assert night.n_claimed() == claimed < N_ROWS
    assert night.n_posts() == posts == len(night.server.log()["accepted"])
    connection = sqlite3.connect(night.ledger)
    states = dict(connection.execute("SELECT state, count(*) FROM intents GROUP BY state"))
    connection.close()
    assert states.get("accepted", 0) == posts
    assert states.get("unresolved", 0) == 0


def test_a_cancel_while_the_ledger_is_away_claims_nothing_when_it_is_back(night):
    """Claims that waited for the database are not wanted any more."""
    night.start("night_submit")
    night.wait(lambda: night.n_posts() >= 20, "rows to be sent")
    connection = sqlite3.connect(night.ledger, isolation_level=None, timeout=60)
    connection.execute("BEGIN IMMEDIATE")
    claimed = connection.execute("SELECT count(*) FROM intents").fetchone()[0]

    force(night)
    threading.Event().wait(WITHIN_S)
    connection.execute("ROLLBACK")
    connection.close()
    assert night.process is not None
    night.process.wait(60)

    assert night.n_claimed() == claimed < N_ROWS


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
