"""The processes of the demo: the simulator, and Dagster's daemon with the code location."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
HOME = PROJECT / ".demo"
API_KEY = "mak_simulator"
SCENARIO = PROJECT / "demo" / "scenario.json"
STOP_TIMEOUT_S = 15


@dataclass(frozen=True)
class Place:
    """Where the demo keeps its things, all below one folder."""

    home: Path = HOME

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster_home"

    @property
    def tables(self) -> Path:
        return self.home / "tables"

    @property
    def prompts(self) -> Path:
        return self.home / "prompts" / "packaging.parquet"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.tables / 'mynth-ledger.db'}"

    @property
    def port(self) -> Path:
        """The port of the simulated Mynth, for the next one."""
        return self.home / "mynth" / "port"

    @property
    def requests(self) -> Path:
        """The requests that the simulated Mynth accepted, for the next one."""
        return self.home / "mynth" / "requests.jsonl"

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def make(self) -> None:
        """Start from nothing."""
        if self.home.exists():
            shutil.rmtree(self.home)
        files = (self.prompts, self.port, self.log("demo"))
        for folder in (self.dagster_home, self.tables, *(file.parent for file in files)):
            folder.mkdir(parents=True)
        shutil.copy(PROJECT / "demo" / "dagster.yaml", self.dagster_home / "dagster.yaml")

    def environment(self, base_url: str) -> dict[str, str]:
        """What the code location reads."""
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "MYNTH_API_KEY": API_KEY,
            "MYNTH_BASE_URL": base_url,
            "MYNTH_ROOT": str(self.tables),
            "PACKAGING_PROMPTS": str(self.prompts),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }


@contextmanager
def running(
    place: Place, name: str, command: Sequence[str], environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, with its children, when the context is left."""
    with place.log(name).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name == "simulator" else log,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


@contextmanager
def simulator(place: Place, scenario: Path = SCENARIO) -> Iterator[str]:
    """
    Mynth on a local port; yields its URL.

    The next one at the same place has its URL and its tasks, so links to images stay alive.

    Raises:
        RuntimeError: It did not start, such as where another process took the port since.
    """
    port = place.port.read_text("utf-8") if place.port.exists() else "0"
    asked = {"--port": port, "--scenario": str(scenario), "--keep": str(place.requests)}
    command = ["-m", "mynth_dagster.cli", "simulate", *chain.from_iterable(asked.items())]
    with running(place, "simulator", command, dict(os.environ)) as process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        if " at " not in greeting:
            raise RuntimeError(f"the simulator did not start; see {place.log('simulator')}")
        url = greeting.split(" at ")[1].split(",")[0]
        place.port.write_text(url.rpartition(":")[2], "utf-8")
        yield url


@contextmanager
def daemon(place: Place, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Dagster's daemon, which starts the code location of `workspace.yaml` itself."""
    command = ["-m", "dagster._daemon", "run", "-w", "workspace.yaml"]
    with running(place, "daemon", command, environment) as process:
        yield process


def launch(place: Place, environment: dict[str, str], tags: str) -> None:
    """Hand tonight's run to the daemon, as the schedule would."""
    command = ["-m", "dagster", "job", "launch", "-w", "workspace.yaml", "--location", "mynth"]
    with place.log("launch").open("w") as log:
        result = subprocess.run(
            [sys.executable, *command, "-j", "packaging_submit", "--tags", tags],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            check=False,
        )
    if result.returncode:
        raise RuntimeError(f"the run could not be launched; see {place.log('launch')}")
