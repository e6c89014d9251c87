"""Money, failures, faults, tokens and the life of files in revision 2026-10."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mynth_dagster.simulator import Quirks, Scenario, ScenarioError

FOUR_K = "google/gemini-3.1-flash-image"
NO_INPUTS = "recraft/recraft-v4"
LUMA = "luma/uni-1"
URL = "https://a.example/b.png"
HALF = {"kind": "images", "n_images": 2}
DAY_S = 86_400


def test_successes_are_charged_and_the_rest_is_given_back(connect):
    """The amount held is the estimate; the final cost has eight decimals."""
    api = connect(revision="2026-10", balance_usd="1", failures=[HALF])
    made = api.open(api.post(count=5))
    held = api.balance()
    api.server.complete()
    task = api.detail(made["task_id"])

    assert (made["estimated_cost"], held["reserved"], held["available"]) == ("0.05", "0.05", "0.95")
    assert (task["cost"], api.balance()["balance"]) == ("0.03000000", "0.97")
    assert not any("cost" in image for image in task["result"]["images"])


@pytest.mark.parametrize("kind", ["images", "moderation"])
def test_a_task_without_a_good_image_completes_at_no_cost(connect, kind):
    """Or fails with a reason, where a scenario says so."""
    rule = {"kind": kind, "n_images": 9}
    api = connect(revision="2026-10", failures=[rule])
    completed = api.finish(count=2)
    api.server.set_scenario(quirks={"all_failed": "failed_without_result"})
    failed = api.finish(count=2)

    code = {"images": "provider_error", "moderation": "restricted_content"}[kind]
    assert (completed["status"], completed["cost"], completed["errors"]) == (
        "completed",
        "0.00000000",
        None,
    )
    assert [i["error"]["code"] for i in completed["result"]["images"]] == [code] * 2
    assert (failed["status"], failed["cost"], failed["result"]) == ("failed", None, None)
    assert [error["code"] for error in failed["errors"]] == [code]
    assert api.balance()["balance"] == "1000"


def test_auto_ignores_inputs_and_size_and_holds_a_ceiling(connect):
    """It comes to the price of the concrete model that was chosen."""
    api = connect(revision="2026-10")
    answer = api.post(model="auto", count=2, inputs=[URL] * 3, size="16:9_4k")
    api.server.complete()
    task = api.detail(answer.json()["data"]["task_id"])
    catalogue = {entry["id"]: entry for entry in api.get("/models")}
    base = Decimal(catalogue[task["result"]["model"]]["pricing"]["per_image"]["base"])

    assert answer.json()["data"]["estimated_cost"] == "0.4"
    assert Decimal(task["cost"]) == 2 * base
    assert task["request"]["inputs"] == [URL] * 3
    assert max(map(int, task["result"]["images"][0]["size"].split("x"))) < 2000


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model": FOUR_K, "size": "1:1_4k"}, "completed"),
        ({"model": NO_INPUTS, "size": "1:1_4k"}, "failed"),
        ({"model": NO_INPUTS, "inputs": [URL]}, "failed"),
        ({"model": LUMA, "inputs": [URL] * 6}, "completed"),
        ({"model": LUMA, "inputs": [URL] * 7}, "failed"),
        ({"model": "black-forest-labs/flux-3", "size": "1:1_4k", "inputs": [URL]}, "completed"),
        ({"model": "ideogram/ideogram-4.5", "size": "1:1_4k"}, "failed"),
    ],
)
def test_what_a_model_cannot_do_fails_its_task(new_api, fields, status):
    """4k, inputs, or more inputs than the catalogue says; nothing is charged."""
    task = new_api.finish(**fields)

    assert task["status"] == status
    if status == "failed":
        assert [error["code"] for error in task["errors"]] == ["capability_not_supported"]
        assert new_api.balance()["balance"] == "1000"


def test_inputs_may_be_refused_at_the_door(connect):
    """The other reading."""
    api = connect(revision="2026-10", quirks={"unsupported_inputs": "refuse"})

    assert api.issues(api.post(model=NO_INPUTS, inputs=[URL])) == [["inputs"]]


def test_inputs_are_priced(new_api):
    """The estimate depends on their number."""
    model = {"model": "black-forest-labs/flux.2-pro"}
    estimates = [
        new_api.open(new_api.client.post("/image/generate/estimate", json=new_api.body(**body)))
        for body in (model, {**model, "inputs": [URL, URL]})
    ]

    assert [estimate["estimated_cost"] for estimate in estimates] == ["0.05", "0.07"]
    assert {estimate["estimate_kind"] for estimate in estimates} == {"exact"}


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("black-forest-labs/flux.2-dev", "jpg"),
        ("recraft/recraft-v4", "webp"),
        ("openai/gpt-image-2", "png"),
    ],
)
def test_a_model_keeps_its_own_format_unless_asked(connect, model, word):
    """Formats of models are invented and can be replaced."""
    api = connect(revision="2026-10")
    own = api.finish(model=model)["result"]["images"][0]
    asked = api.finish(model=model, output={"format": "webp"})["result"]["images"][0]
    api.server.set_scenario(provider_formats={model: "png"})
    replaced = api.finish(model=model)["result"]["images"][0]

    assert (own["format"], asked["format"], replaced["format"]) == (word, "webp", "png")
    for image in (own, asked, replaced):
        assert image["url"].endswith(f".{image['format']}")
        media_type = api.client.get(image["url"]).headers["content-type"]
        assert media_type == f"image/{image['format'].replace('jpg', 'jpeg')}"


def test_failures_have_codes_in_lower_case(connect):
    """Whichever way a rule spells them; its own code is known to the vendor's pages."""
    rules = [
        {"kind": "task", "prompt_contains": "[own]"},
        {"kind": "task", "prompt_contains": "[named]", "code": "ENQUEUE_FAILED"},
        {"kind": "refused", "prompt_contains": "[no]"},
    ]
    api = connect(revision="2026-10", failures=rules)

    assert api.finish("[own] kite")["errors"][0]["code"] == "provider_error"
    assert api.finish("[named] kite")["errors"][0]["code"] == "enqueue_failed"
    assert api.error(api.post("[no] kite")) == (400, "restricted_content")


def test_no_token_is_made_unless_asked_for(new_api):
    """And it opens status and result alone."""
    without = new_api.open(new_api.post())
    made = new_api.open(new_api.post(generate_public_access_token=True))
    headers = {"authorization": f"Bearer {made['public_access_token']}"}
    path = f"/tasks/{made['task_id']}"
    statuses = {
        word: new_api.client.get(path + word, headers=headers).status_code
        for word in ("/status", "/result", "")
    }

    assert set(without) == {"task_id", "estimated_cost"}
    assert statuses == {"/status": 200, "/result": 200, "": 401}


@pytest.mark.parametrize("path", ["/image/generate", "/image/upscale", "/image/remove-background"])
def test_a_token_may_fail_while_its_task_runs(connect, path):
    """The error tells the task's id; a request without a token is answered as usual."""
    route = f"POST {path}"
    api = connect(revision="2026-10", faults=[{"kind": "token_failed", "route": route}])
    body = {
        "/image/generate": {"prompt": "a kite"},
        "/image/upscale": {"url": URL, "size": "2x", "effort": "low"},
        "/image/remove-background": {"url": URL},
    }[path]
    failed = api.client.post(path, json={**body, "generate_public_access_token": True})
    usual = api.client.post(path, json=body)
    api.server.complete()

    assert api.error(failed) == (500, "public_access_token_failed")
    assert api.detail(failed.json()["error"]["task_id"])["status"] == "completed"
    assert usual.status_code == 201


@pytest.mark.parametrize("revision", ["2026-08", "2026-10"])
def test_a_token_may_be_missing_without_a_word(connect, revision):
    """As earlier versions of the pages told it."""
    quirks = {"token_failure": "silent"}
    api = connect(revision=revision, faults=[{"kind": "token_failed"}], quirks=quirks)
    token = {"generate_public_access_token": True} if revision == "2026-10" else {}
    answer = api.post(**token)

    assert answer.status_code == 201
    assert set(api.open(answer)) == {api.word("taskId"), api.word("estimatedCost")}


def test_a_fault_may_fail_the_token_of_any_request(connect):
    """A fault with the code and the id, whether a token was asked for or not."""
    fault = {
        "kind": "server_error_with_task",
        "code": "public_access_token_failed",
        "task_id_field": "task_id",
    }
    api = connect(revision="2026-10", faults=[fault])
    answer = api.post()

    assert api.error(answer) == (500, "public_access_token_failed")
    assert answer.json()["error"]["task_id"] == api.server.log()["accepted"][0]["task_id"]


@pytest.mark.parametrize("status", [404, 403, 410])
def test_files_are_served_for_seven_days(connect, status):
    """Then they are gone; what that is answered can be chosen."""
    choice = {} if status == 404 else {"expired_file_status": status}
    api = connect(revision="2026-10", quirks=choice)
    url = api.finish()["result"]["images"][0]["url"]
    api.server.advance(7 * DAY_S - 1)
    before = api.client.get(url).status_code
    api.server.advance(1)

    assert (before, api.client.get(url).status_code) == (200, status)


def test_uploads_are_served_for_a_day(new_api):
    """Those of earlier revisions stay."""
    files = [("images", ("a.png", b"\x89PNG\r\n\x1a\n".ljust(2048)))]
    url = new_api.open(new_api.client.post("/image/upload", files=files))["urls"][0]
    new_api.server.advance(DAY_S - 1)
    before = new_api.client.get(url).status_code
    new_api.server.advance(1)
    after = new_api.client.get(url).status_code
    new_api.server.set_scenario(revision="2026-08")

    assert (before, after, new_api.client.get(url).status_code) == (200, 404, 200)


def test_defaults_may_be_echoed(connect):
    """The other reading; the request stays what it is otherwise."""
    api = connect(revision="2026-10", quirks={"request_echo": "with_defaults"})

    assert api.finish()["request"] == {"size": "auto", "count": 1, **api.body()}


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"all_failed": "failed_with_images"}, "'completed', 'failed_without_result'"),
        ({"error_body": "flat"}, "'nested'"),
        ({"webhook_secret_prefix": "wbs_"}, "'whsec_'"),
    ],
)
def test_a_reading_that_the_revision_leaves_no_room_for_is_refused(quirks, message):
    """The message says what it may be; earlier revisions can have it."""
    with pytest.raises(ScenarioError, match=message):
        Scenario.from_dict({"revision": "2026-10", "quirks": quirks})
    Scenario.from_dict({"revision": "2026-08", "quirks": quirks})


def test_what_does_not_apply_is_no_choice():
    """Such a quirk stays empty."""
    filled = Quirks().filled("2026-10")

    assert (filled.event_tells_cost, filled.image_cost_trimmed, filled.output_needs_both) == (
        None,
        None,
        None,
    )
