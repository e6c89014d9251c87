"""Caps on money: judged by what Mynth charged, not by what we wrote down."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mynth_dagster.errors import ConfigError, PriceUnknownError
from mynth_dagster.models.intent import shard_of
from mynth_dagster.models.money import budget_from_usd, units_from_usd
from tests.engine.bench import NO_LIST, Bench

FREE = (("POST /image/generate/estimate", 0), ("GET /models", 2))
PRICES = {"prices_usd": {"black-forest-labs/flux.2-dev": Decimal("0.01")}}


def charged(work: Bench) -> Decimal:
    return Decimal(work.log["totals"]["charged"])


@pytest.fixture
def priced(bench):
    """Each image costs one cent, and Mynth may or may not say so."""
    scenario = {"prices_usd": {"black-forest-labs/flux.2-dev": "0.01"}}
    return lambda **more: bench(**scenario, **more)


def test_nothing_is_sent_beyond_the_cap(priced):
    """Money for seven of twenty rows: seven are paid, thirteen are withheld and say why."""
    work = priced()

    report = work.run(20, budget_usd={"batch": "0.075"}, **PRICES)

    assert (report.images, report.withheld, report.stopped) == (7, 13, "budget_exceeded")
    assert charged(work) == Decimal("0.07")
    failures = work.table("failures")
    assert {row["error_code"] for row in failures} == {"budget_exceeded"}
    assert {row["status"] for row in failures} == {"withheld"}
    assert {row["money"] for row in failures} == {"not charged"}
    assert "Raise the batch's budget" in failures[0]["next_step"]
    work.require_sound(20)


def test_more_money_sends_the_rest_and_nothing_twice(priced):
    """The same command with a higher cap goes on where it stopped."""
    work = priced()
    work.run(20, budget_usd={"batch": "0.07"}, **PRICES)

    again = work.run(20, budget_usd={"batch": "0.07"}, **PRICES)
    assert again.posts_sent == 0
    rest = work.run(20, budget_usd={"batch": "0.20"}, **PRICES)

    assert (rest.images, rest.posts_sent, rest.stopped) == (20, 13, None)
    assert charged(work) == Decimal("0.20")
    work.require_sound(20)


def test_a_partitions_cap_stops_that_partition_alone(priced):
    """Shards with room go on; only the full ones have withheld rows."""
    work = priced()

    report = work.run(40, fan_out=4, budget_usd={"partition": "0.09"}, **PRICES)

    by_shard = work.query("SELECT fan_out, count(*) FROM intents GROUP BY fan_out")
    assert max(n for _, n in by_shard) == 9
    assert report.images == sum(n for _, n in by_shard)
    assert report.withheld == 40 - report.images > 0
    full = {row["prompt_id"] for row in work.table("failures")}
    stopped = work.query("SELECT fan_out FROM partitions WHERE stop_code = 'budget_exceeded'")
    assert {f"{shard_of(prompt_id, 4):03d}" for prompt_id in full} == {key for (key,) in stopped}
    assert charged(work) == Decimal("0.01") * report.images


def test_failed_tasks_give_their_money_back_to_the_budget(priced):
    """What Mynth refunds can be spent by the next run."""
    work = priced(failures=[{"share": 0.5}])
    budget_usd = {"batch": "0.10"}

    first = work.run(20, budget_usd=budget_usd, **PRICES)
    assert charged(work) == Decimal("0.01") * first.images < Decimal("0.10")
    work.server.set_scenario(failures=())
    second = work.run(20, budget_usd=budget_usd, **PRICES)

    assert second.posts_sent == 10 - first.images
    assert charged(work) == Decimal("0.10")


def test_rows_in_doubt_keep_their_money(priced):
    """A lost answer may have been charged: the cap counts it until that is known."""
    work = priced(faults=[{"kind": "lost_answer", "first": 4}, NO_LIST])

    report = work.run(20, budget_usd={"batch": "0.10"}, **PRICES)

    assert (report.unresolved, report.images) == (4, 6)
    assert charged(work) == Decimal("0.10")
    assert report.receipt.unknown == units_from_usd("0.04")


def test_a_charge_above_the_quote_stops_the_next_run(priced):
    """Prices that went up are counted as charged, and no more is sent under the old cap."""
    work = priced()
    work.run(5, budget_usd={"batch": "0.12"}, **PRICES)
    work.server.set_scenario(prices_usd={"black-forest-labs/flux.2-dev": "0.03"})

    cheap = {"prices_usd": {"black-forest-labs/flux.2-dev": Decimal("0.01")}}
    if work.server.scenario.revision == "2026-04":
        second = work.run(8, budget_usd={"batch": "0.12"}, **cheap)
        assert second.posts_sent == 3
        assert charged(work) == Decimal("0.14")
    third = work.run(12, budget_usd={"batch": "0.12"}, **cheap)

    assert third.stopped == "budget_exceeded"
    assert third.posts_sent <= 2


def test_an_unknown_price_under_a_budget_is_an_error_before_spending(bench):
    """It names the model and what to do; nothing was sent."""
    work = bench(
        faults=[{"route": route, "kind": "server_error", "after": after} for route, after in FREE]
    )

    with pytest.raises(PriceUnknownError, match=r"flux\.2-dev.*nothing was sent") as caught:
        work.run(5, budget_usd={"batch": "10"})

    assert "prices_usd" in str(caught.value)
    assert work.n_posts == 0


def test_auto_is_reserved_at_its_ceiling_and_released(new_bench):
    """The estimate is an upper bound: held while the task runs, then only the cost counts."""
    work = new_bench(progress="clock", latency=5, auto_ceiling_usd="0.20")
    budget_usd = {"batch": "0.65"}

    first = work.run(10, models=("auto",), budget_usd=budget_usd)

    assert first.posts_sent == 3
    assert first.receipt.reserved == units_from_usd("0.60")
    assert first.receipt.charged + first.receipt.refunded == first.receipt.reserved
    second = work.run(10, models=("auto",), budget_usd=budget_usd)
    assert second.posts_sent >= 1
    assert charged(work) <= Decimal("0.65")


def test_a_receipt_adds_up_to_what_mynth_says(priced):
    """Reserved is charged, given back or still held; doubt is told apart; requests are counted."""
    work = priced(
        failures=[{"share": 0.3}],
        faults=[
            {"kind": "lost_answer", "every": 9},
            {"kind": "status", "status": 400, "every": 7},
            NO_LIST,
        ],
    )

    report = work.run(60, **PRICES)

    receipt, totals = report.receipt, work.log["totals"]
    assert receipt.charged + receipt.refunded + receipt.open + receipt.unknown == receipt.reserved
    in_doubt = receipt.n_unknown
    assert in_doubt == report.unresolved > 0
    known = {t for (t,) in work.query("SELECT task_id FROM intents WHERE task_id IS NOT NULL")}
    expected = sum(Decimal(c["charged"] or 0) for c in work.log["charges"] if c["task_id"] in known)
    assert units_from_usd(expected) == receipt.charged
    assert Decimal(totals["charged"]) >= expected


def test_a_further_task_of_a_row_is_read_and_on_the_receipt(new_bench):
    """Somebody asked again by hand: both tasks are charged, listed and counted."""
    lost = {"kind": "lost_answer", "prompt_contains": "prompt 0"}
    work = new_bench(faults=[lost, NO_LIST])
    assert work.run(3).unresolved == 1
    work.server.set_scenario(faults=())
    ((intent_id,),) = work.query("SELECT intent_id FROM intents WHERE state = 'unresolved'")
    (entry,) = [e for e in work.log["accepted"] if e["intent_id"] == intent_id]
    work.run(3)
    work.post_again(entry)

    report = work.run(3)
    work.clock.advance(1000)
    work.look_for_tasks()
    report = work.run(3)

    surplus = [row for row in work.table("tasks") if not row["current"]]
    assert [row["status"] for row in surplus] == ["completed"]
    assert surplus[0]["charged_usd"] is not None
    assert report.receipt.n_charged == 4
    assert units_from_usd(charged(work)) == report.receipt.charged


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        ({"night": "5"}, "'night' is none of partition, window, batch"),
        ({"batch": "five"}, "not an amount of money"),
        ({"window": "0"}, "not above zero"),
        ({"partition": "0.000000001"}, "finer than eight decimals"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(amounts, said):
    """By the name of its scope, before anything is read."""
    with pytest.raises(ConfigError, match=said):
        budget_from_usd(amounts)
