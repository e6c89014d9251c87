from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

TWO_KEYS = [{"key": "mak_a", "user_id": "user_a"}, {"key": "mak_b", "user_id": "user_b"}]
SAME_ACCOUNT = [{"key": "mak_a"}, {"key": "mak_b"}]


def result_path(api, task_id):
    word = "results" if api.revision == "2026-04" else "result"
    return f"/tasks/{task_id}/{word}"


def test_status_follows_task(any_api):
    """The status is ``pending`` until the task ends, then its end."""
    task_id = any_api.create()
    before = any_api.get(f"/tasks/{task_id}/status")
    any_api.server.complete()

    assert before == {"status": "pending"}
    assert any_api.get(f"/tasks/{task_id}/status") == {"status": "completed"}


def test_detail_2026_08(api):
    """The full task carries owner, key, cost, request, result, errors and times."""
    task = api.finish(count=2, metadata={"row": [1, {"a": None}]})

    assert {
        *("id", "type", "status", "userId", "apiKeyId", "cost", "request", "result"),
        *("errors", "createdAt", "updatedAt"),
    } == set(task)
    assert (task["type"], task["status"], task["errors"]) == ("image.generate", "completed", None)
    assert task["request"]["metadata"] == {"row": [1, {"a": None}]}
    assert task["cost"] == "0.02000000"
    assert [image["status"] for image in task["result"]["images"]] == ["success"] * 2
    assert task["result"]["images"][0]["url"] == task["result"]["images"][0]["mynth_url"]


def test_detail_2026_04(old_api):
    """The older revision splits the cost in the result and says ``succeeded``."""
    prompt = {"positive": "a kite", "negative": "rain", "enhance": "prefer_magic"}
    task = old_api.finish(prompt, content_rating={"enabled": True})

    result = task["result"]
    assert result["cost"] == {"images": "0.01000000", "total": "0.01000000"}
    assert [image["status"] for image in result["images"]] == ["succeeded"]
    assert result["prompt_enhance"]["source"] == "mynth"
    assert result["size_auto"]["source"] == "mynth"
    assert {"mode", "level"} == set(result["images"][0]["content_rating"])
    assert prompt == task["request"]["prompt"]
    assert "errors" not in task


@pytest.mark.parametrize(
    ("size", "source"),
    [
        ("auto", "mynth"),
        ({"type": "auto"}, "mynth"),
        ({"type": "auto", "prefer": "mynth"}, "mynth"),
        ({"type": "auto", "prefer": "native"}, "native"),
    ],
)
def test_who_chose_the_size_of_2026_04(old_api, size, source):
    """The result names whom the request preferred."""
    assert old_api.finish(size=size)["result"]["size_auto"]["source"] == source


def test_detail_pending(connect):
    """A pending task has no cost; its result is null, in the older revision absent."""
    api = connect()
    task = api.detail(api.create())
    old = connect(revision="2026-04")
    old_task = old.detail(old.create())

    assert (task["cost"], task["result"], task["errors"]) == (None, None, None)
    assert None is old_task["cost"]
    assert "result" not in old_task


def test_detail_echoes_defaults_on_request(connect):
    """One reading fills defaults into the echoed request."""
    api = connect(quirks={"request_echo": "with_defaults"})

    request = api.finish()["request"]

    assert request["output"] == {"format": "webp", "quality": 80}
    assert (request["size"], request["count"]) == ("auto", 1)


def test_result_2026_08(api):
    """The result route shows id, type, status and result; null while pending."""
    task_id = api.create()
    before = api.get(f"/tasks/{task_id}/result")
    api.server.complete()
    after = api.get(f"/tasks/{task_id}/result")

    assert {"id": task_id, "type": "image.generate", "status": "pending", "result": None} == before
    assert api.detail(task_id)["result"] == after["result"]
    assert api.client.get(f"/tasks/{task_id}/results").status_code == 404


def test_result_2026_04(old_api):
    """The older results route shows the images alone."""
    task_id = old_api.create()
    before = old_api.get(f"/tasks/{task_id}/results")
    old_api.server.complete()
    after = old_api.get(f"/tasks/{task_id}/results")

    assert before == {"images": []}
    assert {"images": old_api.detail(task_id)["result"]["images"]} == after
    assert old_api.client.get(f"/tasks/{task_id}/result").status_code == 404


def test_auto_resolves(any_api):
    """A task of model ``auto`` reports a concrete model."""
    task = any_api.finish(model="auto")

    assert task["result"]["model"] != "auto"


def test_magic_prompt_and_rating(api):
    """Enhancement and rating appear in the result when asked for."""
    task = api.finish(magic_prompt=True, negative_prompt="rain", rating=True)

    assert {"positive", "negative"} == set(task["result"]["magic_prompt"])
    rating = task["result"]["images"][0]["rating"]
    assert (rating["status"], rating["level"] in {"sfw", "nsfw"}) == ("success", True)


def test_destination(connect):
    """An image in the user's own storage names it, and has no URL if that is private."""
    api = connect(private_destinations=["vault"])

    image = api.finish(destination="vault")["result"]["images"][0]

    assert None is image["url"]
    assert image["mynth_url"].startswith(api.server.url)
    assert image["destination"] == {"status": "success", "name": "vault"}


@pytest.mark.parametrize("word", ["", "/status", "/result"])
def test_other_account_is_unknown(connect, word):
    """A task of another account answers 404, as an id that never was."""
    task_id = connect("mak_a", api_keys=TWO_KEYS).create()
    other = connect("mak_b", reset=False)

    assert other.client.get(f"/tasks/{task_id}{word}").status_code == 404
    assert other.client.get(f"/tasks/tsk_{'0' * 26}{word}").status_code == 404
    assert other.client.get(f"/tasks/nonsense{word}").status_code == 404


def test_same_account_reads_but_does_not_list(connect):
    """A second key of the account reads a task by id, but lists only its own."""
    task_id = connect("mak_a", api_keys=SAME_ACCOUNT).create()
    second = connect("mak_b", reset=False)

    assert task_id == second.detail(task_id)["id"]
    assert second.get("/tasks") == []


@pytest.mark.parametrize("n_tasks", [20, 21, 101])
def test_list_pages_are_complete(api, n_tasks):
    """Paging by ``after`` shows every task once, newest first, whatever the page size."""
    made = [api.create(f"kite {i}") for i in range(n_tasks)]

    for limit in (None, 1 if n_tasks < 100 else 7, 100):
        listed, after = [], None
        while True:
            params = {"limit": limit, "after": after}
            page = api.get("/tasks", params={k: v for k, v in params.items() if v is not None})
            if not page:
                break
            assert len(page) <= (limit or 20)
            listed += [entry["id"] for entry in page]
            after = listed[-1]
        assert made[::-1] == listed


def test_list_entry(api):
    """A list entry has six fields, its cost null until completed."""
    api.create()
    pending = api.get("/tasks")[0]
    api.server.complete()
    ended = api.get("/tasks")[0]

    assert {"id", "type", "status", "cost", "createdAt", "updatedAt"} == set(pending)
    assert (pending["cost"], ended["cost"]) == (None, "0.01000000")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", ""])
def test_list_refuses_limit(api, limit):
    """A page has 1 to 100 tasks."""
    assert api.client.get("/tasks", params={"limit": limit}).status_code == 400


def test_list_unknown_after(connect):
    """An unknown ``after`` is refused, or ends the list, as chosen."""
    params = {"after": f"tsk_{'0' * 26}"}
    refusing = connect().client.get("/tasks", params=params)
    ending = connect(quirks={"unknown_after": "empty"}).client.get("/tasks", params=params)

    assert refusing.status_code == 400
    assert ending.json() == {"data": []}


def test_clock_completes_in_time(connect):
    """By clock, a task ends when its latency is over, dated at that moment."""
    api = connect(progress="clock", latency={"kind": "fixed", "value_s": 4})
    task_id = api.create()
    api.server.advance(3.999)
    early = api.get(f"/tasks/{task_id}/status")["status"]
    api.server.advance(60)
    task = api.detail(task_id)

    assert (early, task["status"]) == ("pending", "completed")
    assert seconds(task["updatedAt"]) - seconds(task["createdAt"]) == 4


def seconds(instant):
    minutes, rest = instant[14:-1].split(":")
    return int(minutes) * 60 + float(rest)


def test_immediate_progress(connect):
    """With immediate progress the first read finds the task completed."""
    api = connect(progress="immediate")

    assert api.get(f"/tasks/{api.create()}/status")["status"] == "completed"


def test_manual_progress_completes_named_tasks_only(api):
    """By hand, only the named tasks end, however late it is."""
    first, second = api.create("one"), api.create("two")
    api.server.advance(3600)
    n_completed = api.server.complete([second, second])

    assert n_completed == 1
    assert (
        api.detail(first)["status"],
        api.detail(second)["status"],
    ) == ("pending", "completed")


def test_manual_turned_to_clock_completes_what_is_due(api):
    """Tasks held by hand end by their own latency once the clock rules again."""
    task_id = api.create()
    api.server.advance(10)
    api.server.set_scenario(progress="clock")

    assert api.detail(task_id)["status"] == "completed"


def test_status_may_lag_but_not_lead(connect):
    """With a lag the status route still says pending while the task is complete."""
    api = connect(quirks={"status_lag_s": 2.0})
    task_id = api.create()
    api.server.complete()
    lagging = (api.detail(task_id)["status"], api.get(f"/tasks/{task_id}/status")["status"])
    api.server.advance(2)

    assert lagging == ("completed", "pending")
    assert api.get(f"/tasks/{task_id}/status")["status"] == "completed"


def test_a_list_may_lag_behind_its_tasks(connect):
    """With a lag a new task can be read by its id before the list shows it."""
    api = connect(revision="2026-08", quirks={"list_lag_s": 30.0})
    task_id = api.create()

    assert api.get("/tasks") == []
    assert api.detail(task_id)["id"] == task_id
    api.server.advance(31)
    assert [task["id"] for task in api.get("/tasks")] == [task_id]


def test_answers_are_dated_by_the_scenarios_clock(connect):
    """A client can tell the server's time, also where a test makes it."""
    api = connect()
    before = parsedate_to_datetime(api.client.get("/models").headers["date"])
    api.server.advance(3600)

    after = parsedate_to_datetime(api.client.get("/models").headers["date"])

    assert (after - before).total_seconds() == 3600


def test_revision_may_change_under_way(old_api):
    """Tasks made under the older revision are read in the newer one after a change."""
    task_id = old_api.create({"positive": "a kite", "enhance": False})
    old_api.server.complete()
    old_api.server.set_scenario(revision="2026-08")

    data = old_api.client.get(f"/tasks/{task_id}").json()["data"]

    assert data["result"]["images"][0]["status"] == "success"
    assert data["request"]["prompt"] == {"positive": "a kite", "enhance": False}
