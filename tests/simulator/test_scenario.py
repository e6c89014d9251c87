from __future__ import annotations

import json

import pytest

from mynth_dagster.simulator import (
    ApiKey,
    DeliveryRules,
    Destination,
    Distribution,
    Endpoint,
    FailureRule,
    FaultRule,
    Quirks,
    Scenario,
    ScenarioError,
)
from mynth_dagster.simulator.rng import random_share

FULL = Scenario(
    revision="2026-04",
    api_keys=(ApiKey("mak_a", spending_limit_usd="5"), ApiKey("mak_b", user_id="user_b")),
    balances_usd={"user_b": "2"},
    latency=Distribution("lognormal", median_s=3, high_s=60),
    failures=(FailureRule("images", image_indexes=(1, 2)),),
    faults=(FaultRule(kind="rate_limited", retry_after_s=2.5),),
    pixels={"square": "10x10"},
    provider_formats={"recraft/recraft-v4": "png"},
    destinations=(Destination("mine", url_template="https://img.example/{path}"),),
    webhooks=(Endpoint("https://hook.example", api_key_ids=("key_1",)),),
    deliveries=DeliveryRules(retry_window_s=60.0),
    quirks=Quirks(all_failed="completed"),
)


@pytest.mark.parametrize("scenario", [Scenario(), FULL])
def test_round_trip_through_json(scenario):
    """A scenario survives JSON unchanged."""
    assert scenario == Scenario.from_dict(json.loads(json.dumps(scenario.to_dict())))


def test_short_forms():
    """A bare key and a bare number of seconds stand for their objects."""
    scenario = Scenario.from_dict({"api_keys": ["mak_x"], "latency": 2, "response_delay_s": 0.5})

    assert (ApiKey("mak_x"),) == scenario.api_keys
    assert Distribution("fixed", value_s=2.0) == scenario.latency
    assert scenario.response_delay_s.value_s == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"revison": "2026-08"}, "'revison'; did you mean 'revision'"),
        ({"revision": "2025-01"}, "2026-04, 2026-08, 2026-10"),
        ({"api_keys": [{"key": "mak_a", "scopes": ["paint"]}]}, "'generate', 'manage', 'keys'"),
        ({"failures": [{"type": "image.paint"}]}, r"failures\[0\].type is 'image.paint'"),
        ({"provider_formats": {"x/y": "gif"}}, "'png', 'jpg', 'webp'"),
        ({"progress": "slow"}, "'clock', 'immediate', 'manual'"),
        ({"faults": [{"knd": "reset"}]}, r"faults\[0\].knd'; did you mean 'kind'"),
        ({"faults": [{"kind": "rest"}]}, r"faults\[0\].kind is 'rest'"),
        ({"faults": [{"share": 1.5}]}, r"faults\[0\].share"),
        ({"faults": [{"every": 0}]}, "every must be at least 1"),
        ({"faults": {}}, "faults must be a list"),
        ({"failures": [7]}, r"failures\[0\] must be an object"),
        ({"seed": "1"}, "seed must be of type int"),
        ({"seed": True}, "seed must be of type int"),
        ({"strict_fields": 1}, "strict_fields must be of type bool"),
        ({"balance_usd": "much"}, "not an amount"),
        ({"balances_usd": []}, "balances_usd must be an object"),
        ({"latency": {"kind": "uniform", "low_s": 3, "high_s": 1}}, "low_s must not exceed"),
        ({"latency": -1}, "negative"),
        ({"pixels": {"square": "0x10"}}, "not a size"),
        ({"pixels": {"square": "big"}}, "not a size"),
        ({"api_keys": ["mak_a", "mak_a"]}, "twice"),
        ({"quirks": {"all_faild": "completed"}}, "did you mean 'all_failed'"),
    ],
)
def test_refuses_nonsense_by_name(values, message):
    """What does not fit is refused with the place and the nearest or the allowed."""
    with pytest.raises(ScenarioError, match=message):
        Scenario.from_dict(values)


def test_quirks_follow_the_revision():
    """A quirk left open reads as its revision does; a set one stays."""
    assert Scenario(revision="2026-04").effective_quirks.insufficient_balance_status == 402
    assert Scenario(revision="2026-08").effective_quirks.insufficient_balance_status == 422
    assert Scenario(revision="2026-10").effective_quirks.insufficient_balance_status == 402
    chosen = Scenario(revision="2026-08", quirks=Quirks(token_lifetime_s=5)).effective_quirks
    assert (chosen.token_lifetime_s, chosen.error_body) == (5, "flat")


@pytest.mark.parametrize(
    ("distribution", "low_s", "high_s"),
    [
        (Distribution("fixed", value_s=3), 3, 3),
        (Distribution("uniform", low_s=1, high_s=10), 1, 10),
        (Distribution("lognormal", median_s=4, sigma=1, high_s=9), 0, 9),
        (Distribution("lognormal", median_s=4, sigma=0), 4, 4),
    ],
)
def test_distribution_bounds(distribution, low_s, high_s):
    """Draws stay within their bounds."""
    draws = [distribution.at(random_share(0, i)) for i in range(500)]

    assert low_s <= min(draws) + 1e-9
    assert max(draws) <= high_s + 1e-9


def test_lognormal_median():
    """Half of the lognormal durations are below the median."""
    assert pytest.approx(Distribution("lognormal", median_s=4, sigma=2).at(0.5)) == 4
    assert 0 <= Distribution("lognormal").at(0.0) < 0.1


def test_draws_repeat_and_spread():
    """A draw depends on seed and subject alone, and draws fill the unit interval."""
    draws = [random_share(1, "x", i) for i in range(1000)]

    assert draws == [random_share(1, "x", i) for i in range(1000)]
    assert all(0 <= value < 1 for value in draws)
    assert 0.45 < sum(draws) / len(draws) < 0.55
    assert random_share(1, "x") != random_share(2, "x")
