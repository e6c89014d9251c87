"""The stage of each revision, and everything that is logged on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mynth_dagster.simulator import SimulatorServer
from tests.factories import LeapingClock
from tests.faults.stage import LogKeeper, Stage


@pytest.fixture
def stage(
    simulator: Callable[..., SimulatorServer], clock: LeapingClock, tmp_path: Path, revision: str
) -> Callable[..., Stage]:
    """Opens a stage with a simulator of each revision in turn."""

    def start(**scenario: Any) -> Stage:
        return Stage(simulator(clock=clock, **{"revision": revision, **scenario}), clock, tmp_path)

    return start


@pytest.fixture
def new_stage(
    simulator: Callable[..., SimulatorServer], clock: LeapingClock, tmp_path: Path
) -> Callable[..., Stage]:
    """The same of revision 2026-10 alone."""

    def start(**scenario: Any) -> Stage:
        server = simulator(clock=clock, **{"revision": "2026-10", **scenario})
        return Stage(server, clock, tmp_path)

    return start


@pytest.fixture
def everything_logged() -> Iterator[LogKeeper]:
    """All log records of the process, from DEBUG up."""
    keeper, root = LogKeeper(), logging.getLogger()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    yield keeper
    root.setLevel(level)
    root.removeHandler(keeper)
