"""SIGKILL at every named moment, in a real process; then the job is run again until it is done."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mynth_dagster.crash_points import CrashPoint
from mynth_dagster.ledger import Ledger
from mynth_dagster.limits import REVISIONS
from mynth_dagster.simulator import SimulatorServer
from tests.crash.job import FILES, Job
from tests.factories import draw_input
from tests.faults.invariants import Scene, check_all, check_monotone, final_states
from tests.webhook.test_crash import WEBHOOK_POINTS

MINUTE_S = 60.0
LATER_S = [0.0, 20 * MINUTE_S, 24 * MINUTE_S, 120 * MINUTE_S, 124 * MINUTE_S]
"""When the job is run again: at once, and when searches for lost requests can prove something."""

HELD_OR_FOUND = (REVISIONS[0], REVISIONS[-1])
"""A request without an answer is held where there is no task list, and found where there is one."""
WITH_LIST = REVISIONS[1:]
NEWEST = REVISIONS[-1]

LOST = [{"kind": "reset", "every": 3, "first": 6}]


@dataclass(frozen=True)
class Case:
    """
    How a process comes to a crash point.

    Args:
        nth: Arrivals at which it is killed, each a test of its own.
        before: Runs beforehand, by how much later they are.
        faults: What goes wrong in the first of all runs.
        revisions: Those in which a crash there leaves something else behind, or whose list is read.
        keeps_files: Images are downloaded.
        is_migrated: The ledger was made by the release before.
    """

    nth: tuple[int, ...] = (1,)
    n_rows: int = 12
    before: tuple[float, ...] = ()
    shift_s: float = 0.0
    faults: list[dict[str, Any]] = field(default_factory=list)
    revisions: tuple[str, ...] = (NEWEST,)
    freeze_at: str = ""
    n_inputs: int = 0
    is_migrated: bool = False
    keeps_files: bool = False


SENDING = Case(nth=(1, 2, 9), revisions=HELD_OR_FOUND)
DOWNLOADING = Case(nth=(1, 2, 9), keeps_files=True)
FROZEN = Case(freeze_at="ANSWER_READ", revisions=HELD_OR_FOUND)
SEARCHING = Case(before=(0.0,), shift_s=20 * MINUTE_S, faults=LOST, revisions=WITH_LIST)

CASES: dict[CrashPoint, Case] = {
    CrashPoint.UPLOADED: Case(nth=(1, 2), n_inputs=12),
    CrashPoint.BEFORE_INTENT: SENDING,
    CrashPoint.IN_TRANSACTION: replace(SENDING, nth=(1, 4, 9)),
    CrashPoint.INTENT_COMMITTED: SENDING,
    CrashPoint.ANSWER_READ: SENDING,
    CrashPoint.ANSWER_SPOOLED: FROZEN,
    CrashPoint.ANSWER_COMMITTED: SENDING,
    CrashPoint.SUBMITTED: Case(),
    CrashPoint.POLLED: Case(revisions=HELD_OR_FOUND),
    CrashPoint.RESULT_READ: Case(nth=(1, 2, 9)),
    CrashPoint.RESULT_COMMITTED: Case(nth=(1, 2, 9)),
    CrashPoint.TABLES_STAGED: Case(nth=(1, 2)),
    CrashPoint.TABLE_PUBLISHED: Case(nth=(1, 2, 3)),
    CrashPoint.TABLES_PUBLISHED: Case(),
    CrashPoint.DOWNLOADING: DOWNLOADING,
    CrashPoint.DOWNLOAD_PUBLISHED: DOWNLOADING,
    CrashPoint.DOWNLOAD_RECORDED: DOWNLOADING,
    CrashPoint.WALKED: SEARCHING,
    CrashPoint.WALK_RECORDED: SEARCHING,
    CrashPoint.CLEARED: replace(SEARCHING, before=(0.0, 20 * MINUTE_S), shift_s=24 * MINUTE_S),
    CrashPoint.SPOOL_TAKEN_IN: FROZEN,
    CrashPoint.BACKED_UP: Case(is_migrated=True),
    CrashPoint.MIGRATING: Case(is_migrated=True),
}


class Workshop:
    """A simulator on the machine's clock, and a job that can be killed and run again."""

    def __init__(self, server: SimulatorServer, folder: Path, n_rows: int) -> None:
        self.server = server
        self.folder = folder
        root = folder / "root"
        self.job = Job(server.url, str(root), f"sqlite:///{folder / 'ledger.db'}", n_rows)
        self.has_list = server.scenario.revision != "2026-04"

    @property
    def scene(self) -> Scene:
        return Scene(self.server.log(), Path(self.job.root), self.job.ledger_url)

    def draw_inputs(self, n_files: int) -> None:
        """Images for the rows to start from."""
        folder = self.folder / "inputs"
        for number in range(n_files):
            draw_input(folder, number)
        self.job = replace(self.job, inputs=str(folder))

    def run(self, shift_s: float):
        """The job in this process."""
        return asyncio.run(replace(self.job, shift_s=shift_s).run())

    def kill_at(self, point: str, **changes: Any) -> None:
        job = replace(self.job, kill_at=point, **changes)
        assert job.exit_code() == -signal.SIGKILL, f"{point} was never reached"

    def finish(self, n_rows: int) -> None:
        """Run again until nothing is left to wait for; then check everything."""
        for shift_s in LATER_S:
            before = final_states(self.scene) if (self.folder / "ledger.db").exists() else {}
            report = self.run(shift_s)
            check_monotone(before, self.scene)
            if report.is_accounted_for:
                break
            self.send_later(shift_s)
        n_held = 0 if self.has_list else report.unresolved
        assert n_held <= self.job.concurrency
        assert report.images == n_rows - n_held
        check_all(self.scene, n_rows)
        self.check_repeatable(n_held)

    def send_later(self, shift_s: float) -> None:
        """A row of another table, whose task shows that the list is no old copy."""
        later = replace(self.job, batch="later", window=f"{shift_s:.0f}", n_rows=1)
        asyncio.run(replace(later, shift_s=shift_s, keeps_files=False, inputs="").run())

    def check_files(self, n_rows: int) -> None:
        """Every image has its file, and only downloads that were under way were repeated."""
        assert len([row for row in self.scene.table("images") if row["file_path"]]) == n_rows
        asked = self.scene.log["requests"]["GET /cdn/:file"]
        assert n_rows <= asked <= n_rows + FILES.concurrency
        kept = list(Path(self.job.root, "b", "files").iterdir())
        assert len(kept) == n_rows

    def check_repeatable(self, n_held: int) -> None:
        """Once more changes nothing, costs nothing and writes the same bytes."""
        before, n_accepted = self.scene.bytes_of_tables(), len(self.scene.log["accepted"])
        report = self.run(LATER_S[-1])
        assert (report.posts_sent, report.unresolved) == (0, n_held)
        assert self.scene.bytes_of_tables() == before
        assert len(self.scene.log["accepted"]) == n_accepted


@pytest.fixture
def workshop(
    simulator: Callable[..., SimulatorServer], tmp_path: Path, revision: str
) -> Callable[..., Workshop]:
    """Opens a workshop with a simulator of each revision in turn."""

    def open_workshop(n_rows: int = 12, **scenario: Any) -> Workshop:
        return Workshop(simulator(**{"revision": revision, **scenario}), tmp_path, n_rows)

    return open_workshop


def test_every_crash_point_has_a_case():
    """A new point that nobody crashes at fails here."""
    assert set(CASES) | set(WEBHOOK_POINTS) == set(CrashPoint)


@pytest.mark.parametrize(
    ("point", "nth", "revision"),
    [
        (point, nth, revision)
        for point, case in CASES.items()
        for nth in case.nth
        for revision in case.revisions
    ],
    ids=lambda value: value.name if isinstance(value, CrashPoint) else str(value),
)
def test_a_crash_there_loses_nothing_and_pays_nothing_twice(workshop, point, nth):
    """Killed at that moment and run again, the table is complete, each row paid for once."""
    case = CASES[point]
    work = workshop(case.n_rows, faults=case.faults)
    if case.n_inputs:
        work.draw_inputs(case.n_inputs)
    if case.is_migrated:
        Ledger.open(work.job.ledger_url).close()
        work.job = replace(work.job, migrations=str(work.folder / "migrations"))
    work.job = replace(work.job, keeps_files=case.keeps_files)
    for shift_s in case.before:
        work.run(shift_s)
        work.server.set_scenario(faults=())
    if point is CrashPoint.SPOOL_TAKEN_IN:
        work.kill_at("ANSWER_SPOOLED", freeze_at=case.freeze_at)

    work.kill_at(point.name, nth=nth, shift_s=case.shift_s, freeze_at=case.freeze_at)

    work.server.set_scenario(faults=())
    work.finish(case.n_rows)
    if case.keeps_files:
        work.check_files(case.n_rows)


@pytest.mark.parametrize("revision", HELD_OR_FOUND)
@pytest.mark.parametrize("n_accepted", [1, 7])
def test_a_crash_while_answers_are_on_their_way(workshop, n_accepted):
    """Killed with requests sent and no answer read: their tasks are found, or their rows held."""
    slow = [{"kind": "slow", "delay_s": 60.0, "after": n_accepted - 1}]
    work = workshop(12, faults=slow)
    process = work.job.start()
    _until(lambda: work.server.log()["totals"]["accepted"] >= n_accepted)
    process.kill()
    process.join(60)
    work.server.set_scenario(faults=())

    work.finish(12)


@pytest.mark.parametrize("revision", HELD_OR_FOUND)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_as_safe_as_a_crash(workshop, number):
    """The first signal drains, the second ends at once; nothing is lost by either."""
    work = workshop(12, faults=[{"kind": "slow", "delay_s": 60.0, "after": 2}])
    process = work.job.start()
    _until(lambda: work.server.log()["totals"]["accepted"] >= 3)
    os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    work.server.set_scenario(faults=())

    work.finish(12)


def _until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.01)
