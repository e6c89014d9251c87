"""
What the vendor's pages on batch generation and on errors and limits say, asked of the product.

`docs/coverage.md` lists every sentence of these pages with the test that proves it; those that
no other test asks are asked here. The pages speak of revision 2026-04.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from mynth_dagster.client.client import WaitSettings, wait_for_task
from mynth_dagster.errors import (
    ConfigError,
    NotFoundError,
    RefusedError,
    TaskFailedError,
    UnauthorizedError,
)
from mynth_dagster.models.request import Rating, RatingLevel
from mynth_dagster.tables.rules import n_bytes_with_tag
from tests.engine.bench import Bench
from tests.factories import KEY

HERO = "Hero illustration for a fintech landing page"
MODELS = (
    "google/gemini-3.1-flash-image",
    "black-forest-labs/flux.2-dev",
    "black-forest-labs/flux.2-pro",
    "recraft/recraft-v4",
)
PACKAGING = (
    "Packaging photo for a botanical tea brand",
    "Packaging photo for a specialty coffee brand",
    "Packaging photo for a skincare brand",
)


@pytest.fixture
def old(simulator, clock, tmp_path):
    """A bench of the pages' own revision."""

    def start(**scenario: Any) -> Bench:
        return Bench(simulator(clock=clock, revision="2026-04", **scenario), clock, tmp_path)

    return start


def test_one_prompt_over_four_models_is_four_tasks(bench):
    """The pages' first example: the hero illustration, landscape, of each model."""
    work = bench()
    report = work.run([{"prompt": HERO, "size": "landscape"}], models=MODELS)

    assert report.images == 4
    asked = {(entry["prompt"], entry["model"]) for entry in work.log["accepted"]}
    assert asked == {(HERO, model) for model in MODELS}
    ids = {row["task_id"] for row in work.table("tasks")}
    assert ids == {entry["task_id"] for entry in work.log["accepted"]}


def test_three_prompts_of_one_model_are_three_tasks(bench):
    """The pages' second example: packaging photos."""
    work = bench()
    report = work.run([{"prompt": prompt} for prompt in PACKAGING], models=MODELS[:1])

    assert report.images == 3
    assert sorted(entry["prompt"] for entry in work.log["accepted"]) == sorted(PACKAGING)


def test_requests_are_in_flight_together(new_bench):
    """As many at once as `concurrency` says, since Mynth sets no limit; and no more."""
    work = new_bench(response_delay_s=0.05)
    work.run(60, settings={"concurrency": 20})
    assert 10 < work.log["peak_in_flight"] <= 21


AT_THE_LIMIT = [
    ({"count": 100}, {"count": 101}, "invalid_count"),
    ({"prompt": "p" * 2056}, {"prompt": "p" * 2057}, "prompt_too_long"),
    ({"negative_prompt": "n" * 2056}, {"negative_prompt": "n" * 2057}, "negative_prompt_too_long"),
]


@pytest.mark.parametrize(("good", "bad", "code"), AT_THE_LIMIT, ids=lambda x: str(x)[:24])
def test_a_row_at_a_limit_is_sent_and_one_beyond_it_is_not(old, good, bad, code):
    """The last value is Mynth's to accept, the next one is rejected before it costs anything."""
    work = old(balance_usd="1000")
    rows = [
        {"prompt_id": "good", "prompt": "x", **good},
        {"prompt_id": "bad", "prompt": "x", **bad},
    ]
    report = work.run(rows)

    assert report.posts_sent == 1
    (failure,) = work.table("failures")
    assert (failure["prompt_id"], failure["error_code"]) == ("bad", code)


@pytest.mark.parametrize(("n_endpoints", "is_taken"), [(5, True), (6, False)])
def test_five_custom_endpoints_are_allowed(old, n_endpoints, is_taken):
    """Five are sent along with the request, six are a wrong setting."""
    work = old()
    urls = tuple(f"http://127.0.0.1:9/{n}" for n in range(n_endpoints))
    endpoints = {"webhook_urls": urls}
    if is_taken:
        assert work.run(1, **endpoints).posts_sent == 1
        return
    with pytest.raises(ConfigError, match="6 endpoints; at most 5"):
        work.run(1, **endpoints)
    assert work.n_posts == 0


def test_two_kilobytes_of_metadata_are_allowed_together_with_our_tag(old):
    """Measured as Mynth would: one byte more is rejected before it costs anything."""
    work = old()

    def metadata(n_bytes: int) -> str:
        return json.dumps({"k": "v" * n_bytes}, separators=(",", ":"))

    taken = [n for n in range(1900, 1990) if _is_taken(metadata(n))]
    last = max(taken)
    rows = [
        {"prompt_id": "fits", "prompt": "x", "metadata": metadata(last)},
        {"prompt_id": "not", "prompt": "x", "metadata": metadata(last + 1)},
    ]
    report = work.run(rows)
    assert (report.posts_sent, report.failures) == (1, {"metadata_too_large": 1})


def _is_taken(metadata: str) -> bool:
    return n_bytes_with_tag(metadata) <= 2048


def levels(n: int, value: int = 3, description: int = 5) -> Rating:
    return Rating(tuple(RatingLevel(str(i).rjust(value, "v"), "d" * description) for i in range(n)))


@pytest.mark.parametrize("rating", [levels(2), levels(7), levels(2, 24), levels(2, 3, 150)])
def test_custom_levels_within_the_limits_rate_each_image(old, rating):
    """Two to seven levels, values to 24 and descriptions to 150 characters."""
    work = old()
    work.run(2, rating=rating)
    found = {row["rating_level"] for row in work.table("images")}
    assert found <= {level.value for level in rating.levels}
    assert found


@pytest.mark.parametrize("rating", [levels(1), levels(8), levels(2, 25), levels(2, 3, 151)])
def test_custom_levels_beyond_the_limits_are_a_wrong_setting(old, rating):
    """Nothing is sent."""
    work = old()
    with pytest.raises(ConfigError, match="allowed"):
        work.run(2, rating=rating)
    assert work.n_posts == 0


async def _with_client(work: Bench, ask: Any, *, key: str | None = KEY) -> Any:
    async with work.session(api_key=key) as session:
        return await ask(session.client)


def test_unauthorized_is_reported_with_status_code_and_body(old):
    """A wrong key: HTTP 401 with the parsed answer, as the pages show it."""
    work = old()
    with pytest.raises(UnauthorizedError) as caught:
        asyncio.run(_with_client(work, lambda client: client.check_key(), key="mak_wrong"))

    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    assert caught.value.body["error"]["code"] == "unauthorized"


@pytest.mark.parametrize("where", ["owner's endpoint", "another task"])
def test_a_token_out_of_its_place_is_unauthorized(bench, where):
    """On an owner-only endpoint, and for another task than its own."""
    work = bench()
    work.run(2, public_access_tokens=True)
    first, second = work.table("tasks")
    path = f"/tasks/{first['task_id']}"
    path = path if where == "owner's endpoint" else f"/tasks/{second['task_id']}/status"
    headers = {"authorization": f"Bearer {first['public_access_token']}"}
    assert httpx.get(work.server.url + path, headers=headers).status_code == 401


def test_a_validation_error_names_its_field(old):
    """HTTP 400 with code, message and field; the row is rejected and not charged."""
    work = old()
    row = {"prompt": "x", "inputs": ["https://example.com/a.png"], "model": "recraft/recraft-v4"}
    work.run([row], check_capabilities=False)

    (failure,) = work.table("failures")
    told = ("status", "http_status", "error_code", "field", "money")
    assert [failure[name] for name in told] == [
        *("rejected", 400, "validation_error", "inputs", "not charged"),
    ]


def test_cost_is_reserved_before_generation_and_an_empty_balance_refuses(old):
    """HTTP 402: the run stops where the money ended, and goes on after topping up."""
    work = old(balance_usd="0.05", progress="manual")
    work.clock.advance(1)
    report = work.run(10, deadline_s=1.0)
    totals = work.log["totals"]

    assert totals["reserved_now"] == totals["balance"] == "0.05000000"
    assert report.stopped == "insufficient_balance"
    assert report.withheld == 10 - totals["accepted"]


def test_an_unknown_task_and_a_foreign_one_are_not_found(old):
    """HTTP 404 for both: no such id, and no access to it."""
    keys = [{"key": KEY}, {"key": "mak_other", "user_id": "user_other"}]
    work = old(api_keys=keys)
    work.run(1)
    task_id = work.log["accepted"][0]["task_id"]

    for key, wanted in ((KEY, "tsk_none"), ("mak_other", task_id)):
        with pytest.raises(NotFoundError) as caught:
            asyncio.run(_with_client(work, lambda client, w=wanted: client.get_task(w), key=key))
        assert caught.value.status == 404


def test_a_failed_task_is_no_http_error(old):
    """Accepted, polled to `failed`, and a row of `failures`; waiting for it alone raises."""
    work = old(failures=[{"kind": "task"}])
    report = work.run(1)
    (row,) = work.table("tasks")
    assert (report.posts_sent, row["status"], report.failures) == (1, "failed", {"task_failed": 1})
    others = {status for status in work.log["responses"] if not status.startswith("2")}
    assert others <= {"404", "401"}  # what tells the revision, and that the address is right

    async def wait(client: Any) -> None:
        await wait_for_task(client, row["task_id"], work.clock, settings=WaitSettings())

    with pytest.raises(TaskFailedError):
        asyncio.run(_with_client(work, wait))


def test_every_api_error_has_a_status_and_the_parsed_answer():
    """What the pages' `MynthAPIError` has: one class to catch, and two things to look at."""
    error = RefusedError("create task", status=418, code="teapot", body={"error": {}})
    assert (error.status, error.body) == (418, {"error": {}})
    assert issubclass(UnauthorizedError, RefusedError)
