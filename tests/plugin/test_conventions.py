"""What Dagster's own pages read of our assets: versions, names of tables, kinds of storage."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import extract_data_version_from_entry

from mynth_dagster import ImageRequest, build_image_batch

ONE = {"partitions_def": None, "fan_out": 1}
FIRST, LAST = "2026-11-19|000", "2026-11-19|001"


def _specs(**settings):
    defs = build_image_batch("shots", prompts="p.parquet", **settings)
    return {spec.key.path[-1]: spec for assets in defs.assets for spec in assets.specs}


def _version(project, table, partition=None):
    """The data version of a table's last materialization."""
    wanted = dg.AssetRecordsFilter(
        dg.AssetKey(["shots", table]), asset_partitions=partition and [partition]
    )
    (record,) = project.instance.fetch_materializations(wanted, limit=1).records
    version = extract_data_version_from_entry(record.event_log_entry)
    assert version is not None
    return version.value


def test_edit_of_what_is_asked_for_is_another_code_version():
    """So Dagster shows `prompts` and `tasks` as unsynced; what only costs or waits changes none."""
    plain, edited = _specs(), _specs(request=ImageRequest(size="square"))

    assert plain["prompts"].code_version == plain["tasks"].code_version
    assert edited["tasks"].code_version not in (None, plain["tasks"].code_version)
    assert plain["images"].code_version is None


def test_tables_have_the_names_and_kinds_that_dagster_knows():
    """A table's name as catalogues have it, and how it is stored."""
    specs = _specs()

    names = {table: spec.metadata["dagster/table_name"] for table, spec in specs.items()}
    assert names["images"] == "shots.images"
    assert {spec.tags["dagster/storage_kind"] for spec in specs.values()} == {"parquet"}


@pytest.mark.parametrize("table", ["prompts", "tasks", "images", "failures"])
def test_table_that_is_written_again_as_it_was_keeps_its_data_version(instant, table):
    """By its rows, whatever the ledger counted meanwhile; other rows are another version."""
    versions = []
    for n_rows in (3, 3, 4):
        rows = [*(f"a red kite, number {index}" for index in range(n_rows)), ""]
        instant.write_prompts(rows)
        assert instant.execute("all", defs=instant.definitions(**ONE)).success
        versions.append(_version(instant, table))

    # The first `tasks` were recorded before anything had come back, and sent the same.
    assert versions[0] == versions[1]
    assert (versions[1] != versions[2]) or table == "failures"


def test_partitions_of_one_run_have_a_data_version_together(instant):
    """Dagster takes one for a run: the same rows again are the same version."""
    versions = []
    for _ in range(2):
        assert instant.execute("all", FIRST, LAST).success
        versions.append({_version(instant, "images", key) for key in (FIRST, LAST)})

    assert versions[0] == versions[1]
    assert len(versions[0]) == 1


def test_partition_of_a_run_that_failed_later_has_its_own_data_version(project):
    """Events that are logged by hand carry it as a tag."""
    assert project.execute("submit", FIRST).success
    project.simulator.complete()
    assert project.execute("collect", FIRST).success
    alone = _version(project, "images", FIRST)
    assert len(alone) == 16
