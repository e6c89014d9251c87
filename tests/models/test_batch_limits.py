"""Limits of what a batch asks for all its rows."""

from __future__ import annotations

from typing import Any

import pytest

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import LIMITS_BY_REVISION, RevisionLimits
from mynth_dagster.models.batch_settings import require_within_limits
from mynth_dagster.models.request import Rating, RatingLevel
from tests.batches import make_batch


def _levels(n_levels: int, value_chars: int = 3, description_chars: int = 5) -> Rating:
    values = [str(index).rjust(value_chars, "v") for index in range(n_levels)]
    return Rating(tuple(RatingLevel(value, "d" * description_chars) for value in values))


def _require(settings: dict[str, Any], limits: RevisionLimits) -> None:
    batch = make_batch(**settings)
    require_within_limits(batch.request, batch.delivery, limits)


@pytest.fixture(params=LIMITS_BY_REVISION.values(), ids=list(LIMITS_BY_REVISION))
def limits(request):
    return request.param


@pytest.mark.parametrize(
    "settings",
    [
        {"rating": Rating()},
        {"rating": _levels(2)},
        {"rating": _levels(7, 24, 150)},
        {"rating": _levels(2, 1, 1)},
        {"webhook_urls": tuple(f"https://h.example/{i}" for i in range(5))},
    ],
)
def test_settings_at_the_limit_pass(settings, limits):
    """Each limit itself is still allowed."""
    _require(settings, limits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rating": _levels(1)}, "1 levels; 2 to 7"),
        ({"rating": _levels(8)}, "8 levels; 2 to 7"),
        ({"rating": _levels(2, 25)}, "25 characters; 1 to 24"),
        ({"rating": _levels(2, 3, 151)}, "151 characters; 1 to 150"),
        ({"rating": _levels(2, 3, 0)}, "0 characters; 1 to 150"),
        (
            {"rating": Rating((RatingLevel("a", "x"), RatingLevel("a", "y")))},
            "same value",
        ),
        (
            {"webhook_urls": tuple(f"https://h.example/{i}" for i in range(6))},
            "6 endpoints; at most 5",
        ),
        ({"webhook_urls": ("ftp://h.example",)}, "http or https"),
    ],
)
def test_settings_beyond_a_limit_are_refused(settings, message, limits):
    """One step beyond a limit is refused with the figure and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        _require(settings, limits)
