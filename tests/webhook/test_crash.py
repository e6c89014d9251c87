"""SIGKILL at every named moment of an event's way, and the event comes again or is worked again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from mynth_dagster.crash_points import CrashPoint
from mynth_dagster.limits import REVISIONS
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.wire.signatures import sign
from tests.crash.job import Job
from tests.engine.bench import Bench
from tests.engine.post import deliver, events, outcomes
from tests.factories import LeapingClock
from tests.webhook.conftest import event_body
from tests.webhook.killed import POINT
from tests.webhook.process import SECRET, receiver

RECEIVING = {CrashPoint.EVENT_VERIFIED: 0, CrashPoint.EVENT_KEPT: 1}
"""How many events are kept after a crash there."""

WORKING = (CrashPoint.EVENT_ATTACHED, CrashPoint.EVENT_RECORDED)
WEBHOOK_POINTS = {*RECEIVING, *WORKING}


@pytest.mark.parametrize("point", RECEIVING, ids=lambda point: point.name)
def test_a_receiver_killed_there_acknowledges_nothing_and_keeps_the_event_once(
    tmp_path, monkeypatch, point
):
    """The sender gets no answer, so it delivers again; that leaves one event and one only."""
    body = event_body()
    with receiver(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}") as made:
        made.start()  # makes the ledger
        made.stop()
        monkeypatch.setenv(POINT, point.name)
        made.module = "tests.webhook.killed"
        made.start()
        with pytest.raises(httpx.HTTPError):
            _post(made.url, body)
        assert made.wait() == -signal.SIGKILL
        assert len(_kept(made.ledger_url)) == RECEIVING[point]

        monkeypatch.delenv(POINT)
        made.start()
        assert _post(made.url, body) == 200
    assert _kept(made.ledger_url) == [("tsk_1",)]


@pytest.mark.parametrize("revision", [REVISIONS[0], REVISIONS[-1]])  # a form of events each
@pytest.mark.parametrize("point", WORKING, ids=lambda point: point.name)
def test_a_run_killed_while_it_works_the_inbox_works_it_again(
    simulator: Callable[..., SimulatorServer], tmp_path: Path, revision: str, point: CrashPoint
):
    """Each event has one effect, on a row whose answer was lost as well."""
    lost = [{"kind": "lost_answer", "count": 1}]
    server = simulator(revision=revision, faults=lost)
    bench = Bench(server, LeapingClock(), tmp_path)
    bench.clock.advance(time.time() - bench.clock.now_us() / 1e6)
    job = Job(server.url, str(bench.root), bench.ledger_url, n_rows=8, kill_at="SUBMITTED")
    assert job.exit_code() == -signal.SIGKILL
    deliver(bench, events(server))

    assert replace(job, kill_at=point.name, nth=3).exit_code() == -signal.SIGKILL
    assert outcomes(bench)[None] > 0  # not all events were done
    assert replace(job, kill_at="").exit_code() == 0

    assert bench.states() == {"completed": 8}
    assert bench.n_posts == 8
    assert set(outcomes(bench)) <= {"read", "known"}
    bench.require_sound(8)


def _post(url: str, body: bytes) -> int:
    header = sign(body, SECRET, at_s=int(time.time()))
    with httpx.Client(verify=False, trust_env=False) as client:
        headers = {"X-Mynth-Signature": header}
        return client.post(url, content=body, headers=headers, timeout=20).status_code


def _kept(ledger_url: str) -> list[tuple[str]]:
    engine = sa.create_engine(ledger_url)
    with engine.connect() as connection:
        rows = [
            tuple(row) for row in connection.execute(sa.text("SELECT task_id FROM webhook_events"))
        ]
    engine.dispose()
    return rows
