from __future__ import annotations

import pytest

MODEL = "black-forest-labs/flux.2-dev"


def control(api, word, body=None, **options):
    path = f"/_simulator/{word}"
    if body is None:
        return api.client.get(path, **options)
    return api.client.post(path, json=body, **options)


def test_log_of_accepted_requests(api):
    """The log knows each accepted request with intent, prompt, model, key and price."""
    task_id = api.create("a kite", count=2, metadata={"mynth_dagster": "int1.hash.ledger"})
    log = control(api, "log").json()

    at_us = api.server.app.clock.now_us()
    assert [
        {
            "task_id": task_id,
            "intent_id": "int1",
            "intent_tag": "int1.hash.ledger",
            "route": "POST /image/generate",
            "prompt": "a kite",
            "model": MODEL,
            "urls": [],
            "count": 2,
            "api_key_id": "key_simulator_0",
            "estimated_cost": "0.02",
            "at_us": at_us,
        }
    ] == log["accepted"]
    assert {
        "task_id": task_id,
        "reserved": "0.02000000",
        "charged": None,
        "refunded": None,
        "status": "pending",
    } == log["charges"][0]


@pytest.mark.parametrize("metadata", [{}, {"mynth_dagster": 7}, {"other": "int1"}])
def test_log_without_intent(api, metadata):
    """A request without our mark, or with one that is no string, has no intent."""
    api.create(metadata=metadata)

    entry = api.server.log()["accepted"][0]
    assert (entry["intent_id"], entry["intent_tag"]) == (None, None)


def test_log_finds_duplicates(api):
    """Two accepted requests of one intent are a duplicate, whatever follows the first dot."""
    first = api.create(metadata={"mynth_dagster": "int1.a"})
    second = api.create(metadata={"mynth_dagster": "int1.b"})
    api.create(metadata={"mynth_dagster": "int2.a"})

    assert [{"intent_id": "int1", "task_ids": [first, second]}] == api.server.log()[
        "duplicate_intents"
    ]


def test_log_counts_requests_by_route(api):
    """Requests are counted by route pattern, answers by status; control routes by neither."""
    task_id = api.create()
    for path in ("/tasks", f"/tasks/{task_id}", f"/tasks/{task_id}/status", "/nowhere", "/cdn/a/b"):
        api.client.get(path)
    log = control(api, "log").json()

    assert log["requests"] == {
        "POST /image/generate": 1,
        "GET /tasks": 1,
        "GET /tasks/:id": 1,
        "GET /tasks/:id/status": 1,
        "GET (unknown)": 1,
        "GET /cdn/:file": 1,
    }
    assert log["responses"] == {"201": 1, "200": 3, "404": 2}
    assert log["peak_in_flight"] == 1
    assert 1 <= log["connections"]["open"] <= log["connections"]["peak_open"]


def test_log_totals(api):
    """Totals add up what was charged, what is held, and what is left."""
    api.finish(count=2)
    api.create()

    assert api.server.log()["totals"] == {
        "accepted": 2,
        "charged": "0.02000000",
        "reserved_now": "0.01000000",
        "balance": "999.98000000",
        "pending": 1,
    }


def test_log_summary_leaves_out_lists(api):
    """The summary has no list of tasks, charges or deliveries."""
    api.create()
    full = control(api, "log").json()
    summary = control(api, "log", params={"view": "summary"}).json()

    assert {"accepted", "charges", "deliveries"} == set(full) - set(summary)
    assert full["totals"] == summary["totals"]


def test_reset_over_http(api):
    """A reset forgets tasks, money and counts, and may change the scenario."""
    task_id = api.create()
    answer = control(api, "reset", {"balance_usd": "3"})

    assert answer.json()["balance_usd"] == "3"
    assert api.client.get(f"/tasks/{task_id}").status_code == 404
    assert api.balance()["available"] == "3"
    assert api.server.log()["requests"] == {"GET /tasks/:id": 1, "GET /balance": 1}


def test_scenario_over_http(api):
    """A change of the scenario merges its fields and keeps the tasks."""
    task_id = api.create()
    changed = control(api, "scenario", {"balance_usd": "5", "failures": [{"kind": "task"}]})

    assert changed.json() == control(api, "scenario").json()
    assert (changed.json()["balance_usd"], changed.json()["progress"]) == ("5", "manual")
    assert (api.balance()["balance"], api.balance()["reserved"]) == ("5", "0.01")
    assert api.detail(task_id)["status"] == "pending"


def test_complete_over_http(api):
    """Complete takes some ids or none for all, and says how many were pending."""
    first, _ = api.create("one"), api.create("two")

    assert control(api, "complete", {"task_ids": [first]}).json() == {"completed": 1}
    assert control(api, "complete", {}).json() == {"completed": 1}
    assert control(api, "complete", {"task_ids": ["tsk_x"]}).status_code == 404


def test_control_refuses_nonsense(api):
    """Unknown fields, other bodies and other routes are answered with what is wrong."""
    misspelt = control(api, "scenario", {"balance": "5"})
    broken = api.client.post("/_simulator/scenario", content=b"{")
    listed = control(api, "reset", [])

    assert [answer.status_code for answer in (misspelt, broken, listed)] == [400] * 3
    assert "did you mean 'balance_usd'" in misspelt.json()["error"]
    assert control(api, "nothing").status_code == 404


def test_front_page_says_what_is_invented(any_api):
    """The simulator's own page names its routes and says that prices and sizes are invented."""
    page = control(any_api, "").json()

    assert "invented" in page["notice"]
    assert {"prices_usd", "pixels", "auto_ceiling_usd"} == set(page["invented"])
    assert "POST /image/generate" in page["routes"]
    assert ("GET /tasks" in page["routes"]) == (any_api.revision != "2026-04")
