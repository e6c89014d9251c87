"""The engine on a real simulator and a real ledger; time is made by hand and shared by both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mynth_dagster.simulator import SimulatorServer
from tests.engine.bench import Bench
from tests.factories import LeapingClock


@pytest.fixture
def bench(
    simulator: Callable[..., SimulatorServer], clock: LeapingClock, tmp_path: Path, revision: str
) -> Callable[..., Bench]:
    """Starts a simulator of each revision in turn, with a ledger and a root beside it."""

    def start(**scenario: Any) -> Bench:
        server = simulator(clock=clock, **{"revision": revision, **scenario})
        return Bench(server, clock, tmp_path)

    return start


@pytest.fixture
def new_bench(
    simulator: Callable[..., SimulatorServer], clock: LeapingClock, tmp_path: Path
) -> Callable[..., Bench]:
    """The same of revision 2026-10 alone, for what does not depend on the revision."""

    def start(**scenario: Any) -> Bench:
        return Bench(simulator(clock=clock, **{"revision": "2026-10", **scenario}), clock, tmp_path)

    return start


@pytest.fixture
def bench_of(
    simulator: Callable[..., SimulatorServer], clock: LeapingClock, tmp_path: Path
) -> Callable[..., Bench]:
    """The same of the revision that a test names."""

    def start(**scenario: Any) -> Bench:
        return Bench(simulator(clock=clock, **scenario), clock, tmp_path)

    return start
