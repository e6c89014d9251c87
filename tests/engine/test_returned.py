"""What comes back beside the picture: ratings, destinations, metadata, prompts as sent."""

from __future__ import annotations

import json

import pytest

from mynth_dagster.engine.run import RunProgress
from mynth_dagster.models.request import Rating, RatingLevel
from tests.factories import KEY, MODEL, delete_destinations

SEVEN = tuple(RatingLevel(f"level {n}", "d" * 150) for n in range(7))


def one(**cells):
    return [{"prompt_id": "a", "prompt": "a kite", **cells}]


@pytest.mark.parametrize("levels", [(), SEVEN[:2], SEVEN], ids=["sfw or nsfw", "two", "seven"])
def test_each_image_has_a_level_of_the_scale_asked_for(bench, levels):
    """The vendor's own scale, or up to seven levels of ours."""
    work = bench()
    work.run(one(count=5), rating=Rating(levels))

    found = {row["rating_level"] for row in work.table("images")}
    assert found <= ({level.value for level in levels} or {"sfw", "nsfw"})
    assert len(work.table("images")) == 5


def test_a_rating_that_fails_leaves_the_image(new_bench):
    """It is delivered and paid for; the code of the failed rating stands beside it."""
    work = new_bench(unratable="kite")
    report = work.run(one(), rating=Rating())

    (row,) = work.table("images")
    assert report.images == 1
    assert (row["rating_level"], row["rating_error"]) == (None, "rating_failed")


def test_an_image_tells_whether_its_destination_took_it(new_bench):
    """By name and status; where it did not, Mynth's own copy is still there."""
    work = new_bench(destinations=["mine", "full"], failing_destinations=["full"])
    work.run([*one(destination="mine"), {**one(destination="full")[0], "prompt_id": "b"}])

    good, bad = work.table("images")
    told = ("destination", "destination_status", "destination_error")
    assert [good[name] for name in told] == ["mine", "success", None]
    assert [bad[name] for name in told] == ["full", "failed", "destination_failed"]
    assert bad["mynth_url"]


def test_a_revision_without_destinations_refuses_the_row(bench):
    """Before anything is spent, by name of the revision."""
    work = bench(destinations=["mine"])
    if work.server.scenario.revision != "2026-04":
        assert work.run(one(destination="mine")).images == 1
        return
    report = work.run(one(destination="mine"))
    (failure,) = work.table("failures")
    assert (report.posts_sent, failure["error_code"]) == (0, "invalid_destination")
    assert "2026-04 has no destinations" in failure["error_message"]


def test_metadata_comes_back_with_each_image(bench):
    """As it was sent, nested values and all, without the tag that is ours."""
    work = bench()
    sent = {"job": 7, "tags": ["é", {"deep": 1.5}], "none": None}
    work.run(one(metadata=json.dumps(sent), count=2))

    rows = work.table("images")
    assert [json.loads(row["metadata"]) for row in rows] == [sent, sent]


def test_an_enhanced_prompt_is_shown_as_it_was_sent(bench):
    """What Mynth made of the prompt, by each revision's enhancement."""
    work = bench()
    work.run(one(enhance="magic"))
    (row,) = work.table("images")
    assert row["prompt_sent"].startswith("a kite")
    assert row["prompt_sent"] != "a kite"


def test_enhancement_by_the_model_itself_is_of_the_older_revision(bench):
    """The newer one refuses the row, and says what it takes."""
    work = bench()
    report = work.run(one(enhance="native"))
    if work.server.scenario.revision == "2026-04":
        assert report.images == 1
        return
    (failure,) = work.table("failures")
    assert (failure["error_code"], report.posts_sent) == ("invalid_enhance", 0)


@pytest.mark.parametrize("size", ["auto_mynth", "auto_native"])
def test_who_chooses_the_size_can_be_named_in_the_older_revision(bench, size):
    """As the object that it takes; the newer one has no such size."""
    work = bench(strict_fields=True)
    report = work.run(one(size=size), models=(MODEL,))
    if work.server.scenario.revision == "2026-04":
        assert report.images == 1
        return
    assert report.failures == {"unknown_size": 1}


@pytest.mark.parametrize("size", ["16:9_4k", "1:2_4k"])
def test_4k_is_asked_only_of_models_that_have_it(bench, size):
    """Where it would fail; in the older revision it falls back to the usual size, as documented."""
    work = bench()
    rows = [
        {
            "prompt_id": "able",
            "prompt": "x",
            "size": size,
            "model": "google/gemini-3.1-flash-image",
        },
        {"prompt_id": "not", "prompt": "x", "size": size, "model": "recraft/recraft-v4"},
    ]
    report = work.run(rows)

    falls_back = work.server.scenario.revision == "2026-04"
    assert report.failures == ({} if falls_back else {"capability_not_supported": 1})
    able, *others = work.table("images")
    assert able["width"] * able["height"] > 4_000_000
    assert [image["width"] * image["height"] < 4_000_000 for image in others] == [True] * falls_back


def test_a_destination_that_the_account_does_not_have_costs_nothing(new_bench):
    """The row that names it is refused alone, with those that there are."""
    work = new_bench(destinations=["mine"])
    rows = [*one(destination="mine"), {**one(destination="mien")[0], "prompt_id": "b"}]

    report = work.run(rows)

    assert (report.images, report.posts_sent) == (1, 1)
    (failure,) = work.table("failures")
    assert failure["error_code"] == "unknown_destination"
    assert "did you mean 'mine'?" in failure["error_message"]


def test_a_key_that_may_not_see_destinations_leaves_them_to_mynth(new_bench):
    """What cannot be asked is not guessed: Mynth refuses the row itself, free of charge."""
    work = new_bench(destinations=["mine"], api_keys=[{"key": KEY, "scopes": ["generate"]}])
    rows = [*one(destination="mine"), {**one(destination="mien")[0], "prompt_id": "b"}]

    report = work.run(rows)

    assert (report.images, report.posts_sent) == (1, 2)
    (failure,) = work.table("failures")
    assert (failure["error_code"], failure["field"]) == ("validation_error", "destination")
    assert failure["money"] == "not charged"


def test_the_quote_says_when_a_destination_is_gone_since_prompts_were_checked(new_bench):
    """A note, before anything is sent."""
    work = new_bench(destinations=["mine"])

    def take_away(*_) -> None:
        delete_destinations(work.server.url)

    report = work.run(one(destination="mine"), progress=RunProgress(on_prepared=take_away))

    assert any("no destination 'mine'" in note for note in report.notes)
