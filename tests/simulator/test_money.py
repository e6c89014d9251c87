from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynth_dagster.clock import US_PER_S, ManualClock, us_from_utc
from mynth_dagster.simulator.defaults import format_cost, format_price, units_of
from mynth_dagster.simulator.scenario import ApiKey, Quirks, Scenario
from mynth_dagster.simulator.state import State
from mynth_dagster.simulator.tasks import GenerateRequest
from mynth_dagster.simulator.validation import Refusal

HALF_FAIL = {"kind": "images", "prompt_contains": "[half]", "n_images": 2}
ALL_FAIL = {"kind": "task", "prompt_contains": "[bad]"}
LIMITED = [{"key": "mak_simulator", "spending_limit_usd": "0.05", "spending_limit_period": "day"}]
PRO = "black-forest-labs/flux.2-pro"
DAY_S = 86_400


@pytest.mark.parametrize(
    ("text", "cost", "price"),
    [
        ("0.0125", "0.01250000", "0.0125"),
        ("12", "12.00000000", "12"),
        ("0", "0.00000000", "0"),
        ("-1.5", "-1.50000000", "-1.5"),
        ("0.00000001", "0.00000001", "0.00000001"),
        ("100", "100.00000000", "100"),
    ],
)
def test_amount_spellings(text, cost, price):
    """Final costs have eight decimals, others no trailing zeros; both parse back."""
    units = units_of(text)

    assert (cost, price) == (format_cost(units), format_price(units))
    assert units == units_of(cost) == units_of(price)


@pytest.mark.parametrize("text", ["", "x", "0.000000001", "NaN", "Infinity"])
def test_amount_refused(text):
    """What is no amount, or finer than the scale, is refused."""
    with pytest.raises(ValueError, match="USD"):
        units_of(text)


def test_reserve_then_charge(connect):
    """A task holds its estimate until it ends; then only its cost is gone."""
    api = connect(balance_usd="1", failures=[HALF_FAIL])
    api.create("[half] kite", count=4)
    held = api.balance()
    api.server.complete()
    ended = api.balance()

    assert (held["balance"], held["reserved"], held["available"]) == ("1", "0.04", "0.96")
    assert (ended["balance"], ended["reserved"], ended["available"]) == ("0.98", "0", "0.98")
    charge = api.server.log()["charges"][0]
    assert (
        charge["reserved"],
        charge["charged"],
        charge["refunded"],
    ) == ("0.04000000", "0.02000000", "0.02000000")


def test_failed_task_costs_nothing(connect):
    """A failed task has no cost and gives everything back."""
    api = connect(balance_usd="1", failures=[ALL_FAIL])
    task = api.finish("[bad] kite")

    assert (task["status"], task["cost"]) == ("failed", None)
    assert (api.balance()["balance"], api.balance()["reserved"]) == ("1", "0")


@pytest.mark.parametrize(
    ("revision", "choice", "status"),
    [("2026-04", None, 402), ("2026-08", None, 422), ("2026-08", 402, 402)],
)
def test_insufficient_balance(connect, revision, choice, status):
    """With too little available nothing is made; completion frees nothing that was spent."""
    quirks = {"insufficient_balance_status": choice}
    api = connect(revision=revision, balance_usd="0.01", quirks=quirks)
    first = api.post()
    second = api.post()

    assert first.status_code == 201
    assert (status, "insufficient_balance") == api.error(second)
    assert api.server.log()["totals"]["accepted"] == 1


def test_accounts_are_apart(connect):
    """Keys of one account share its balance; another account has its own."""
    keys = [{"key": "mak_a"}, {"key": "mak_b"}, {"key": "mak_c", "user_id": "user_c"}]
    api = connect("mak_a", api_keys=keys, balance_usd="1", balances_usd={"user_c": "5"})
    api.create()

    assert connect("mak_b", reset=False).balance()["available"] == "0.99"
    assert connect("mak_c", reset=False).balance()["available"] == "5"


@pytest.mark.parametrize("status", [402, 429])
def test_spending_limit(connect, status):
    """A key's limit counts what is held and spent in its period, and starts anew with it."""
    api = connect(api_keys=LIMITED, quirks={"spending_limit_status": status})
    api.finish(count=3)
    api.create(count=2)
    refused = api.post()
    shown = api.balance()["apiKey"]
    api.server.advance(DAY_S)

    assert (status, "spending_limit_exceeded") == api.error(refused)
    assert shown == {
        "spendingLimit": "0.05",
        "spendingLimitPeriod": "day",
        "usedInPeriod": "0.05",
        "remainingInPeriod": "0",
    }
    assert api.post().status_code == 201


@pytest.mark.parametrize(("period", "n_days"), [("day", 1), ("week", 5), ("month", 13)])
def test_spending_limit_periods(period, n_days):
    """Periods start at 00:00 UTC: the day, the Monday, the first of the month."""
    wednesday_us = us_from_utc(datetime(2026, 11, 18, 12, tzinfo=timezone.utc))
    limited = ApiKey(spending_limit_usd="0.01", spending_limit_period=period)
    key = State(Scenario(api_keys=(limited,)), ManualClock()).accounts.find("mak_simulator")
    key.reserve(units_of("0.01"), wednesday_us, Quirks())
    next_midnight_us = wednesday_us + (n_days * DAY_S - DAY_S // 2) * US_PER_S

    assert key.used(next_midnight_us - 1) == units_of("0.01")
    assert key.used(next_midnight_us) == 0


def test_spending_limit_refund(connect):
    """What is given back within the period may be spent again."""
    api = connect(api_keys=LIMITED, failures=[ALL_FAIL])
    api.finish("[bad] kite", count=5)

    assert api.post(count=5).status_code == 201


def test_estimate_touches_nothing(api):
    """The estimate prices and validates the same body, and makes and holds nothing."""
    fields = {"model": PRO, "count": 2, "inputs": ["https://a.example/1", "https://a.example/2"]}
    answer = api.client.post("/image/generate/estimate", json=api.body(**fields))
    auto = api.client.post("/image/generate/estimate", json=api.body(model="auto", count=3))
    bad = api.client.post("/image/generate/estimate", json=api.body(count=21))

    assert api.open(answer) == {"estimatedCost": "0.12", "currency": "usd", "estimateKind": "exact"}
    assert (
        api.open(auto)["estimatedCost"],
        api.open(auto)["estimateKind"],
    ) == ("0.6", "upper_bound")
    assert bad.status_code == 400
    assert (api.server.log()["totals"]["accepted"], api.balance()["reserved"]) == (0, "0")


def test_estimate_is_what_is_held(api):
    """The estimate equals the amount that creation then reserves."""
    body = api.body(model=PRO, count=3, inputs=["https://a.example/1"])
    estimated = api.open(api.client.post("/image/generate/estimate", json=body))["estimatedCost"]
    held = api.open(api.client.post("/image/generate", json=body))["estimatedCost"]

    assert estimated == held == api.balance()["reserved"]


def test_images_cost_adds_up(connect):
    """A task's cost is the sum of its good images, also where the price does not divide."""
    api = connect(failures=[HALF_FAIL])
    task = api.finish("[half] kite", model=PRO, count=7, inputs=["https://a.example/1"])

    costs = [Decimal(image["cost"]) for image in task["result"]["images"] if "cost" in image]
    assert len(costs) == 5
    assert Decimal(task["cost"]) == sum(costs)


def test_4k_price(api):
    """A 4k image of a model that can costs its 4k price."""
    model = "google/gemini-3.1-flash-image"

    assert api.open(api.post(model=model, size="1:1_4k"))["estimatedCost"] == "0.025"


def test_auto_refunds_the_ceiling(api):
    """``auto`` holds a ceiling per image and charges what the chosen model costs."""
    task = api.finish(model="auto", count=2)
    catalog = {entry["id"]: entry["pricing"] for entry in api.get("/models")}

    base = Decimal(catalog[task["result"]["model"]]["perImage"]["base"])
    assert api.server.log()["charges"][0]["reserved"] == "0.40000000"
    assert 2 * base == Decimal(task["cost"])


def request(prompt, count):
    return GenerateRequest(
        prompt=prompt,
        model="auto" if count == 1 else PRO,
        size="square",
        count=count,
        format="webp",
        n_inputs=count % 3,
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("create"), st.integers(1, 9), st.sampled_from(["good", "[half]", "[bad]"])
        ),
        st.tuples(st.just("advance"), st.floats(0, 8)),
        st.tuples(st.just("complete"), st.integers(0, 20)),
        st.tuples(st.just("progress"), st.sampled_from(["clock", "manual", "immediate"])),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1000), balance=st.sampled_from(["1", "10"]))
def test_money_adds_up_under_any_interleaving(steps, seed, balance):
    """
    After every step the balance is the opening one minus final costs, and the amount held is
    the sum of pending estimates, both never beyond what there was.
    """
    clock = ManualClock()
    state = State(
        Scenario.from_dict(
            {
                "seed": seed,
                "balance_usd": balance,
                "failures": [HALF_FAIL, {**ALL_FAIL, "share": 0.5}],
            }
        ),
        clock,
    )
    key = state.accounts.find("mak_simulator")
    for step in steps:
        play(state, clock, key, step)
        state.complete_due()
        check_books(state, key.account, units_of(balance))


def play(state, clock, key, step):
    if step[0] == "create":
        try:
            state.create(request(step[2], step[1]), key, b"{}")
        except Refusal:
            assert key.account.available < units_of("0.2") * step[1] + units_of("1")
    elif step[0] == "advance":
        clock.advance(step[1])
    elif step[0] == "complete":
        state.complete(task.task_id for task in state.tasks[: step[1]])
    else:
        state.change(state.scenario.changed({"progress": step[1]}))


def check_books(state, account, opening):
    ended = [task for task in state.tasks if not task.is_pending]
    pending = [task for task in state.tasks if task.is_pending]
    assert opening - sum(task.cost for task in ended) == account.balance
    assert sum(task.reserved for task in pending) == account.reserved
    assert account.available >= 0
    assert all(0 <= task.cost <= task.reserved for task in ended)
