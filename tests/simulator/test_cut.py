"""The day of the cut: tasks of an earlier revision, read in the spelling of 2026-10."""

from __future__ import annotations

import pytest

from mynth_dagster.simulator import STANDARD_SECRET, ScenarioError
from tests.simulator.catcher import complete_until
from tests.simulator.conftest import Api
from tests.simulator.test_shapes_2026_10 import same, sample_of
from tests.simulator.test_standard_webhooks import OWN_SECRET, is_signed

PRO = "black-forest-labs/flux.2-pro"
URL = "https://a.example/b.png"
OLD_SECRET = "wbs_of_the_days_before"


def cut(api: Api, **changes) -> Api:
    """The same simulator, from now on in 2026-10."""
    api.server.set_scenario(revision="2026-10", **changes)
    api.revision = "2026-10"
    return api


RICH_2026_08 = {
    "negative_prompt": "rain",
    "magic_prompt": True,
    "model": PRO,
    "size": {"type": "aspect_ratio", "aspectRatio": "4:5", "scale": "base"},
    "count": 2,
    "output": {"format": "jpg", "quality": 70},
    "inputs": [{"type": "image", "as": "garment", "source": {"type": "url", "url": URL}}],
    "rating": True,
    "access": {"pat": {"enabled": False}},
    "metadata": {"sku": ["A-1", {"n": None}]},
    "destination": "vault",
    "webhook": {
        "dashboard": False,
        "custom": [{"url": "https://hooks.example/x?token=y"}, {"url": "http://[?token=y"}],
    },
}


def test_a_task_of_2026_08_is_read_in_2026_10(connect):
    """Ids, times, cost and request stay; images have a format, no cost, and the new words."""
    api = connect(private_destinations=["vault"])
    before = api.finish(**RICH_2026_08)
    after = cut(api).detail(before["id"])

    assert set(after) == set(sample_of("task_completed")["data"])
    assert after["request"] == {
        "prompt": "a red kite",
        **RICH_2026_08,
        "webhook": {
            "dashboard": False,
            "custom": [{"url": "https://hooks.example"}, {"url": "http://["}],
        },
    }
    assert {after[key] for key in ("id", "status", "cost")} == {
        before[key] for key in ("id", "status", "cost")
    }
    assert (after["created_at"], after["updated_at"]) == (before["createdAt"], before["updatedAt"])
    for old, new in zip(before["result"]["images"], after["result"]["images"], strict=True):
        assert new == {
            **{key: old[key] for key in old if key != "cost"},
            "format": "jpg",
        }
    assert after["result"]["magic_prompt"] == before["result"]["magic_prompt"]


def test_a_task_of_2026_04_is_read_in_2026_10(connect):
    """What 2026-10 lacks is left to the request as it was sent."""
    api = connect(revision="2026-04")
    prompt = {"positive": "a kite", "negative": "rain", "enhance": "prefer_native"}
    before = api.finish(
        prompt,
        count=3,
        size={"type": "auto", "prefer": "native"},
        output={"format": "png", "quality": 10},
        content_rating={"enabled": True},
        webhook={"enabled": False},
    )
    after = cut(api).detail(before["id"])

    assert after["request"] == before["request"]
    assert set(after["result"]) == {"model", "images"}
    assert [image["status"] for image in after["result"]["images"]] == ["success"] * 3
    assert {image["format"] for image in after["result"]["images"]} == {"png"}
    assert [image["rating"]["level"] for image in after["result"]["images"]] == [
        image["content_rating"]["level"] for image in before["result"]["images"]
    ]
    assert after["cost"] == before["cost"]
    content = api.client.get(after["result"]["images"][0]["url"])
    assert content.headers["content-type"] == "image/png"


def test_an_enhanced_prompt_of_2026_04_is_a_magic_one(connect):
    """If it was Mynth that enhanced it."""
    api = connect(revision="2026-04")
    before = api.finish({"positive": "a kite", "negative": "rain", "enhance": "prefer_magic"})
    after = cut(api).detail(before["id"])

    positive = before["result"]["prompt_enhance"]["positive"]
    assert after["result"]["magic_prompt"] == {"positive": positive, "negative": "rain"}


@pytest.mark.parametrize(
    ("revision", "body"),
    [("2026-08", {"url": URL}), ("2026-04", {"urls": [URL, f"{URL}?2"]})],
)
def test_a_rating_of_before_is_read_as_one_level(connect, revision, body):
    """Of the first URL, where there were several."""
    api = connect(revision=revision)
    made = api.open(api.client.post("/image/rate", json=body))
    api.server.complete()
    task = cut(api).detail(made["taskId"])

    assert set(task["result"]) == {"level"}
    assert task["request"] == body


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
@pytest.mark.parametrize(
    ("rule", "choice"),
    [
        ({"kind": "task"}, "failed_without_result"),
        ({"kind": "moderation"}, "failed_without_result"),
        ({"kind": "images", "n_images": 9}, "failed_with_images"),
    ],
)
def test_a_failure_of_before_has_a_reason_and_no_result(connect, revision, rule, choice):
    """Codes in lower case, also where images were kept in place of a reason."""
    api = connect(revision=revision, failures=[rule], quirks={"all_failed": choice})
    task_id = api.finish(count=2)["id"]
    after = cut(api, quirks={}).detail(task_id)

    code = "restricted_content" if rule["kind"] == "moderation" else "generation_failed"
    sample = sample_of("task_failed")["data"]
    assert same(after, {**sample, "request": after["request"]}) == []
    assert [error["code"] for error in after["errors"]] == [code]


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_the_list_goes_on(connect, revision):
    """Tasks of before and after stand in one list, and pages go across the cut."""
    api = connect(revision=revision)
    made = [api.create(f"kite {i}") for i in range(3)]
    cut(api)
    made += [api.create(f"kite {i}") for i in range(3, 5)]
    first = api.get("/tasks", params={"limit": 3})
    rest = api.get("/tasks", params={"after": first[-1]["id"]})

    assert [entry["id"] for entry in first + rest] == made[::-1]
    assert {tuple(entry) for entry in first + rest} == {tuple(sample_of("list")["data"][0])}


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_what_was_pending_ends_in_2026_10(connect, revision, catcher):
    """Its event is one of 2026-10, signed with the secret that the endpoint has since."""
    hook = {"url": f"{catcher.url}/hook"}
    api = connect(revision=revision, webhooks=[hook])
    task_id = api.create()
    cut(api)
    pending = api.get(f"/tasks/{task_id}/result")
    api.server.complete()
    caught = catcher.next()

    assert (pending["status"], pending["result"]) == ("pending", None)
    assert is_signed(caught, STANDARD_SECRET)
    assert caught.payload["data"] == api.detail(task_id)
    assert api.client.get(f"/tasks/{task_id}/results").status_code == 404


def test_an_event_on_its_way_stays_as_it_was(connect, catcher):
    """What was announced before the cut is repeated in the same words."""
    api = connect(webhooks=[{"url": f"{catcher.url}/hook"}])
    catcher.answer_next(500)
    api.finish()
    first = catcher.next()
    complete_until(api, lambda log: log["webhooks"]["failed"] == 1)
    cut(api)
    api.server.advance(5)
    second = catcher.next()

    assert first.body == second.body
    assert "x-mynth-signature" in second.headers
    assert "webhook-id" not in second.headers


def test_an_endpoint_needs_a_new_secret(connect, catcher):
    """One with a secret of its own must be given another; it stays one endpoint."""
    hook = {"url": f"{catcher.url}/hook", "secret": OLD_SECRET}
    api = connect(webhooks=[hook])
    with pytest.raises(ScenarioError, match=r"webhooks\[0\].secret must be whsec_"):
        api.server.set_scenario(revision="2026-10")
    cut(api, webhooks=[{**hook, "secret": OWN_SECRET}])
    api.finish()

    assert is_signed(catcher.next(), OWN_SECRET)
    assert len(api.server.log()["deliveries"]) == 1


def test_an_endpoint_made_before_gets_a_new_secret(connect, catcher):
    """The old one cannot sign any more."""
    api = connect(revision="2026-04")
    wish = {"enabled": True, "url": f"{catcher.url}/made", "events": "all"}
    secret = api.client.post("/webhook", json=wish).json()["secret"]
    cut(api).finish()
    caught = catcher.next()

    assert secret.startswith("wbs_")
    assert caught.headers["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_a_model_that_is_gone_keeps_its_tasks(connect, revision):
    """New requests for it are refused; money that was held is released."""
    api = connect(revision=revision, balance_usd="1")
    gone = {"2026-04": PRO, "2026-08": "prunaai/p-image-try-on"}[revision]
    task_id = api.create(model=gone)
    cut(api)
    api.server.complete()

    assert api.detail(task_id)["result"]["model"] == gone
    assert api.balance()["reserved"] == "0"
    if revision == "2026-08":
        assert api.issues(api.post(model=gone)) == [["model"]]


def test_the_cut_can_be_made_over_http(api):
    """By the control route, as in Python."""
    task_id = api.create()
    answer = api.client.post("/_simulator/scenario", json={"revision": "2026-10"})
    api.revision = "2026-10"

    assert answer.json()["revision"] == "2026-10"
    assert api.detail(task_id)["api_key_id"] == "key_simulator_0"


def test_a_token_of_before_still_opens_its_task(api):
    """For as long as it was given."""
    made = api.open(api.post())
    headers = {"authorization": f"Bearer {made['access']['publicAccessToken']}"}
    cut(api)
    path = f"/tasks/{made['taskId']}/status"
    api.server.advance(7199)
    before = api.client.get(path, headers=headers)
    api.server.advance(1)

    assert before.json() == {"data": {"status": "pending"}}
    assert api.error(api.client.get(path, headers=headers)) == (401, "token_expired")
