"""What tests of several folders need: a clean environment, clocks, and simulators on sockets."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from alembic.config import Config
from alembic.script import ScriptDirectory

from mynth_dagster.clock import Clock, SystemClock
from mynth_dagster.limits import MIB, REVISIONS
from mynth_dagster.simulator import Scenario, SimulatorServer
from tests.factories import LeapingClock

# Folders of tests lie in memory where there is room: a ledger waits for the disk at each COMMIT.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= 4096 * MIB:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on, or spends with, a key of the machine it runs on."""
    for name in list(os.environ):
        if name.startswith("MYNTH_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def command_made_once() -> Iterator[None]:
    """Typer makes the command anew whenever a runner calls it, which takes as long as a call."""
    real = typer.testing._get_command
    typer.testing._get_command = cache(real)
    yield
    typer.testing._get_command = real


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Dagster reads all of its migrations for each instance, to note which is the newest."""
    real, kept = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        return kept.get(folder) or kept.setdefault(folder, real(config))

    ScriptDirectory.from_config = from_config
    yield
    ScriptDirectory.from_config = real


@pytest.fixture
def clock() -> LeapingClock:
    """Time for engine and simulator alike; sleeping takes none."""
    return LeapingClock()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's clock sleeps hardly at all: failed requests are repeated at once."""

    async def sleep(_: SystemClock, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))

    monkeypatch.setattr(SystemClock, "sleep", sleep)


@pytest.fixture(params=REVISIONS)
def revision(request: pytest.FixtureRequest) -> str:
    """Each API revision in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def idle_simulators() -> Iterator[list[SimulatorServer]]:
    """Simulators that no test uses now: stopping one takes as long as many tests."""
    idle: list[SimulatorServer] = []
    yield idle
    for server in idle:
        server.stop()


@pytest.fixture
def simulator(idle_simulators: list[SimulatorServer]) -> Iterator[Callable[..., SimulatorServer]]:
    """Starts simulators on free ports; scenario fields by keyword, tasks finish at once."""
    used: list[SimulatorServer] = []

    def start(*, clock: Clock | None = None, **changes: Any) -> SimulatorServer:
        scenario = Scenario.from_dict({"progress": "immediate", **changes})
        if not idle_simulators:
            idle_simulators.append(SimulatorServer())
            idle_simulators[-1].start()
        server = idle_simulators.pop()
        server.app.clock = clock or SystemClock()
        server.reset(scenario)
        used.append(server)
        return server

    yield start
    idle_simulators.extend(used)
