from __future__ import annotations

import pytest

WISH = {"enabled": True, "url": "https://hook.example/x", "events": "all"}


def test_me(api):
    """``/me`` tells the account and a preview of the key, not the key."""
    me = api.get("/me")

    assert (me["userId"], me["auth"]["method"]) == ("user_simulator", "api-key")
    assert {"id", "name", "keyPreview"} == set(me["auth"]["apiKey"])
    assert "mak_simulator" not in str(me)


def test_balance_without_limit(api):
    """Without a limit ``/balance`` has no block for the key."""
    balance = {"balance": "1000", "reserved": "0", "available": "1000", "currency": "usd"}

    assert balance == api.balance()


def test_models_are_public(connect):
    """The catalog needs no key and lists every model but ``auto``, with its prices."""
    api = connect(None, prices_usd={"recraft/recraft-v4": "0.5"})
    catalog = {entry["id"]: entry for entry in api.get("/models")}

    assert len(catalog) == 44
    assert "auto" not in catalog
    flux = catalog["black-forest-labs/flux.2-dev"]
    assert flux["pricing"] == {"perImage": {"base": "0.01"}, "perInput": "0.002"}
    assert flux["displayName"] == "FLUX.2 Dev"
    assert catalog["recraft/recraft-v4"]["pricing"] == {"perImage": {"base": "0.5"}}
    assert sum("4k" in entry["pricing"]["perImage"] for entry in catalog.values()) == 6


NEWER_ROUTES = [
    ("GET", "/models"),
    ("GET", "/me"),
    ("GET", "/balance"),
    ("GET", "/tasks"),
    ("POST", "/image/generate/estimate"),
    ("POST", "/image/alt"),
    ("POST", "/image/review"),
]


@pytest.mark.parametrize(("method", "path"), NEWER_ROUTES)
def test_older_revision_lacks_routes(old_api, method, path):
    """What only the newer revision has is unknown to the older one."""
    answer = old_api.client.request(method, path, json={"prompt": "x", "url": "https://a.example"})

    assert old_api.error(answer) == (404, "not_found")


@pytest.mark.parametrize(
    "path", ["/", "/image", "/tasks/", "/tasks/a/b", "/cdn/", "/destinations/a/b/c/d"]
)
def test_unknown_paths(any_api, path):
    """A path outside the documentation answers 404 in the revision's own words."""
    assert any_api.error(any_api.client.get(path)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/image/generate"), ("PUT", "/image/upload"), ("DELETE", "/tasks/tsk_x")],
)
def test_wrong_methods(any_api, method, path):
    """A known path under another method answers 405."""
    assert any_api.error(any_api.client.request(method, path)) == (405, "method_not_allowed")


def test_error_bodies(connect):
    """Errors are nested and lower-case in the older revision, flat and upper-case in the newer."""
    old = connect("mak_wrong", revision="2026-04").client.get("/tasks/tsk_x").json()
    new = connect("mak_wrong").client.get("/tasks/tsk_x").json()
    other = connect("mak_wrong", quirks={"error_body": "flat_error"}).client.get("/me").json()
    nested = connect("mak_wrong", quirks={"error_body": "nested"}).client.get("/me").json()

    assert old["error"]["code"] == "unauthorized"
    assert {"code", "message"} == set(old["error"]) == set(new)
    assert new["code"] == "UNAUTHORIZED"
    assert isinstance(other["error"], str)
    assert nested["error"]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("choice", "keys"),
    [("flat", {"code": str, "message": str}), ("flat_error", {"code": str, "error": str})],
)
def test_flat_error_bodies_of_2026_04(connect, choice, keys):
    """The quirk has an effect in the older revision, too."""
    api = connect("mak_wrong", revision="2026-04", quirks={"error_body": choice})
    payload = api.client.get("/tasks/tsk_x").json()

    assert {key: type(value) for key, value in payload.items()} == keys


OWNER_ROUTES = [
    ("POST", "/image/generate"),
    ("POST", "/image/generate/estimate"),
    ("POST", "/image/upload"),
    ("POST", "/image/rate"),
    ("GET", "/tasks"),
    ("GET", "/tasks/tsk_x"),
    ("GET", "/tasks/tsk_x/status"),
    ("GET", "/me"),
    ("GET", "/balance"),
    ("POST", "/webhook"),
]


@pytest.mark.parametrize(("method", "path"), OWNER_ROUTES)
@pytest.mark.parametrize(
    "header", [None, "Bearer mak_wrong", "Basic mak_simulator", "mak_simulator"]
)
def test_wrong_keys(connect, method, path, header):
    """Without a known key as bearer every owner route answers 401."""
    api = connect(None)
    headers = {} if header is None else {"authorization": header}

    answer = api.client.request(method, path, json={"prompt": "x"}, headers=headers)

    assert api.error(answer) == (401, "unauthorized")


def test_revoked_key(connect):
    """A key that is revoked under way answers 401; a new key of the account sees its tasks."""
    api = connect("mak_a", api_keys=["mak_a"])
    task_id = api.create()
    api.server.set_scenario(api_keys=[{"key": "mak_a", "revoked": True}, {"key": "mak_b"}])
    rotated = connect("mak_b", reset=False)

    assert api.client.get(f"/tasks/{task_id}").status_code == 401
    assert task_id == rotated.detail(task_id)["id"]


def test_webhook_life(old_api):
    """A webhook is created with a secret, replaced without one, and deleted."""
    made = old_api.client.post("/webhook/", json=WISH)
    path = f"/webhook/{made.json()['id']}"
    wish = {**WISH, "enabled": False, "events": ["task.failed", "task.image.generate.completed"]}
    replaced = old_api.client.put(path, json=wish)
    deleted = old_api.client.delete(path)

    assert (made.status_code, replaced.status_code, deleted.status_code) == (201, 200, 204)
    assert made.json()["secret"].startswith("wbs_")
    assert wish.items() <= replaced.json().items()
    assert "secret" not in replaced.json()
    assert [
        old_api.client.put(path, json=wish).status_code,
        old_api.client.delete(path).status_code,
    ] == [404, 404]


@pytest.mark.parametrize(
    "changes",
    [{"url": "ftp://x"}, {"enabled": 1}, {"events": "some"}, {"events": []}, {"events": ["x"]}],
)
def test_webhook_refuses(connect, changes):
    """A webhook needs a flag, a URL and known events."""
    api = connect(quirks={"webhook_management": "api_key"})

    assert api.client.post("/webhook", json=WISH).status_code == 201
    assert api.client.post("/webhook", json={**WISH, **changes}).status_code == 400


def test_webhook_management_needs_oauth(api):
    """In the newer revision an API key cannot manage webhooks, unless chosen so."""
    refused = api.client.post("/webhook", json=WISH).status_code
    api.server.set_scenario(
        quirks={"webhook_management": "api_key", "webhook_secret_prefix": "whsec_"}
    )
    made = api.client.post("/webhook", json=WISH)

    assert (refused, made.status_code) == (401, 201)
    assert made.json()["data"]["secret"].startswith("whsec_")


def test_webhooks_of_other_accounts(connect):
    """A webhook belongs to its account."""
    keys = [{"key": "mak_a", "user_id": "user_a"}, {"key": "mak_b", "user_id": "user_b"}]
    api = connect("mak_a", revision="2026-04", api_keys=keys)
    webhook_id = api.client.post("/webhook", json=WISH).json()["id"]
    other = connect("mak_b", reset=False)

    assert other.client.delete(f"/webhook/{webhook_id}").status_code == 404
    assert webhook_id == api.server.app.state.webhooks.list_of("user_a")[0].webhook_id


def test_completion_can_be_followed(api):
    """Whoever hooks on to completion hears of each task once, when it has ended."""
    heard = []
    api.server.app.state.on_finished.append(heard.append)
    made = [api.create(f"kite {i}") for i in range(3)]
    api.server.complete()
    api.server.complete(made)

    assert made == sorted(task.task_id for task in heard)
    assert {"completed"} == {task.status for task in heard}
