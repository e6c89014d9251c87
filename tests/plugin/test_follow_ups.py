"""Follow-ups as assets: one paid task each, in their own partition, asked for once."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pyarrow.dataset as ds
import pytest

from mynth_dagster import FollowUp, ImageRequest
from mynth_dagster.errors import ConfigError

FIRST, LAST = "2026-11-19|000", "2026-11-20|001"
FOLLOW_UPS = [
    FollowUp(table="ratings"),
    FollowUp(table="alt_texts"),
    FollowUp(table="reviews", effort="low"),
]


def routes(project) -> Counter[str]:
    return Counter(entry["route"] for entry in project.simulator.log()["accepted"])


def test_all_in_one_run_asks_about_each_image_once(instant):
    """Images first, then a task for each of them in each table; a second run asks nothing."""
    defs = instant.definitions(follow_ups=FOLLOW_UPS)
    for _ in range(2):
        assert instant.execute("all", FIRST, LAST, defs=defs).success

    found = routes(instant)
    n_images = found["POST /image/generate"]
    assert n_images > 0
    assert {found[f"POST /image/{kind}"] for kind in ("rate", "alt", "review")} == {n_images}
    for follow_up in FOLLOW_UPS:
        rows = ds.dataset(instant.folder / "data" / "shots" / follow_up.table, partitioning="hive")
        assert rows.to_table().num_rows == n_images
        records = instant.instance.fetch_materializations(
            dg.AssetKey(["shots", follow_up.table]), limit=100
        ).records
        assert {r.partition_key for r in records} == {
            f"{day}|{shard}" for day in ("2026-11-19", "2026-11-20") for shard in ("000", "001")
        }


def test_the_job_of_follow_ups_asks_about_what_was_collected(instant):
    """Apart from sending and collecting, and with its money on the materialization."""
    defs = instant.definitions(partitions_def=None, fan_out=1, follow_ups=FOLLOW_UPS[:1])
    assert instant.execute("all", defs=instant.definitions(partitions_def=None, fan_out=1)).success
    result = instant.execute("follow_up", defs=defs)

    (event,) = result.get_asset_materialization_events()
    told = event.materialization.metadata
    assert told["mynth/answered"].value == told["dagster/row_count"].value > 0
    assert told["mynth/charged_usd"].value > 0
    assert (
        "dagster/column_schema"
        in defs.resolve_asset_graph().get(dg.AssetKey(["shots", "ratings"])).metadata
    )


def test_a_follow_up_stops_at_its_own_budget_and_says_so(instant):
    """The run fails with the money; what is beyond the cap is withheld, not lost."""
    follow_up = FollowUp(table="ratings", budget_usd={"batch": "0.0003"})
    prices = {"image.rate": "0.0002"}
    one = {"partitions_def": None, "fan_out": 1}
    assert instant.execute("all", defs=instant.definitions(**one)).success
    defs = instant.definitions(**one, follow_ups=[follow_up], prices_usd=prices)
    result = instant.execute("follow_up", defs=defs)

    assert not result.success
    assert routes(instant)["POST /image/rate"] == 1
    assert "budget" in str(result.all_events)


def test_an_automatic_follow_up_has_its_condition(instant):
    """Requested whenever its images have landed; the others are asked for by hand."""
    follow_ups = [FollowUp(table="ratings", automatic=True), FollowUp(table="reviews")]
    graph = instant.definitions(follow_ups=follow_ups).resolve_asset_graph()
    condition = graph.get(dg.AssetKey(["shots", "ratings"])).automation_condition
    assert condition.get_label() == "eager_any_date"
    assert graph.get(dg.AssetKey(["shots", "reviews"])).automation_condition is None


def test_a_table_that_is_asked_for_twice_is_refused_when_the_batch_is_defined():
    """By name, with what is allowed."""
    with pytest.raises(ConfigError, match=r"follow_ups.*each table at most once"):
        ImageRequest(follow_ups=[FollowUp(table="ratings"), FollowUp(table="ratings")])
