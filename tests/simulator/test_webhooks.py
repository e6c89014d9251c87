"""Webhooks of the simulator: to whom, in which shape, how often, and when it gives up."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from tests.simulator.catcher import complete_until, registered

SECRET = "wbs_simulator"
DONE, FAILED = "task.image.generate.completed", "task.image.generate.failed"
METADATA = {"sku": "A-1", "tags": ["ü", {"n": 1}]}


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_a_finished_task_is_announced_signed_over_the_raw_body(connect, catcher, revision):
    """HMAC-SHA256 over time and bytes, keyed with the whole secret; the time is that of sending."""
    api = connect(revision=revision, webhooks=[registered(catcher)])
    task = api.finish("a red kite", metadata=METADATA)
    caught = catcher.next()

    at, signature = (part.split("=")[1] for part in caught.headers["x-mynth-signature"].split(","))
    message = at.encode() + b"." + caught.body
    assert signature == hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
    assert int(at) == api.server.app.clock.now_us() // 1_000_000
    assert caught.headers["x-mynth-event"] == caught.payload["event"] == DONE
    assert caught.headers["content-type"] == "application/json"
    assert caught.payload["task"] == {"id": task["id"]}
    assert set(caught.payload) == {"event", "task", "request", "result"}


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_an_event_tells_what_a_reading_of_the_task_tells(connect, catcher, revision):
    """Request and result are those of the full task; there is no envelope."""
    api = connect(revision=revision, webhooks=[registered(catcher)])
    task = api.finish("a red kite", count=2, metadata=METADATA)
    payload = catcher.next().payload

    assert payload["result"] == task["result"]
    assert payload["request"] == task["request"]
    assert payload["request"]["metadata"] == METADATA


def test_a_failed_task_tells_its_errors_in_the_newer_revision_only(connect, catcher):
    """Neither revision tells a result of a failure."""
    rules = [{"kind": "task", "code": "GENERATION_FAILED"}]
    payloads = {}
    for revision in ("2026-04", "2026-08"):
        api = connect(revision=revision, failures=rules, webhooks=[registered(catcher)])
        api.finish()
        payloads[revision] = catcher.next().payload

    assert {payloads[revision]["event"] for revision in payloads} == {FAILED}
    assert set(payloads["2026-04"]) == {"event", "task", "request"}
    assert set(payloads["2026-08"]) == {"event", "task", "request", "errors"}
    assert payloads["2026-08"]["errors"][0]["code"] == "GENERATION_FAILED"


def test_the_cost_and_a_delivery_id_are_included_where_chosen(connect, catcher):
    """Two details that only some sources know."""
    api = connect(
        webhooks=[registered(catcher)],
        quirks={"event_tells_cost": True, "webhook_delivery_header": True},
    )
    catcher.answer_next(500)
    task = api.finish()
    first = catcher.next()
    complete_until(api, lambda log: log["webhooks"]["failed"] == 1)
    api.server.advance(10)
    second = catcher.next()

    assert first.payload["task"] == {"id": task["id"], "cost": task["cost"]}
    assert first.headers["x-mynth-delivery"] == second.headers["x-mynth-delivery"]


@pytest.mark.parametrize(
    ("events", "n_heard"),
    [(["all"], 2), (["task.completed"], 1), (["task.failed"], 1), ([DONE], 1), ([DONE, FAILED], 2)],
)
def test_a_registered_endpoint_hears_what_it_asked_for(connect, catcher, events, n_heard):
    """Wildcards are filters; what is delivered names the event itself."""
    rules = [{"kind": "task", "prompt_contains": "broken"}]
    api = connect(failures=rules, webhooks=[registered(catcher, events=events)])
    api.finish("a red kite")
    api.finish("a broken kite")
    heard = [caught.payload["event"] for caught in catcher.take(n_heard)]
    log = complete_until(api, lambda log: log["webhooks"]["acknowledged"] == n_heard)

    assert len(log["deliveries"]) == n_heard
    assert set(heard) <= {DONE, FAILED}


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_a_request_may_name_endpoints_of_its_own_which_are_not_signed(connect, catcher, revision):
    """And it may silence the registered ones."""
    api = connect(revision=revision, webhooks=[registered(catcher)])
    silenced = {"enabled": False} if revision == "2026-04" else {"dashboard": False}
    custom = [{"url": f"{catcher.url}/custom/{n}"} for n in range(2)]
    api.finish(webhook={**silenced, "custom": custom})
    heard = catcher.take(2)
    log = complete_until(api, lambda log: log["webhooks"]["acknowledged"] == 2)

    assert {caught.path for caught in heard} == {"/custom/0", "/custom/1"}
    assert not any("x-mynth-signature" in caught.headers for caught in heard)
    assert all("x-mynth-event" in caught.headers for caught in heard)
    assert [delivery["signed"] for delivery in log["deliveries"]] == [False, False]


def test_silencing_covers_custom_endpoints_where_chosen(connect, catcher):
    """The other reading of the documentation."""
    api = connect(quirks={"silence_covers_custom": True})
    api.finish(webhook={"dashboard": False, "custom": [{"url": catcher.url}]})

    assert api.server.log()["deliveries"] == []


def test_disabled_endpoints_and_those_of_other_accounts_hear_nothing(connect, catcher):
    """Only the account that made the task."""
    api = connect(
        webhooks=[
            registered(catcher, enabled=False),
            registered(catcher, user_id="user_other"),
        ]
    )
    api.finish()

    assert api.server.log()["deliveries"] == []


@pytest.mark.parametrize("status", [302, 400, 401, 404, 500, 503])
def test_anything_but_success_is_repeated_with_growing_pauses(connect, catcher, status):
    """Each attempt is signed with the time of its own sending; redirects are not followed."""
    api = connect(webhooks=[registered(catcher)], deliveries={"retry_first_s": 5})
    catcher.answer_next(status, status)
    api.finish()
    first = catcher.next()
    complete_until(api, lambda log: log["webhooks"]["failed"] == 1)
    api.server.advance(5)
    second = catcher.next()
    complete_until(api, lambda log: log["webhooks"]["failed"] == 2)
    api.server.advance(9)
    assert api.server.log()["webhooks"]["waiting"] == 1
    api.server.advance(1)
    third = catcher.next()
    log = complete_until(api, lambda log: log["webhooks"]["acknowledged"] == 1)

    assert first.body == second.body == third.body
    assert first.headers["x-mynth-signature"] != second.headers["x-mynth-signature"]
    assert {caught.path for caught in (first, second, third)} == {"/hook"}
    assert log["deliveries"][0]["attempts"] == [status, status, 200]


def test_nobody_there_counts_as_a_failure_and_the_window_ends_it(connect):
    """No attempt is made later than the window after the task ended."""
    api = connect(
        webhooks=[{"url": "http://127.0.0.1:9/hook"}],
        deliveries={"retry_first_s": 5, "retry_window_s": 12},
    )
    api.finish()
    complete_until(api, lambda log: log["webhooks"]["failed"] == 1)
    api.server.advance(5)
    log = complete_until(api, lambda log: log["deliveries"][0]["state"] == "given up")

    assert log["deliveries"][0]["attempts"] == [None, None]


def test_an_endpoint_that_keeps_failing_is_disabled(connect, catcher):
    """After so many failures in a row nothing more is sent; a success in between starts over."""
    api = connect(
        webhooks=[registered(catcher)],
        deliveries={"failures_until_disabled": 3, "retry_first_s": 1, "retry_max_s": 1},
    )
    catcher.answer_next(500, 500, 200, 500, 500, 500)
    for n in range(1, 6):
        if n in (1, 4):
            api.finish(f"kite {n}")
        catcher.next()
        complete_until(api, lambda log, n=n: _n_attempts(log) == n)
        api.server.advance(1)
    catcher.next()
    log = complete_until(api, lambda log: log["webhooks"]["disabled_webhooks"] == 1)
    api.finish("kite 9")

    assert [delivery["attempts"] for delivery in log["deliveries"]] == [
        [500, 500, 200],
        [500, 500, 500],
    ]
    api.server.advance(5)
    assert complete_until(
        api, lambda log: [d["state"] for d in log["deliveries"]] == ["delivered", "withdrawn"]
    )


def _n_attempts(log):
    return log["webhooks"]["acknowledged"] + log["webhooks"]["failed"]


def test_events_may_come_late_twice_or_never(connect, catcher):
    """By the scenario, drawn from its seed."""
    api = connect(
        webhooks=[registered(catcher)],
        deliveries={"delay": 30, "duplicate_share": 1.0},
    )
    task = api.finish()
    assert api.server.log()["webhooks"]["waiting"] == 1
    api.server.advance(30)
    heard = catcher.take(2)
    lossy = connect(webhooks=[registered(catcher)], deliveries={"lost_share": 1.0})
    lossy.finish()

    assert {caught.payload["task"]["id"] for caught in heard} == {task["id"]}
    assert heard[0].body == heard[1].body
    assert lossy.server.log()["deliveries"][0]["state"] == "lost"


def test_tasks_that_fall_due_are_announced_without_anybody_asking(connect, catcher):
    """Polling is not needed for an event to come."""
    api = connect(progress="clock", latency=5, webhooks=[registered(catcher)])
    task_id = api.create()
    api.server.advance(5)

    assert catcher.next().payload["task"]["id"] == task_id


def test_an_endpoint_made_over_the_api_is_called_with_its_own_secret(connect, catcher):
    """The secret of its creation signs."""
    api = connect(quirks={"webhook_management": "api_key"})
    wish = {"enabled": True, "url": f"{catcher.url}/made", "events": "all"}
    secret = api.client.post("/webhook", json=wish).json()["data"]["secret"]
    api.finish()
    caught = catcher.next()

    at, signature = (part.split("=")[1] for part in caught.headers["x-mynth-signature"].split(","))
    message = at.encode() + b"." + caught.body
    assert signature == hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def test_a_changed_scenario_registers_what_it_adds(connect, catcher):
    """Endpoints can be added while it runs."""
    api = connect()
    api.server.set_scenario(webhooks=[registered(catcher)])
    api.server.set_scenario(balance_usd="7")
    api.finish()
    catcher.next()

    assert len(api.server.log()["deliveries"]) == 1


def test_analyses_are_announced_too(connect, catcher):
    """Ratings have events of their own."""
    api = connect(webhooks=[registered(catcher)])
    answer = api.client.post("/image/rate", json={"url": "https://a.example/1.png"})
    api.server.complete()

    assert answer.status_code == 201
    assert catcher.next().payload["event"] == "task.image.rate.completed"


def test_a_failed_analysis_is_announced(connect, catcher):
    """With its code, as other failures."""
    api = connect(
        webhooks=[registered(catcher)], failures=[{"kind": "task", "code": "PROVIDER_ERROR"}]
    )
    api.client.post("/image/alt", json={"url": "https://a.example/1.png"})
    api.server.complete()
    payload = catcher.next().payload

    assert payload["event"] == "task.image.alt.failed"
    assert [error["code"] for error in payload["errors"]] == ["PROVIDER_ERROR"]


def test_a_moderated_task_tells_why_it_failed(connect, catcher):
    """Though the task itself keeps the reason with its images."""
    api = connect(webhooks=[registered(catcher)], failures=[{"kind": "moderation"}])
    api.finish(count=2)
    payload = catcher.next().payload

    assert payload["event"] == FAILED
    assert [error["code"] for error in payload["errors"]] == ["RESTRICTED_CONTENT"]
