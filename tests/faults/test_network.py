"""Answers that go astray, servers that are not there: each row is paid for once, or held."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mynth_dagster.engine.run import RunProgress
from mynth_dagster.errors import ApiError, ConfigError, PollFetchError
from mynth_dagster.limits import REVISIONS
from tests.faults.stage import MINUTE_S

POST = "POST /image/generate"
LIST, STATUS, FULL = "GET /tasks", "GET /tasks/:id/status", "GET /tasks/:id"

ASTRAY = {
    "answer lost after acceptance": {"kind": "lost_answer"},
    "reset after acceptance": {"kind": "reset_after"},
    "body cut short": {"kind": "truncated"},
    "no JSON": {"kind": "bad_json"},
    "gateway's page after acceptance": {"kind": "html_error", "with_task": True},
    "503 after acceptance": {"kind": "status", "status": 503, "with_task": True},
    "408 after acceptance": {"kind": "status", "status": 408, "with_task": True},
    "409 after acceptance": {"kind": "status", "status": 409, "with_task": True},
    "425 after acceptance": {"kind": "status", "status": 425, "with_task": True},
    "500 that tells the task": {
        "kind": "server_error_with_task",
        "task_id_field": "task_id",
        "code": "public_access_token_failed",
    },
    "500 that tells a task it does not document": {
        "kind": "server_error_with_task",
        "task_id_field": "task_id",
        "code": "internal_error",
    },
    "500 of a task that was made": {"kind": "server_error_with_task"},
    "500 without a task": {"kind": "server_error"},
    "502 page without a task": {"kind": "html_error"},
    "503 with Retry-After, not accepted": {"kind": "status", "status": 503, "retry_after_s": 3.0},
    "reset before acceptance": {"kind": "reset"},
    "idle connection closed under the request": {"kind": "reset", "every": 4},
}


@pytest.mark.parametrize("revision", [REVISIONS[0], REVISIONS[-1]])
@pytest.mark.parametrize("rule", ASTRAY.values(), ids=ASTRAY)
def test_a_row_whose_answer_went_astray_is_paid_once(stage, rule):
    """Found or proved absent where there is a list, held where there is none."""
    work = stage(faults=[{"every": 3, "first": 9, **rule}])

    first = work.run(16)
    assert first.images + first.unresolved == 16
    work.server.set_scenario(faults=())

    work.finish(16)


RATE = {
    "in seconds": {"retry_after_s": 7.0},
    "as a date": {"retry_after_s": 7.0, "retry_after_as_date": True},
    "without a word": {},
}


@pytest.mark.parametrize("rule", RATE.values(), ids=RATE)
def test_too_many_requests_is_a_pause_and_no_failure(new_stage, rule):
    """One pause shared by all, as long as was asked; every row is sent once in the end."""
    work = new_stage(faults=[{"kind": "rate_limited", "first": 5, **rule}])
    before_s = work.clock.elapsed_s()

    report = work.run(16)

    assert (report.images, report.failures) == (16, {})
    waited_s = work.clock.elapsed_s() - before_s
    assert waited_s >= (7.0 if rule else 0.5)
    work.finish(16)


def test_too_many_requests_for_ever_ends_the_run_resumable(new_stage):
    """Bounded, nothing failed, the reason told; later the rest is sent."""
    work = new_stage(faults=[{"kind": "rate_limited", "after": 6}])

    report = work.run(16)

    assert (report.stopped, report.withheld) == ("rate_limited", 10)
    assert {row["error_code"] for row in work.table("failures")} == {"rate_limited"}
    work.server.set_scenario(faults=())
    work.finish(16)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refusal_that_is_nobodys_row_stops_the_run(stage, status):
    """Key, balance and limit: what follows is withheld, not failed, and sent by a later run."""
    codes = {401: "unauthorized", 402: "insufficient_balance", 403: "spending_limit_exceeded"}
    refusal = {"kind": "status", "status": status, "code": codes[status], "after": 5}
    work = stage(faults=[refusal])

    report = work.run(16)

    assert report.stopped == codes[status]
    assert report.withheld == 16 - report.images
    assert {row["money"] for row in work.table("failures")} == {"not charged"}
    assert work.n_posts <= 5 + 16  # no more than the slots that were in flight
    work.server.set_scenario(faults=())
    work.finish(16)


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "status", "status": 407},
        *({"kind": "html_error", "status": status} for status in (400, 401, 403, 404, 413, 429)),
    ],
    ids=lambda answer: str(answer["status"]),
)
def test_a_proxys_word_is_not_mynths(new_stage, answer):
    """A refusal that is not the API's own stops the run; what came of its requests is unknown."""
    work = new_stage(faults=[{**answer, "after": 4}])

    assert work.run(60).stopped == "gateway"
    assert work.states().keys() <= {"completed", "withheld", "unresolved"}
    assert 1 <= work.states()["unresolved"] <= 16
    work.server.set_scenario(faults=())
    work.finish(16)


def test_an_outage_in_the_middle_opens_the_circuit(new_stage):
    """After ten unknown outcomes no more is risked; afterwards the table is completed."""
    work = new_stage(faults=[{"kind": "server_error", "after": 10}])

    report = work.run(60)

    assert report.stopped == "outcomes_unknown"
    assert 10 <= report.unresolved <= 10 + 16
    assert work.n_posts <= 10 + report.unresolved
    work.server.set_scenario(faults=())
    work.finish(60)


def test_polls_that_fail_for_long_change_nothing(stage):
    """Twenty times in a row and more: no row failed, nothing sent again."""
    work = stage(progress="clock", latency=5)
    outage = [{"route": route, "kind": "server_error"} for route in (LIST, STATUS, FULL)]
    progress = RunProgress(on_quote=lambda *_: work.server.set_scenario(faults=outage))

    with pytest.raises(PollFetchError, match="polling failed"):
        work.run(8, progress=progress, deadline_s=1e6)
    assert work.states() == {"accepted": 8}
    work.server.set_scenario(faults=())
    work.finish(8)


class HangingUp:
    """Takes each connection and closes it: no TLS, no HTTP."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def hanging_up() -> Iterator[HangingUp]:
    """A server that breaks off every handshake."""
    server = HangingUp()
    yield server
    server.close()


@pytest.mark.parametrize("host", ["mynth.invalid", "127.0.0.1:1"])
def test_a_server_that_is_not_there_costs_nothing(new_stage, host):
    """No such name, nobody listening: one clear error before anything, and no downgrade."""
    work = new_stage()

    with pytest.raises((ApiError, ConfigError), match=r"Nothing was sent|onnect|resolve|reach"):
        work.run(4, settings={"base_url": f"https://{host}"})
    assert work.n_posts == 0
    work.finish(4)


def test_tls_that_fails_is_not_gone_around(new_stage, hanging_up):
    """A handshake that breaks off: an error, nothing sent, and never plain HTTP instead."""
    work = new_stage()

    with pytest.raises((ApiError, ConfigError)):
        work.run(4, settings={"base_url": hanging_up.url})
    assert work.n_posts == 0


@pytest.mark.parametrize("seed", [11, 12])
def test_thirty_in_a_hundred_go_wrong_and_the_account_is_exact(stage, seed):
    """A thousand rows, all kinds of faults at once, until done: each told, none paid twice."""
    share = 0.3 / len(ASTRAY)
    faults = [{**rule, "share": share, "every": None} for rule in ASTRAY.values()]
    faults += [{"route": r, "kind": "server_error", "share": 0.2} for r in (LIST, STATUS, FULL)]
    work = stage(faults=faults, failures=[{"share": 0.1}], seed=seed)
    calm = {"concurrency": 64}

    for _ in range(20):
        report = work.run(1000, settings=calm)
        work.clock.advance(MINUTE_S)
        if report.stopped is None:
            break
    work.server.set_scenario(faults=())

    n_failed = sum(row["status"] == "failed" for row in work.table("failures"))
    assert n_failed > 50
    work.finish(1000, settings=calm)
