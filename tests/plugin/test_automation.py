"""A daily asset downstream of shards is requested once its day is whole, whatever the date."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
import pytest

from mynth_dagster import eager_any_date
from tests.plugin.conftest import DAILY

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
SHARDED = dg.MultiPartitionsDefinition(
    {"date": DAILY, "shard": dg.StaticPartitionsDefinition(["000", "001"])}
)
IMAGES = dg.AssetKey(["shots", "images"])


@dg.asset(deps=[IMAGES], partitions_def=DAILY, automation_condition=eager_any_date())
def report() -> None: ...


DEFS = dg.Definitions(assets=[dg.AssetSpec(IMAGES, partitions_def=SHARDED), report])


class Evaluator:
    """The daemon's evaluations, one after the other."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor = None
        self.n_landed = 0

    def land(self, *partitions: str, rows: str = "") -> None:
        """Report partitions; ``rows`` stands for what is in their tables, by default new ones."""
        for partition in partitions:
            self.n_landed += 1
            tags = {"dagster/data_version": rows or str(self.n_landed)}
            event = dg.AssetMaterialization(IMAGES, partition=partition, tags=tags)
            self.instance.report_runless_asset_event(event)

    def requested(self) -> set[str]:
        """What this evaluation asks for; it is then done."""
        found = dg.evaluate_automation_conditions(
            DEFS, instance=self.instance, cursor=self.cursor, evaluation_time=NOW
        )
        self.cursor = found.cursor
        wanted = found.get_requested_partitions(report.key)
        for partition in wanted:
            event = dg.AssetMaterialization(report.key, partition=partition)
            self.instance.report_runless_asset_event(event)
        return wanted


@pytest.fixture
def daemon():
    with dg.DagsterInstance.ephemeral() as instance:
        made = Evaluator(instance)
        made.requested()
        yield made


@pytest.mark.parametrize("day", ["2026-11-22", "2026-11-19"])
def test_day_is_requested_when_its_last_shard_lands(daemon, day):
    """Not after the first shard, once after the last, and then not again."""
    daemon.land(f"{day}|000")
    assert daemon.requested() == set()

    daemon.land(f"{day}|001")
    assert daemon.requested() == {day}
    assert daemon.requested() == set()


def test_backfilled_days_are_requested_together(daemon):
    """Several days that become whole between two looks are all asked for."""
    daemon.land("2026-11-18|000", "2026-11-18|001", "2026-11-20|000", "2026-11-20|001")

    assert daemon.requested() == {"2026-11-18", "2026-11-20"}


def test_late_images_ask_again(daemon):
    """A shard that is collected anew makes its day's report old."""
    daemon.land("2026-11-19|000", "2026-11-19|001")
    assert daemon.requested() == {"2026-11-19"}
    assert daemon.requested() == set()

    daemon.land("2026-11-19|000")

    assert daemon.requested() == {"2026-11-19"}


def test_table_that_is_written_again_as_it_was_wakes_nobody(daemon):
    """Only other rows make a report old."""
    daemon.land("2026-11-19|000", "2026-11-19|001", rows="a")
    assert daemon.requested() == {"2026-11-19"}

    daemon.land("2026-11-19|000", rows="a")
    assert daemon.requested() == set()

    daemon.land("2026-11-19|000", rows="b")
    assert daemon.requested() == {"2026-11-19"}
