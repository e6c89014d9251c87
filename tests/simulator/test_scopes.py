"""What a key may do in 2026-10, and what it is told of itself."""

from __future__ import annotations

import pytest

URL = "https://a.example/b.png"
CREATING = [
    ("POST", "/image/generate"),
    ("POST", "/image/generate/estimate"),
    ("POST", "/image/rate"),
    ("POST", "/image/alt"),
    ("POST", "/image/review"),
    ("POST", "/image/upscale"),
    ("POST", "/image/remove-background"),
    ("POST", "/image/upload"),
]
MANAGING = [
    ("GET", "/balance"),
    ("POST", "/webhooks"),
    ("PUT", "/webhooks/whk_x"),
    ("DELETE", "/webhooks/whk_x"),
    ("POST", "/destinations"),
    ("GET", "/destinations"),
    ("GET", "/destinations/dst_x"),
    ("PUT", "/destinations/dst_x"),
    ("DELETE", "/destinations/dst_x"),
    ("POST", "/destinations/dst_x/test"),
]
READING = [("GET", "/me"), ("GET", "/tasks"), ("GET", "/models")]


def with_scopes(connect, *scopes, **changes):
    keys = [{"key": "mak_simulator", "scopes": scopes}]
    return connect(revision="2026-10", api_keys=keys, **changes)


@pytest.mark.parametrize(
    ("scopes", "refused", "let_in"),
    [
        (("manage",), CREATING, MANAGING + READING),
        (("generate",), MANAGING, CREATING + READING),
        (("keys",), CREATING + MANAGING, READING),
        (("generate", "manage"), [], CREATING + MANAGING + READING),
    ],
)
def test_a_key_does_what_its_scopes_allow(connect, scopes, refused, let_in):
    """Everything else is answered 403, whatever the body."""
    api = with_scopes(connect, *scopes)

    errors = {api.error(api.client.request(*route, json={})) for route in refused}
    assert errors <= {(403, "insufficient_scope")}
    assert 403 not in {api.client.request(*route, json={}).status_code for route in let_in}


def test_a_key_has_every_scope_unless_the_scenario_limits_it(new_api):
    """As a key that was made in the dashboard with all boxes ticked."""
    assert new_api.get("/me")["auth"]["api_key"]["scopes"] == ["generate", "manage", "keys"]


def test_earlier_revisions_know_no_scopes(connect):
    """A key without them does all that a key did."""
    api = connect(api_keys=[{"key": "mak_simulator", "scopes": []}])

    assert api.post().status_code == 201
    assert api.balance()["balance"] == "1000"


def test_scopes_may_change_under_way(connect):
    """For the same key."""
    api = with_scopes(connect, "generate")
    before = api.client.get("/balance").status_code
    api.server.set_scenario(api_keys=[{"key": "mak_simulator", "scopes": ["manage"]}])

    assert (before, api.client.get("/balance").status_code) == (403, 200)
    assert api.post().status_code == 403


def test_a_key_is_shown_its_spending(connect):
    """Its limit is told by ``/me`` with any scope, not by ``/balance``."""
    key = {
        "key": "mak_simulator",
        "scopes": ["generate"],
        "spending_limit_usd": "0.05",
        "spending_limit_period": "week",
    }
    api = connect(revision="2026-10", api_keys=[key])
    api.finish(count=2)
    api.create()

    assert api.get("/me")["auth"]["api_key"]["spending"] == {
        "mode": "limited",
        "limit": "0.05",
        "period": "week",
        "used": "0.03",
        "remaining": "0.02",
    }
    assert api.error(api.post(count=3)) == (402, "spending_limit_exceeded")


def test_a_key_without_a_limit_says_so(new_api):
    """And shows a preview of itself, not itself."""
    key = new_api.get("/me")["auth"]["api_key"]

    assert key["spending"] == {"mode": "unlimited"}
    assert key["key_preview"] == "mak_sim...tor"
    assert set(new_api.balance()) == {"balance", "reserved", "available", "currency"}


WISH = {"url": "https://hook.example/x", "events": ["all"]}


def test_a_webhook_lives_under_the_plural(new_api):
    """It is made with a secret, replaced whole, and deleted."""
    made = new_api.client.post("/webhooks", json={**WISH, "api_key_ids": ["key_simulator_0"]})
    path = f"/webhooks/{made.json()['data']['id']}"
    replaced = new_api.client.put(path, json={**WISH, "events": ["task.failed"]})
    deleted = new_api.client.delete(path)

    assert (made.status_code, replaced.status_code, deleted.status_code) == (201, 200, 204)
    assert made.json()["data"]["api_key_ids"] == ["key_simulator_0"]
    data = replaced.json()["data"]
    assert (data["events"], data["api_key_ids"], data["enabled"]) == (["task.failed"], None, True)
    assert "secret" not in data
    assert {
        new_api.client.put(path, json=WISH).status_code,
        new_api.client.delete(path).status_code,
    } == {404}
    assert new_api.client.post("/webhook", json=WISH).status_code == 404


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"url": "ftp://x"}, [["url"]]),
        ({"url": "data:,x"}, [["url"]]),
        ({"events": "all"}, [["events"]]),
        ({"events": []}, [["events"]]),
        ({"events": ["all", "task.failed"]}, [["events"]]),
        ({"events": ["task.image.paint.failed"]}, [["events", 0]]),
        ({"events": ["task.video.generate.failed", "task.image.upscale.completed"]}, []),
        ({"enabled": 1}, [["enabled"]]),
        ({"api_key_ids": "key_1"}, [["api_key_ids"]]),
        ({"api_key_ids": [7]}, [["api_key_ids", 0]]),
        ({"include_session_tasks": "no"}, [["include_session_tasks"]]),
        ({"name": "mine"}, [["name"]]),
    ],
)
def test_a_webhook_is_checked(new_api, changes, paths):
    """Field by field."""
    answer = new_api.client.post("/webhooks", json={**WISH, **changes})

    assert (answer.status_code == 201) if not paths else (new_api.issues(answer) == paths)


def test_management_may_need_a_sign_in(connect):
    """The other reading, as in 2026-08."""
    api = connect(revision="2026-10", quirks={"webhook_management": "oauth"})

    assert api.error(api.client.post("/webhooks", json=WISH)) == (401, "unauthorized")


def test_the_catalogue_follows_the_table_of_capabilities(connect):
    """Modes tell who takes inputs, 4k prices who makes 4k; video models are listed beside."""
    api = connect(None, revision="2026-10")
    entries = api.get("/models")
    images = [entry for entry in entries if entry["type"] == "image"]
    priced = [entry for entry in images if entry["pricing"] is not None]

    assert (len(images), len(entries) - len(images)) == (57, 4)
    assert sum("img->img" in entry["modes"] for entry in images) == 43
    assert sum("4k" in entry["pricing"]["per_image"] for entry in priced) == 7
    assert sum("per_input" in entry["pricing"] for entry in priced) == 43
    assert [entry["id"] for entry in images if entry["pricing"] is None] == [
        "alibaba/qwen-image-2.1-pro"
    ]
    assert "auto" not in {entry["id"] for entry in entries}


@pytest.mark.parametrize("revision", ["2026-08", "2026-10"])
def test_the_catalogue_may_list_auto(connect, revision):
    """At what it holds for an image."""
    api = connect(revision=revision, quirks={"catalogue_has_auto": True})
    auto = next(entry for entry in api.get("/models") if entry["id"] == "auto")

    assert auto["pricing"][api.word("perImage")]["base"] == "0.2"
