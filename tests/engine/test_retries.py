"""Rows whose task failed may be asked for again by themselves, so often and no more."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mynth_dagster.engine.plan import RunOptions
from mynth_dagster.errors import ConfigError
from mynth_dagster.models.money import units_from_usd
from tests.batches import make_batch
from tests.factories import MODEL

FAILS_TWICE = [{"first": 2, "prompt_contains": "prompt 3"}]


@pytest.mark.parametrize(
    ("revision", "retries", "n_images", "n_posts"),
    [("2026-08", 0, 5, 6), ("2026-04", 1, 5, 7), ("2026-10", 2, 6, 8)],
)
def test_a_failed_row_is_tried_again_as_often_as_allowed(bench, retries, n_images, n_posts):
    """Within one run; each try is a generation of its own, and only the failed row is sent."""
    work = bench(failures=FAILS_TWICE)

    report = work.run(6, retries=retries)

    assert (report.images, work.n_posts) == (n_images, n_posts)
    assert work.run(6, retries=retries).posts_sent == 0
    work.require_sound(6)


def test_the_quote_of_a_run_is_that_of_all_its_passes(new_bench):
    """Six rows and one that is tried again: seven requests were announced, sent and reserved."""
    work = new_bench(prices_usd={MODEL: "0.01"}, failures=[{"first": 1, "prompt_contains": "3"}])

    report = work.run(6, retries=3)

    assert report.posts_sent == 7
    assert report.quoted_units == report.reserved_units == 7 * units_from_usd(Decimal("0.01"))
    assert report.quote_is_exact


def test_what_would_fail_again_is_not_tried_again(new_bench):
    """A refused prompt is refused again: nothing is spent on it."""
    work = new_bench(failures=[{"kind": "moderation", "prompt_contains": "prompt 3"}])

    report = work.run(6, retries=5)

    assert (report.images, work.n_posts) == (5, 6)


def test_retries_keep_within_the_budget(new_bench):
    """A retry is a request like any other: no money, no retry."""
    model = "black-forest-labs/flux.2-dev"
    work = new_bench(prices_usd={model: "0.01"}, failures=FAILS_TWICE)

    report = work.run(6, retries=2, budget_usd={"batch": "0.05"})

    assert report.images <= 5
    assert report.stopped == "budget_exceeded"


def test_a_persons_retry_is_sent_once(new_bench):
    """`force` with retries: every row again, then only what failed."""
    work = new_bench()
    work.run(4)
    work.server.set_scenario(failures=[{"first": 1, "prompt_contains": "prompt 2"}])

    report = work.run(4, retries=2, options=RunOptions(force=True))

    assert work.n_posts == 4 + 4 + 1
    assert report.images == 4


def test_retries_have_a_bound():
    """A table that fails for ever must not be paid for for ever."""
    with pytest.raises(ConfigError, match="retries: 11: should be less than or equal to 10"):
        make_batch("b", retries=11)
