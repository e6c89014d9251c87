from __future__ import annotations

import json
import threading
from email.utils import parsedate_to_datetime

import httpx
import pytest

from mynth_dagster.clock import utc_from_us

POST = "POST /image/generate"
NEW_CODES = {
    ("internal_error", 500): "internal_server_error",
    ("internal_error", 503): "unavailable",
    ("internal_error", 404): "not_found",
}


def accepted(api):
    return api.server.log()["totals"]["accepted"]


@pytest.mark.parametrize(
    ("kind", "n_accepted", "error"),
    [
        ("lost_answer", 1, httpx.RemoteProtocolError),
        ("reset", 0, httpx.ReadError),
        ("reset_after", 1, httpx.ReadError),
        ("truncated", 1, httpx.RemoteProtocolError),
    ],
)
def test_cut_connections(any_api, kind, n_accepted, error):
    """A cut shows at the client as a transport error; the log knows whether a task was made."""
    any_api.server.set_scenario(faults=[{"kind": kind}])
    with pytest.raises(error):
        any_api.post(metadata={"mynth_dagster": "int1.hash.ledger"})

    assert n_accepted == accepted(any_api)
    log = any_api.server.log()
    assert (log["responses"], log["requests"]) == ({"cut": 1}, {POST: 1})
    assert ["int1"] * n_accepted == [entry["intent_id"] for entry in log["accepted"]]


def test_truncated_announces_more(api):
    """A truncated answer has the headers of the whole one and half of its body."""
    api.server.set_scenario(faults=[{"kind": "truncated"}])
    with api.client.stream("POST", "/image/generate", json=api.body()) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()

        assert answer.status_code == 201
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("rule", "status", "code", "n_accepted"),
    [
        ({"kind": "server_error"}, 500, "internal_error", 0),
        ({"kind": "server_error", "status": 503}, 503, "internal_error", 0),
        ({"kind": "server_error_with_task"}, 500, "internal_error", 1),
        ({"kind": "status", "status": 403, "code": "FORBIDDEN"}, 403, "forbidden", 0),
        ({"kind": "status", "status": 404, "with_task": True}, 404, "internal_error", 1),
        ({"kind": "rate_limited"}, 429, "rate_limited", 0),
    ],
)
def test_answers_with_status(any_api, rule, status, code, n_accepted):
    """Errors come in the revision's own body, with or without a task behind them."""
    any_api.server.set_scenario(faults=[rule])
    if any_api.revision == "2026-10":
        code = NEW_CODES.get((code, status), code)

    assert (status, code) == any_api.error(any_api.post())
    assert n_accepted == accepted(any_api)


def test_server_error_may_name_the_task(any_api):
    """A failed creation may carry the id of the task that exists nevertheless."""
    any_api.server.set_scenario(
        faults=[{"kind": "server_error_with_task", "task_id_field": "task_id"}]
    )
    payload = any_api.post().json()

    error = payload if any_api.revision == "2026-08" else payload["error"]
    assert any_api.server.log()["accepted"][0]["task_id"] == error["task_id"]


@pytest.mark.parametrize("with_task", [False, True])
def test_html_error(api, with_task):
    """A gateway's HTML page is no JSON, and may hide a task."""
    api.server.set_scenario(faults=[{"kind": "html_error", "with_task": with_task}])
    answer = api.post()

    assert (
        answer.status_code,
        answer.headers["content-type"],
    ) == (502, "text/html; charset=utf-8")
    assert answer.text.startswith("<html>")
    assert int(with_task) == accepted(api)


def test_bad_json(api):
    """Garbage arrives under the usual status, and the task exists."""
    api.server.set_scenario(faults=[{"kind": "bad_json"}])
    answer = api.post()

    assert answer.status_code == 201
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert accepted(api) == 1


def test_retry_after_in_seconds_and_as_date(api):
    """``Retry-After`` counts seconds or names a date by the simulator's clock."""
    rule = {"kind": "rate_limited", "retry_after_s": 30}
    api.server.set_scenario(faults=[rule])
    in_seconds = api.post().headers["retry-after"]
    api.server.set_scenario(faults=[{**rule, "retry_after_as_date": True}])
    as_date = parsedate_to_datetime(api.post().headers["retry-after"])

    now = utc_from_us(api.server.app.clock.now_us())
    assert in_seconds == "30"
    assert 29 <= (as_date - now).total_seconds() <= 30


def test_slow_answer_waits_for_the_clock(api):
    """A slow answer leaves only when its delay is over; its task exists before."""
    clock = api.server.app.clock
    sleeping = signal_sleep(clock)
    api.server.set_scenario(faults=[{"kind": "slow", "delay_s": 30}])
    answers = []
    thread = threading.Thread(target=lambda: answers.append(api.post()))
    thread.start()

    assert sleeping.wait(10)
    assert (accepted(api), answers) == (1, [])
    api.server.advance(30)
    thread.join(10)
    assert answers[0].status_code == 201


def signal_sleep(clock):
    """An event set when somebody starts to sleep on the clock."""
    sleeping = threading.Event()
    sleep = type(clock).sleep

    async def noted(delay_s):
        sleeping.set()
        del clock.sleep
        await sleep(clock, delay_s)

    clock.sleep = noted
    return sleeping


def outcomes(api, n_requests, prompt="kite"):
    return "".join("." if api.post(prompt).status_code == 201 else "x" for _ in range(n_requests))


@pytest.mark.parametrize(
    ("when", "pattern"),
    [
        ({"every": 3}, "..x..x.."),
        ({"first": 2}, "xx......"),
        ({"after": 2, "count": 3}, "..xxx..."),
        ({"after": 1, "every": 2, "count": 2}, "..x.x..."),
        ({"share": 0.0}, "........"),
        ({"prompt_contains": "[x]"}, "........"),
    ],
)
def test_when_a_fault_strikes(api, when, pattern):
    """A rule strikes every n-th, the first, or a number of requests after some."""
    api.server.set_scenario(faults=[{"kind": "server_error", **when}])

    assert pattern == outcomes(api, len(pattern))


def test_share_of_faults_is_repeatable(connect):
    """A share is drawn per prompt and turn from the seed, so it repeats."""
    faults = [{"kind": "server_error", "share": 0.5}]
    once = outcomes(connect(seed=3, faults=faults), 40)
    again = outcomes(connect(seed=3, faults=faults), 40)
    other = outcomes(connect(seed=4, faults=faults), 40)

    assert once == again
    assert once != other
    assert 8 <= once.count("x") <= 32


def test_fault_on_other_routes(api):
    """A rule names its route; others stay whole, and ``*`` means any."""
    task_id = api.create()
    rule = {"route": "GET /tasks/:id/status", "kind": "status", "status": 503}
    api.server.set_scenario(faults=[rule])
    polled = api.client.get(f"/tasks/{task_id}/status").status_code
    read = api.client.get(f"/tasks/{task_id}").status_code
    api.server.set_scenario(faults=[{**rule, "route": "*"}])

    assert (polled, read) == (503, 200)
    assert api.client.get("/models").status_code == 503


def test_other_changes_keep_counting(api):
    """Changing the rest of the scenario does not start a rule's counting over."""
    api.server.set_scenario(faults=[{"kind": "server_error", "first": 2}])
    before = outcomes(api, 1)
    api.server.set_scenario(balance_usd="7")

    assert before + outcomes(api, 2) == "xx."


def test_connection_survives_a_fault_elsewhere(api):
    """Cutting one connection leaves the others and the server alone."""
    api.server.set_scenario(faults=[{"kind": "reset", "first": 1}])
    with pytest.raises(httpx.ReadError):
        api.post()

    assert api.post().status_code == 201


def test_a_fault_with_a_task_may_strike_where_no_task_is_returned(api):
    """A list names no single task, so the error names none."""
    rule = {"kind": "server_error_with_task", "route": "GET /tasks", "task_id_field": "task_id"}
    api.server.set_scenario(faults=[rule])
    answer = api.client.get("/tasks")

    assert answer.status_code == 500
    assert "task_id" not in answer.json()
