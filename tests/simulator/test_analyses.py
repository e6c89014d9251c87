from __future__ import annotations

import pytest

URL = "https://a.example/b.png"
LEVELS = [{"value": v, "description": "as it says"} for v in ("calm", "loud", "wild")]
PATHS = ["/image/rate", "/image/alt", "/image/review"]


@pytest.mark.parametrize(
    ("word", "cost", "keys"),
    [
        ("rate", "0.0002", {"url", "level"}),
        ("alt", "0.0004", {"url", "alt"}),
        ("review", "0.02", {"url", "score", "summary", "findings", "strengths"}),
    ],
)
def test_analysis_is_a_task(api, word, cost, keys):
    """Rating, description and review are tasks of their own kind, without a token."""
    answer = api.client.post(f"/image/{word}", json={"url": URL})
    data = answer.json()["data"]
    api.server.complete()
    task = api.detail(data["taskId"])

    assert (201, {"taskId", "estimatedCost"}) == (answer.status_code, set(data))
    assert (cost, f"image.{word}", keys) == (
        data["estimatedCost"],
        task["type"],
        set(task["result"]),
    )
    assert task["request"] == {"url": URL}
    assert task["result"] == api.get(f"/tasks/{task['id']}/result")["result"]
    assert cost == task["cost"].rstrip("0")


def test_analysis_result_quirk(connect):
    """One reading keeps the result route for generated images alone."""
    api = connect(quirks={"result_of_all_types": False})
    task_id = api.client.post("/image/alt", json={"url": URL}).json()["data"]["taskId"]

    assert api.client.get(f"/tasks/{task_id}/result").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/image/rate", {"urls": [URL]}),
        ("/image/rate", {"url": "b.png"}),
        ("/image/rate", {"url": URL, "mode": "custom"}),
        ("/image/rate", {"url": URL, "mode": "custom", "levels": LEVELS[:1]}),
        ("/image/rate", {"url": URL, "mode": "other"}),
        ("/image/alt", {}),
        ("/image/alt", {"url": "https://a.example/".ljust(2049, "x")}),
        ("/image/review", {"url": URL, "effort": "medium"}),
    ],
)
def test_analysis_refuses(api, path, body):
    """Bodies beyond the documentation are refused."""
    assert api.error(api.client.post(path, json=body)) == (400, "validation_error")


def test_custom_levels(api):
    """A rating on the caller's own scale uses its values."""
    body = {"url": URL, "mode": "custom", "levels": LEVELS}
    task_id = api.client.post("/image/rate", json=body).json()["data"]["taskId"]
    api.server.complete()

    assert api.detail(task_id)["result"]["level"] in {"calm", "loud", "wild"}


def test_rating_of_2026_04_is_synchronous(old_api):
    """The older revision rates up to ten URLs in the answer itself."""
    urls = [f"{URL}?{i}" for i in range(10)]
    answer = old_api.client.post("/image/rate", json={"urls": urls})
    payload = answer.json()

    assert answer.status_code == 200
    assert urls == [entry["url"] for entry in payload["results"]]
    assert {"sfw", "nsfw"} >= {entry["rating"] for entry in payload["results"]}
    task = old_api.detail(payload["taskId"])
    assert (
        task["status"],
        task["cost"],
        task["type"],
    ) == ("completed", "0.00200000", "image.rate")
    assert payload["results"] == old_api.get(f"/tasks/{task['id']}/results")["results"]


@pytest.mark.parametrize("body", [{"urls": []}, {"urls": [URL] * 11}, {"url": URL}, {"urls": "x"}])
def test_rating_of_2026_04_refuses(old_api, body):
    """One to ten URLs can be rated at once."""
    assert old_api.client.post("/image/rate", json=body).status_code == 400


def test_analysis_needs_money(connect):
    """Without balance nothing is inspected."""
    api = connect(balance_usd="0")

    assert {422} == {api.client.post(path, json={"url": URL}).status_code for path in PATHS}


def test_review_may_be_absent(connect):
    """Whether reviews exist can be chosen, since the sources disagree."""
    api = connect(quirks={"offers_review": False})

    assert api.client.post("/image/review", json={"url": URL}).status_code == 404


def test_strict_fields_for_analyses(connect):
    """With ``strict_fields`` an unknown field of an analysis is refused."""
    api = connect(strict_fields=True)

    assert {400} == {api.client.post(path, json={"url": URL, "x": 1}).status_code for path in PATHS}


@pytest.mark.parametrize("word", ["rate", "alt", "review"])
def test_an_analysis_may_fail_after_it_was_accepted(connect, word):
    """It has a code, no result and no cost, and gives back what it held."""
    api = connect(failures=[{"kind": "task", "code": "PROVIDER_ERROR", "type": f"image.{word}"}])
    answer = api.client.post(f"/image/{word}", json={"url": URL})
    api.server.complete()
    task = api.detail(answer.json()["data"]["taskId"])

    assert answer.status_code == 201
    assert (task["status"], task["result"], task["cost"]) == ("failed", None, None)
    assert [error["code"] for error in task["errors"]] == ["PROVIDER_ERROR"]
    assert (api.balance()["balance"], api.balance()["reserved"]) == ("1000", "0")
    assert api.finish()["status"] == "completed"


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"url_contains": "b.png"}, "failed"),
        ({"url_contains": "c.png"}, "completed"),
        ({"prompt_contains": ""}, "completed"),
        ({"model": "recraft/recraft-v4"}, "completed"),
        ({"type": "image.generate"}, "completed"),
        ({"kind": "images", "n_images": 9}, "completed"),
        ({"kind": "moderation"}, "failed"),
        ({"first": 1}, "failed"),
        ({"share": 0.0}, "completed"),
    ],
)
def test_rules_for_analyses(connect, rule, status):
    """What is narrowed to prompts, models or images leaves analyses alone."""
    api = connect(failures=[rule])
    task_id = api.client.post("/image/alt", json={"url": URL}).json()["data"]["taskId"]
    api.server.complete()

    assert api.detail(task_id)["status"] == status


def test_a_url_rule_leaves_prompts_alone(connect):
    """A request without a URL to look at has none that contains anything."""
    api = connect(failures=[{"url_contains": ""}])

    assert api.finish()["status"] == "completed"


def test_an_analysis_may_be_refused_or_stuck(connect):
    """As a generate request may be."""
    api = connect(failures=[{"kind": "refused"}])
    refused = api.client.post("/image/rate", json={"url": URL})
    api.server.set_scenario(failures=[{"kind": "stuck"}])
    task_id = api.client.post("/image/rate", json={"url": URL}).json()["data"]["taskId"]
    api.server.complete()

    assert api.error(refused) == (400, "restricted_content")
    assert api.detail(task_id)["status"] == "pending"


def test_a_rating_of_2026_04_may_fail(connect):
    """Each URL then has a code in place of a rating, and nothing is charged."""
    api = connect(revision="2026-04", failures=[{"kind": "task", "code": "PROVIDER_ERROR"}])
    payload = api.client.post("/image/rate", json={"urls": [URL]}).json()

    assert payload["results"] == [{"url": URL, "error_code": "provider_error"}]
    assert api.detail(payload["taskId"])["cost"] is None


def test_a_share_of_analyses_fails(connect):
    """Chance strikes them as it strikes requests with a prompt."""
    api = connect(failures=[{"share": 0.5}], progress="immediate")
    urls = [f"https://a.example/{i}.png" for i in range(40)]
    made = [api.client.post("/image/alt", json={"url": url}).json()["data"] for url in urls]
    ends = [api.detail(task["taskId"])["status"] for task in made]

    assert 8 <= ends.count("failed") <= 32
