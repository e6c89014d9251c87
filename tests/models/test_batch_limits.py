"""Limits of what a batch asks for all its rows."""

from __future__ import annotations

import pytest

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.batch import RequestDefaults, require_within_limits
from mynth_dagster.models.request import Rating, RatingLevel


def _levels(n_levels: int, value_chars: int = 3, description_chars: int = 5) -> Rating:
    values = [str(index).rjust(value_chars, "v") for index in range(n_levels)]
    return Rating(tuple(RatingLevel(value, "d" * description_chars) for value in values))


@pytest.fixture(params=LIMITS_BY_REVISION.values(), ids=list(LIMITS_BY_REVISION))
def limits(request):
    return request.param


@pytest.mark.parametrize(
    "defaults",
    [
        RequestDefaults(rating=Rating()),
        RequestDefaults(rating=_levels(2)),
        RequestDefaults(rating=_levels(7, 24, 150)),
        RequestDefaults(rating=_levels(2, 1, 1)),
        RequestDefaults(webhook_urls=tuple(f"https://h.example/{i}" for i in range(5))),
    ],
)
def test_defaults_at_the_limit_pass(defaults, limits):
    """Each limit itself is still allowed."""
    require_within_limits(defaults, limits)


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        (RequestDefaults(rating=_levels(1)), "1 levels; 2 to 7"),
        (RequestDefaults(rating=_levels(8)), "8 levels; 2 to 7"),
        (RequestDefaults(rating=_levels(2, 25)), "25 characters; 1 to 24"),
        (RequestDefaults(rating=_levels(2, 3, 151)), "151 characters; 1 to 150"),
        (RequestDefaults(rating=_levels(2, 3, 0)), "0 characters; 1 to 150"),
        (
            RequestDefaults(rating=Rating((RatingLevel("a", "x"), RatingLevel("a", "y")))),
            "same value",
        ),
        (
            RequestDefaults(webhook_urls=tuple(f"https://h.example/{i}" for i in range(6))),
            "6 endpoints; at most 5",
        ),
        (RequestDefaults(webhook_urls=("ftp://h.example",)), "http or https"),
    ],
)
def test_defaults_beyond_a_limit_are_refused(defaults, said, limits):
    """One step beyond a limit is refused with the figure and what is allowed."""
    with pytest.raises(ConfigError, match=said):
        require_within_limits(defaults, limits)
