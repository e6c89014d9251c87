"""Ratings, alt texts and reviews: one paid task for each image, with the same promises."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from mynth_dagster.engine.asking import NOTHING_SPECIAL, Asking, Retry
from mynth_dagster.engine.inspect import InspectionProgress, inspect_images
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import ConfigError, UnsupportedFeatureError
from mynth_dagster.models.batch import Batch, RequestDefaults
from mynth_dagster.models.budget import budget_from_usd
from mynth_dagster.models.inspection import InspectionKind, InspectionSettings
from mynth_dagster.models.request import RatingLevel
from mynth_dagster.tables.inspection_tables import InspectionSummary
from tests.engine.bench import Bench
from tests.factories import MODEL

RATE, ALT, REVIEW = (InspectionSettings(kind) for kind in InspectionKind)
ALL = [RATE, ALT, REVIEW]
TWO = RequestDefaults(count=2)
MINUTE_S = 60.0


def look(
    work: Bench,
    settings: InspectionSettings = RATE,
    asking: Asking = NOTHING_SPECIAL,
    *,
    progress: InspectionProgress | None = None,
    prices: dict[str, Any] | None = None,
    **own: Any,
) -> InspectionSummary:
    """One run that asks about the images of the bench's batch."""
    images = Batch(name="b", models=(MODEL,), prices_usd=prices or {})

    async def once() -> InspectionSummary:
        async with work.session() as session:
            batch = images.inspecting(settings, **own)
            found = inspect_images(
                session,
                batch,
                batch.slices(),
                submitter="test",
                stop=StopSwitch(),
                progress=progress or InspectionProgress(),
                asking=asking,
            )
            (summary,) = [one async for one in found]
            return summary

    return asyncio.run(once())


def looks(work: Bench, kind: InspectionKind = InspectionKind.RATE) -> Counter[str]:
    """Accepted requests by the URL that they are about, as the simulator counts."""
    route = f"POST /image/{kind.value}"
    entries = [entry for entry in work.log["accepted"] if entry["route"] == route]
    return Counter(url for entry in entries for url in entry["urls"])


@pytest.fixture
def made(new_bench):
    """A bench with images of so many rows, two of each."""

    def make(n_rows: int = 6, **scenario: Any) -> Bench:
        work = new_bench(**scenario)
        work.run(n_rows, defaults=TWO)
        return work

    return make


@pytest.mark.parametrize("settings", ALL, ids=lambda s: s.kind.value)
def test_each_image_is_looked_at_once(made, settings):
    """And asked about nothing again by a second run, which writes the same bytes."""
    work = made()
    summary = look(work, settings)
    assert (summary.n_images, summary.n_answered) == (12, 12)
    urls = {row["mynth_url"] for row in work.table("images")}
    assert looks(work, settings.kind) == dict.fromkeys(urls, 1)

    (file,) = (work.root / "b" / settings.kind.table).rglob("*.parquet")
    before = file.read_bytes()
    look(work, settings)
    assert looks(work, settings.kind).total() == 12
    assert file.read_bytes() == before


def test_answers_stand_beside_their_images(made):
    """Each table has its own columns, and the keys to join with `images`."""
    work = made(2)
    for settings in ALL:
        look(work, settings)

    images = [(row["request_key"], row["image_index"]) for row in work.table("images")]
    for settings in ALL:
        rows = work.table(settings.kind.table)
        assert [(row["request_key"], row["image_index"]) for row in rows] == images
        assert {row["status"] for row in rows} == {"completed"}
        assert all(row["cost_usd"] > 0 for row in rows)
    assert {row["level"] for row in work.table("ratings")} <= {"sfw", "nsfw"}
    assert all(row["alt"] for row in work.table("alt_texts"))
    (review, *_) = work.table("reviews")
    assert 1 <= review["score"] <= 4
    assert review["findings"][0]["severity"] in ("critical", "major", "minor")
    assert review["strengths"][0]["confidence"] in ("low", "medium", "high")


def test_own_levels_and_effort_are_part_of_the_wish(made):
    """Another scale is another question, and paid for."""
    work = made(1)
    levels = (RatingLevel("calm", "quiet"), RatingLevel("wild", "loud"))
    look(work, RATE)
    look(work, InspectionSettings(InspectionKind.RATE, levels))
    assert looks(work).total() == 4
    assert {row["level"] for row in work.table("ratings")} <= {"calm", "wild"}

    look(work, InspectionSettings(InspectionKind.REVIEW, effort="low"))
    look(work, InspectionSettings(InspectionKind.REVIEW, effort="low"))
    assert looks(work, InspectionKind.REVIEW).total() == 2


def test_only_new_images_are_asked_about(made):
    """Rows that were added, and rows that were paid for again."""
    work = made(3)
    look(work)
    work.run(5, defaults=TWO)
    assert look(work).n_images == 10
    assert looks(work).total() == 10


@pytest.mark.parametrize("kind", ["reset", "truncated", "status"])
def test_a_lost_answer_is_found_by_what_it_was_about(made, kind):
    """Such requests carry no tag: type and URL tell whose task it is, and none is sent again."""
    work = made()
    work.server.set_scenario(faults=[{"route": "POST /image/rate", "kind": kind, "every": 4}])
    look(work)
    work.server.set_scenario(faults=())
    for pause_s in (0.0, 20 * MINUTE_S, 4 * MINUTE_S, 100 * MINUTE_S, 4 * MINUTE_S):
        work.clock.advance(pause_s)
        summary = look(work)

    assert summary.n_answered == 12
    assert max(looks(work).values()) == 1
    assert look(work).n_answered == 12
    assert looks(work).total() == 12


def test_a_task_that_fails_is_a_row_with_a_next_step(made):
    """Asked for again it is paid for again, and only when somebody asks."""
    work = made(2)
    fault = {"kind": "status", "status": 400, "code": "validation_error", "first": 1}
    work.server.set_scenario(faults=[{"route": "POST /image/rate", **fault}])
    summary = look(work)

    (bad,) = [row for row in work.table("ratings") if row["status"] != "completed"]
    assert (summary.n_answered, bad["status"], bad["money"]) == (3, "rejected", "not charged")
    assert bad["error_code"] == "validation_error"
    assert "ratings" in bad["next_step"]

    assert look(work).n_answered == 3
    assert look(work, asking=Asking(Retry.FAILED)).n_answered == 4


def test_a_budget_of_its_own_stops_it(made):
    """Money spent on images does not count, money spent on looking does."""
    work = made(3)
    budget = budget_from_usd({"batch": "0.0005"})
    summary = look(work, budget=budget, prices={"image.rate": "0.0002"})

    assert looks(work).total() == 2
    withheld = [row for row in work.table("ratings") if row["status"] == "withheld"]
    assert (len(withheld), withheld[0]["error_code"]) == (4, "budget_exceeded")
    assert summary.n_answered == 2


def test_the_receipt_knows_it_by_its_own_name(made):
    """Images and looks at them are told apart."""
    work = made(2)
    look(work)
    charged = dict(work.query("SELECT batch, sum(charged_units) FROM intents GROUP BY batch"))
    assert set(charged) == {"b", "b/ratings"}
    by_route = Counter(entry["route"] for entry in work.log["accepted"])
    assert by_route == {"POST /image/generate": 2, "POST /image/rate": 4}


def test_the_older_revision_has_no_such_tasks(bench):
    """It says so before anything is spent; the newer one has them."""
    work = bench()
    work.run(1)
    if work.server.scenario.revision != "2026-04":
        assert look(work).n_answered == 1
        return
    with pytest.raises(UnsupportedFeatureError, match="2026-04 has no tasks that look at images"):
        look(work)
    assert looks(work).total() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (InspectionSettings(InspectionKind.REVIEW, effort="huge"), "none of low, high"),
        (InspectionSettings(InspectionKind.ALT, effort="low"), "only reviews have an effort"),
        (InspectionSettings(InspectionKind.ALT, (RatingLevel("a", "b"),)), "only ratings"),
        (InspectionSettings(InspectionKind.RATE, (RatingLevel("a", "b"),)), "2 to 7"),
    ],
)
def test_a_question_that_mynth_does_not_know_is_refused(made, settings, said):
    """With the setting, the value and what is allowed; nothing is sent."""
    work = made(1)
    with pytest.raises(ConfigError, match=said):
        look(work, settings)
    assert looks(work, settings.kind).total() == 0
