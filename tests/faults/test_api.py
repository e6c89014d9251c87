"""What Mynth itself may do: refuse, fail, finish late, charge otherwise, forget."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mynth_dagster.limits import REVISIONS
from tests.faults.stage import MINUTE_S

GENERATE = "POST /image/generate"
LIST, STATUS, FULL = "GET /tasks", "GET /tasks/:id/status", "GET /tasks/:id"


def codes(work) -> dict[str, int]:
    """Failures by code."""
    found: dict[str, int] = {}
    for row in work.table("failures"):
        found[row["error_code"]] = found.get(row["error_code"], 0) + 1
    return found


def test_a_dead_key_costs_one_error_and_no_row(stage):
    """Refused before anything is prepared: nothing sent, no noise for each row."""
    work = stage(api_keys=[{"key": "mak_simulator", "revoked": True}])

    with pytest.raises(Exception, match="401"):
        work.run(8)

    assert work.n_posts == 0
    work.server.set_scenario(api_keys=[{"key": "mak_simulator"}])
    work.finish(8)


def test_a_key_that_dies_in_the_middle_leaves_the_rest_withheld(stage):
    """What was accepted is kept, the rest waits for a good key."""
    work = stage(faults=[{"route": "*", "kind": "status", "status": 401, "after": 14}])

    report = work.run(16)

    assert report.stopped == "unauthorized"
    assert not [row for row in work.table("failures") if row["status"] == "rejected"]
    work.server.set_scenario(faults=())
    work.finish(16)


@pytest.mark.parametrize("status", [402, 422])
def test_an_empty_balance_stops_where_the_money_ended(stage, status):
    """Under either status it is no fault of a row; topped up, the run goes on from there."""
    work = stage(balance_usd="0.05", quirks={"insufficient_balance_status": status})

    report = work.run(30)

    assert report.stopped == "insufficient_balance"
    assert report.withheld == 30 - report.images > 0
    assert set(codes(work)) == {"insufficient_balance"}
    paid = len(work.log["accepted"])
    work.server.set_scenario(balance_usd="0.05", prices_usd={})
    assert paid == report.images


@pytest.mark.parametrize("status", [402, 429])
def test_a_used_up_spending_limit_is_no_reason_to_retry(stage, status):
    """Not even where its status is that of a rate limit: the run stops and says so."""
    key = {"key": "mak_simulator", "spending_limit_usd": "0.05"}
    work = stage(api_keys=[key], quirks={"spending_limit_status": status})

    report = work.run(30)

    assert report.stopped == "spending_limit_exceeded"
    assert report.withheld == 30 - report.images > 0
    assert work.n_posts <= report.images + 16


def test_a_model_that_may_not_be_used_fails_its_rows_alone(stage):
    """A refusal with a code of its own is the row's; others go on."""
    refusal = {"kind": "status", "status": 403, "code": "model_not_allowed"}
    work = stage(faults=[{**refusal, "prompt_contains": "prompt 3"}])

    report = work.run(8)

    assert (report.images, codes(work)) == (7, {"model_not_allowed": 1})
    work.finish(8, images=7)


def test_a_row_that_mynth_does_not_accept_is_rejected_with_its_words(stage):
    """Not charged, not retried, the API's own code and message in the table."""
    refusal = {"kind": "status", "status": 400, "code": "validation_error"}
    work = stage(faults=[{**refusal, "prompt_contains": "prompt 5"}])

    report = work.run(8)

    (row,) = work.table("failures")
    assert (row["prompt_id"], row["status"], row["money"]) == ("p00005", "rejected", "not charged")
    assert report.images == 7
    work.finish(8, images=7)


def test_a_refused_prompt_is_reported_as_such(new_stage):
    """A code of its own, told as a failure that no retry mends."""
    work = new_stage(failures=[{"kind": "moderation", "prompt_contains": "prompt 2"}])

    work.run(8)

    (row,) = work.table("failures")
    assert (row["error_code"], row["retryable"]) == ("restricted_content", False)
    work.finish(8, images=7)


def test_a_failed_task_gives_its_money_back_and_others_are_fine(stage):
    """Code, words and money of the failure; the row keeps its task id."""
    work = stage(failures=[{"prompt_contains": "prompt 4"}])

    work.run(8)

    (row,) = work.table("failures")
    told = "refunded" if work.has_list else "not charged"  # 2026-04 tells no reservation
    assert (row["money"], row["status"]) == (told, "failed")
    assert row["task_id"].startswith("tsk_")
    work.finish(8, images=7)


def test_a_task_of_which_some_images_failed_is_partial(stage):
    """Images and failures by their place, together as many as were asked for."""
    rows = [{"prompt_id": f"p{n}", "prompt": f"prompt {n}", "count": 4} for n in range(4)]
    work = stage(failures=[{"kind": "images", "n_images": 2, "prompt_contains": "prompt 2"}])

    report = work.run(rows)

    assert (report.images, report.rows_by_status.get("partial")) == (14, 1)
    assert len({row["image_index"] for row in work.table("failures")}) == 2
    work.finish(rows, images=14, count=4)


def test_a_task_that_never_finishes_is_stalled_and_collected_whenever_it_does(new_stage):
    """The run ends at the deadline; the id is kept, nothing is sent again, a later run finds it."""
    work = new_stage(progress="clock", latency=3_000)

    report = work.run(6, deadline_s=60.0)

    assert (report.stalled, report.images) == (6, 0)
    assert {row["status"] for row in work.table("failures")} == {"stalled"}
    work.clock.advance(3_000)
    assert work.run(6).images == 6
    assert work.n_posts == 6
    work.finish(6)


def test_a_task_that_mynth_forgot_is_lost_and_never_sent_again(new_stage):
    """After an hour of looking beside tasks that are there; its money stays unknown."""
    work = new_stage(progress="clock", latency=1e7)
    work.run(6, deadline_s=5.0)
    gone = work.log["accepted"][2]["task_id"]
    not_found = {"kind": "status", "status": 404, "code": "not_found", "task_id": gone}
    rules = [{**not_found, "route": route} for route in (STATUS, FULL)]
    work.server.set_scenario(faults=[*rules, {"route": LIST, "kind": "server_error"}])

    for _ in range(5):
        work.tick()
        work.clock.advance(20 * MINUTE_S)
    report = work.run(6, deadline_s=5.0)

    assert report.posts_sent == 0
    (row,) = [row for row in work.table("failures") if row["error_code"] == "task_lost"]
    assert (row["task_id"], row["money"]) == (gone, "unknown")


def test_a_list_that_lags_and_grows_while_it_is_read_proves_nothing_too_soon(new_stage):
    """Tasks appear half a minute late, others' tasks arrive: all of ours are found, none twice."""
    work = new_stage(
        faults=[{"kind": "lost_answer", "every": 3, "first": 12}], quirks={"list_lag_s": 30.0}
    )
    work.run(16)
    work.server.set_scenario(faults=())
    for _ in range(3):
        work.run(16)
        work.clock.advance(15.0)

    work.finish(16)
    assert work.n_posts == 16 + work.n_later


def test_money_is_the_same_to_the_last_digit(stage):
    """Prices of eight decimals, images and failures of images: our sums are Mynth's."""
    model = "black-forest-labs/flux.2-dev"
    rows = [{"prompt_id": f"p{n}", "prompt": f"prompt {n}", "count": 3} for n in range(7)]
    work = stage(
        prices_usd={model: "0.01234567"},
        failures=[{"kind": "images", "n_images": 1, "prompt_contains": "prompt 3"}],
    )

    report = work.run(rows)

    charged = Decimal(work.log["totals"]["charged"])
    assert sum(row["charged_usd"] for row in work.table("tasks")) == charged
    assert sum(row["cost_usd"] for row in work.table("images")) == charged
    assert report.receipt.charged == int(charged * 10**8)
    work.finish(rows, images=20, count=3)


def test_every_revision_gives_the_same_tables(simulator, clock, tmp_path):
    """The same prompts at each revision: equal rows but for ids, URLs and times."""
    from tests.faults.stage import Stage  # noqa: PLC0415

    shown = []
    for revision in REVISIONS:
        folder = tmp_path / revision
        folder.mkdir()
        server = simulator(
            clock=clock, revision=revision, failures=[{"prompt_contains": "prompt 2"}], seed=3
        )
        work = Stage(server, clock, folder)
        work.run(6, output_format="png")
        columns = ("prompt_id", "image_index", "width", "height", "format", "cost_usd", "model")
        images = [tuple(row[name] for name in columns) for row in work.table("images")]
        failed = [
            (row["prompt_id"], row["stage"], row["status"], row["task_id"] is None)
            for row in work.table("failures")
        ]
        shown.append((images, failed))

    assert all(tables == shown[0] for tables in shown)
