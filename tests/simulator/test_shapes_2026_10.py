"""What the simulator answers in 2026-10 beside what the vendor's pages and clients show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SHAPES = Path(__file__).parent / "shapes"
URL = "https://a.example/product.jpg"
PRO = "black-forest-labs/flux.2-pro"
FOUR_K = "google/gemini-3-pro-image-preview"
STORAGE = [{"name": "my-bucket", "url_template": "https://img.example/{path}"}]


def same(shown, sample, at="body"):
    """Each difference in keys and types at any depth; errors may have a message besides."""
    if isinstance(sample, dict) and isinstance(shown, dict):
        missing = sample.keys() - shown.keys()
        added = shown.keys() - sample.keys()
        if "code" in sample:
            added -= {"message"}
        found = [f"{at}: lacks {key}" for key in missing]
        found += [f"{at}: has {key} besides" for key in added]
        for key in sample.keys() & shown.keys():
            found += same(shown[key], sample[key], f"{at}.{key}")
        return found
    if isinstance(sample, list) and isinstance(shown, list):
        found = [] if len(shown) == len(sample) else [f"{at}: {len(shown)} for {len(sample)}"]
        for i, (one, other) in enumerate(zip(shown, sample, strict=False)):
            found += same(one, other, f"{at}[{i}]")
        return found
    if type(shown) is not type(sample):
        return [f"{at}: {shown!r} for {sample!r}"]
    return []


def check(name, shown):
    """Fails with every difference between an answer and a sample."""
    assert same(shown, sample_of(name)) == []


def sample_of(name):
    """What the vendor shows."""
    return json.loads((SHAPES / f"{name}.json").read_text("utf-8"))["body"]


def body(**fields):
    return {"model": PRO, "prompt": "a red kite", **fields}


FULL = {
    "negative_prompt": "rain",
    "count": 2,
    "output": {"format": "webp"},
    "metadata": {"job": 7},
}
HOOKS = {"registered": False, "custom": [{"url": "https://hooks.example/mynth?token=x"}]}
FAILURE = {"kind": "task", "code": "provider_error"}
HALF = {"kind": "images", "image_indexes": [1], "code": "restricted_content"}


def task_of(api, path, payload, *, ends=True):
    """The full task that a request makes, in its envelope."""
    answer = api.client.post(path, json=payload)
    assert answer.status_code == 201, answer.text
    if ends:
        api.server.complete()
    return api.client.get(f"/tasks/{answer.json()['data']['task_id']}").json()


GENERATED = [
    ("task_pending", {}, body(**FULL), False),
    ("task_completed", {}, body(count=1), True),
    ("task_auto", {}, {"prompt": "a red kite"}, True),
    ("task_custom_webhook_echo", {}, body(**{**FULL, "webhook": HOOKS}), True),
    ("task_magic_prompt", {}, body(**FULL, magic_prompt=True), True),
    ("task_rating_failed", {"unratable": "kite"}, body(**FULL, rating=True), True),
    (
        "task_destination_failed",
        {"failing_destinations": ["my-bucket"]},
        body(**FULL, destination="my-bucket"),
        True,
    ),
    ("task_failed", {}, body(**FULL, size="16:9_4k"), True),
    ("task_partial", {"failures": [HALF]}, body(**FULL, rating=True), True),
]


@pytest.mark.parametrize(("name", "scenario", "payload", "ends"), GENERATED)
def test_generated(connect, name, scenario, payload, ends):
    """Tasks of generate requests, in each state and with each extra."""
    api = connect(revision="2026-10", **scenario)
    shown = task_of(api, "/image/generate", payload, ends=ends)
    sample = sample_of(name)
    for echoed in ("rating", "size"):  # what the samples leave out of their requests
        shown["data"]["request"].pop(echoed, None)
    if shown["data"]["result"] is not None:  # some show one image of two
        del shown["data"]["result"]["images"][len(sample["data"]["result"]["images"]) :]
    assert same(shown, sample) == []


@pytest.mark.parametrize(
    ("name", "path", "payload", "failures"),
    [
        ("task_rate", "rate", {"url": URL, "mode": "nsfw_sfw"}, []),
        ("task_rate_failed", "rate", {"url": URL}, [FAILURE]),
        ("task_alt", "alt", {"url": URL}, []),
        ("task_review", "review", {"url": URL, "effort": "high"}, []),
        ("task_upscale", "upscale", {"url": URL, "size": "2x", "effort": "low"}, []),
        (
            "task_remove_background",
            "remove-background",
            {"url": URL, "output": {"format": "png"}},
            [],
        ),
    ],
)
def test_of_one_image(connect, name, path, payload, failures):
    """Tasks that look at one image or make one of it."""
    api = connect(revision="2026-10", failures=failures)
    check(name, task_of(api, f"/image/{path}", payload))


def test_an_upscale_that_is_too_large(connect):
    """It was accepted, and fails without a price."""
    api = connect(revision="2026-10", pixels={"square": "2000x2000"})
    source = api.finish(size="square")["result"]["images"][0]["url"]
    payload = {"url": source, "size": "4x", "effort": "high"}
    check("task_upscale_too_large", task_of(api, "/image/upscale", payload))


def test_other_reads(connect):
    """Creation, result, status, upload, list, estimates."""
    api = connect(revision="2026-10", failures=[HALF])
    made = api.post(count=2, generate_public_access_token=True)
    task_id = made.json()["data"]["task_id"]
    check("status_pending", api.client.get(f"/tasks/{task_id}/status").json())
    api.server.complete()
    auto = api.client.post("/image/generate/estimate", json={"prompt": "x", "count": 2})

    check("created", made.json())
    check("result_route", api.client.get(f"/tasks/{task_id}/result").json())
    check("estimate_exact", api.client.post("/image/generate/estimate", json=api.body()).json())
    check("estimate_upper_bound", auto.json())
    assert auto.json()["data"] == {
        "estimated_cost": "0.4",
        "currency": "usd",
        "estimate_kind": "upper_bound",
    }
    check("balance", api.client.get("/balance").json())


def test_ends_and_files(connect):
    """Status of a task that ended, and the URLs of uploads."""
    api = connect(revision="2026-10", failures=[{**FAILURE, "prompt_contains": "broken"}])
    done = [api.finish(prompt)["id"] for prompt in ("a kite", "a broken kite")]
    files = [("images", (f"{i}.png", b"\x89PNG\r\n\x1a\n".ljust(2048))) for i in range(2)]

    check("status_completed", api.client.get(f"/tasks/{done[0]}/status").json())
    check("status_failed", api.client.get(f"/tasks/{done[1]}/status").json())
    check("upload", api.client.post("/image/upload", files=files).json())


def test_list(connect):
    """Tasks of any type, newest first; the cost is null before and without success."""
    rules = [{**FAILURE, "type": "image.rate"}]
    api = connect(revision="2026-10", failures=rules)
    api.client.post("/image/rate", json={"url": URL})
    for _ in range(2):
        api.client.post("/image/upscale", json={"url": URL, "size": "2x", "effort": "low"})
    api.server.complete()
    api.create()
    check("list", api.client.get("/tasks").json())


def test_account(connect):
    """The key in use, with its scopes and its limit."""
    key = {
        "key": "mak_simulator",
        "name": None,
        "scopes": ["generate", "manage"],
        "spending_limit_usd": "25.00",
    }
    api = connect(revision="2026-10", api_keys=[key])
    check("me", api.client.get("/me").json())


def test_catalogue(connect):
    """Image and video entries; some take no inputs, some have no price."""
    api = connect(None, revision="2026-10")
    catalogue = {entry["id"]: entry for entry in api.get("/models")}
    sample = sample_of("catalogue")["data"]
    videos = sample_of("catalogue_with_video")["data"]

    differences = same(catalogue[PRO], sample[0]) + same(
        catalogue["bytedance/seedance-2.0-mini"], videos[0]
    )
    gemini = catalogue[FOUR_K]
    assert gemini["pricing"].pop("per_input")
    assert differences + same(gemini, sample[1]) == []
    assert same({**catalogue["alibaba/qwen-image-2.1-pro"], "display_name": None}, sample[2]) == []
    assert {"per_second", "audio"} == set(catalogue["google/gemini-omni-flash-1.1"]["pricing"])


def test_webhooks_and_destinations(connect):
    """What management answers."""
    api = connect(revision="2026-10", destinations=STORAGE)
    wish = {"url": "https://hooks.example/mynth", "events": ["all"]}
    made = api.client.post("/webhooks", json=wish)
    wish = {
        "url": "https://hooks.example/mynth",
        "enabled": False,
        "events": ["task.completed", "task.failed"],
        "api_key_ids": [],
        "include_session_tasks": True,
    }
    changed = api.client.put(f"/webhooks/{made.json()['data']['id']}", json=wish)
    listed = api.client.get("/destinations").json()["data"]

    check("webhook_created", made.json())
    check("webhook_updated", changed.json())
    check("destination", {"data": listed[0]})


ERRORS = [
    ("error_unauthorized", 401, lambda api: api.client.get("/me", headers={"authorization": ""})),
    ("error_not_found", 404, lambda api: api.client.get("/tasks/tsk_x")),
    (
        "error_invalid_json",
        400,
        lambda api: api.client.post(
            "/image/alt", content=b"{", headers={"content-type": "application/json"}
        ),
    ),
    (
        "error_unsupported_media_type",
        415,
        lambda api: api.client.post("/image/alt", content=b"{}"),
    ),
    ("error_validation", 400, lambda api: api.post(size="1024x1024")),
    ("error_validation_own_field", 400, lambda api: api.post(webhook={"dashboard": False})),
    ("error_validation_whole_body", 400, lambda api: api.client.post("/image/alt", json=[])),
]
ERRORS_BY_SCENARIO = [
    ("error_insufficient_balance", 402, {"balance_usd": "0"}),
    (
        "error_spending_limit",
        402,
        {"api_keys": [{"key": "mak_simulator", "spending_limit_usd": "0"}]},
    ),
    (
        "error_insufficient_scope",
        403,
        {"api_keys": [{"key": "mak_simulator", "scopes": ["manage"]}]},
    ),
    ("error_rate_limited", 429, {"faults": [{"kind": "rate_limited"}]}),
    ("error_internal", 500, {"faults": [{"kind": "server_error"}]}),
    (
        "error_models_unavailable",
        503,
        {"faults": [{"kind": "status", "code": "MODELS_UNAVAILABLE"}]},
    ),
    ("error_server_fault_with_task", 500, {"faults": [{"kind": "token_failed"}]}),
]


@pytest.mark.parametrize(("name", "status", "ask"), ERRORS)
def test_refusals(new_api, name, status, ask):
    """Each code under its status, in one shape."""
    answer = ask(new_api)
    sample = sample_of(name)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == sample["error"]["code"]
    paths = [issue["path"] for issue in sample["error"].get("issues", ())]
    assert [issue["path"] for issue in answer.json()["error"].get("issues", ())] == paths
    check(name, answer.json())


def test_an_expired_token(new_api):
    """A token has a refusal of its own once its time is over."""
    made = new_api.post(generate_public_access_token=True).json()["data"]
    new_api.server.advance(3600)
    headers = {"authorization": f"Bearer {made['public_access_token']}"}
    answer = new_api.client.get(f"/tasks/{made['task_id']}/status", headers=headers)

    assert new_api.error(answer) == (401, "token_expired")
    check("error_token_expired", answer.json())


@pytest.mark.parametrize(("name", "status", "scenario"), ERRORS_BY_SCENARIO)
def test_refusals_of_a_scenario(connect, name, status, scenario):
    """Money, scopes and faults."""
    api = connect(revision="2026-10", **scenario)
    answer = api.post(generate_public_access_token=True)
    sample = sample_of(name)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == sample["error"]["code"]
    check(name, answer.json())


def test_every_sample_is_compared():
    """A sample that nothing is compared with would show nothing."""
    used = Path(__file__).read_text("utf-8")
    events = Path(__file__).with_name("test_standard_webhooks.py").read_text("utf-8")
    names = {path.stem for path in SHAPES.glob("*.json")}
    assert [name for name in sorted(names) if f'"{name}"' not in used + events] == []
