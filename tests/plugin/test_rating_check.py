"""The check of content ratings: forbidden levels fail, unrated images warn, shares are told."""

from __future__ import annotations

import dagster as dg
import pytest

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.request import Rating, RatingLevel
from mynth_dagster.plugin.checks import Checks, content_rated
from mynth_dagster.tables.results import ResultsSummary

KEY = dg.AssetKey(["shots", "images"])
LEVELS = Rating((RatingLevel("calm", "nothing happens"), RatingLevel("wild", "much happens")))


def judged(*levels: dict[str, int], forbidden=(), warn=0.0, silent=0) -> dg.AssetCheckResult:
    summaries = [
        ResultsSummary(
            Slice(f"w{n}"),
            1,
            {},
            n_images=sum(found.values()) + silent,
            images_by_level=found,
            rows_by_level={level: ["p1", "p2"] for level in found},
        )
        for n, found in enumerate(levels)
    ]
    return content_rated(KEY, summaries, forbidden, warn)


def test_a_forbidden_level_fails_and_names_where():
    """One such image is one too many, whatever the others are."""
    result = judged({"sfw": 9}, {"sfw": 9, "nsfw": 2}, forbidden=("nsfw", "gore"))

    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert result.metadata["mynth/forbidden"].value == 2
    assert result.metadata["mynth/share_nsfw"].value == 0.1
    assert result.metadata["mynth/partitions"].value == "w1: 2 nsfw"
    assert result.metadata["mynth/rows"].value == "2 nsfw, as in p1, p2"


@pytest.mark.parametrize(("warn", "passed"), [(0.0, False), (0.24, False), (0.25, True)])
def test_images_that_could_not_be_rated_warn_above_a_share(warn, passed):
    """They may be anything; the share is of one partition."""
    result = judged({"sfw": 3, "(not rated)": 1}, {"sfw": 100}, warn=warn)

    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert result.metadata["mynth/partitions"].value == (
        "none" if passed else "w0: 25.0% not rated"
    )


def test_images_without_any_rating_are_not_rated():
    """Asked for, and not a word came back: the check does not pass for lack of figures."""
    result = judged({}, silent=5)

    assert not result.passed
    assert result.metadata["mynth/partitions"].value == "w0: 100.0% not rated"


def test_partitions_without_images_pass():
    """Nothing was made, so nothing is forbidden."""
    assert judged({}, forbidden=("nsfw",)).passed


def test_a_share_that_is_none_is_refused():
    """With the name of the setting."""
    with pytest.raises(ConfigError, match="unrated_share_warn"):
        Checks(unrated_share_warn=1.5)


def test_the_levels_of_a_run_are_judged(instant):
    """Own levels come back with each image, and the check sees them."""
    instant.write_prompts([f"prompt {n}" for n in range(40)])
    defs = instant.definitions(
        partitions_def=None,
        fan_out=1,
        rating=LEVELS,
        checks=Checks(forbidden_levels=("wild",)),
    )
    result = instant.execute("all", defs=defs)

    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "content_rating"]
    levels = found.metadata["mynth/images_by_level"].value
    assert set(levels) == {"calm", "wild"}
    assert sum(levels.values()) == 40
    assert not found.passed


def test_without_a_rating_there_is_no_such_check(instant):
    """A check that can only pass would tell nothing."""
    graph = instant.definitions().resolve_asset_graph()
    assert not [key for key in graph.asset_check_keys if key.name == "content_rating"]
