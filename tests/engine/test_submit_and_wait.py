"""A run that waits reads what is finished while it sends the rest; judged by Mynth's log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mynth_dagster.clock import SystemClock
from mynth_dagster.engine import plan, poll, reconcile, run
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.engine.submit import SubmitCounts
from tests.engine.bench import Bench
from tests.factories import KEY

FULL = "GET /tasks/:id"


def n_read(work: Bench) -> int:
    """Tasks that were read whole."""
    return int(work.log["requests"].get(FULL, 0))


@pytest.fixture
def work(simulator, tmp_path, monkeypatch) -> Bench:
    """Tasks finish at once, and nobody waits a second before the first pass."""
    monkeypatch.setattr(poll, "PROBE_MIN_S", 0.001)
    server = simulator(clock=SystemClock(), revision="2026-10", progress="immediate")
    return Bench(server, SystemClock(), tmp_path)


def test_finished_tasks_are_read_while_others_are_sent(work):
    """Some are read by the time the last request is answered; all of them once."""
    read_at = {}
    progress = RunProgress(on_phase=lambda phase: read_at.setdefault(phase, n_read(work)))

    report = work.run(800, progress=progress)

    assert 0 < read_at["wait"] < 800
    assert report.images == 800
    assert n_read(work) == 800
    work.require_sound(800)


class Counts(SubmitCounts):
    """Does something after a hundred answers."""

    def __init__(self, at_hundred: Callable[[], object]) -> None:
        self.at_hundred = at_hundred
        super().__init__()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if (name, value) == ("n_accepted", 100):
            self.at_hundred()


def test_a_cancelled_run_reads_no_further(work):
    """Nothing that was sent is lost: the next run collects it, and sends only the rest."""
    stop = CancelToken()
    progress = RunProgress(counts=Counts(lambda: stop.set(CANCELLED)))

    first = work.run(400, stop=stop, progress=progress)

    assert first.stopped == "cancelled"
    assert 100 <= work.n_posts < 400
    assert work.run(400).images == 400
    assert work.n_posts == 400
    work.require_sound(400)


def test_a_key_that_is_refused_meanwhile_ends_the_run_as_ever(work):
    """Whether a pass or the next request meets it first; a good key goes on from there."""
    revoked = [{"key": KEY, "revoked": True}]
    progress = RunProgress(counts=Counts(lambda: work.server.set_scenario(api_keys=revoked)))

    report = work.run(400, progress=progress)

    assert report.stopped == "unauthorized"
    work.require_sound(400)
    work.server.set_scenario(api_keys=[{"key": KEY}])
    assert work.run(400).images == 400
    work.require_sound(400)


def test_an_error_of_the_ledger_in_a_pass_ends_the_run(work, monkeypatch):
    """It is not lost with the task that met it."""

    async def fail(*_: object) -> int:
        await asyncio.sleep(0)
        raise LookupError("ours")

    monkeypatch.setattr(reconcile, "process_events", fail)

    with pytest.raises(LookupError, match="ours"):
        work.run(100)


def test_sending_waits_for_reading_where_much_is_unread(work, monkeypatch):
    """What is accepted and not read stays within some rows, however large the table is."""
    monkeypatch.setattr(run, "UNREAD_MAX", 20)
    monkeypatch.setattr(plan, "ROWS_AT_ONCE", 20)
    waits = []
    catch_up = run._Meanwhile.catch_up

    async def caught_up(self) -> None:
        await catch_up(self)
        waits.append(self._reconciler.n_reading)

    monkeypatch.setattr(run._Meanwhile, "catch_up", caught_up)

    assert work.run(600).images == 600

    assert len(waits) >= 30
    assert max(waits) <= 20
    work.require_sound(600)
