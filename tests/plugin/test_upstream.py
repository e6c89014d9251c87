"""Prompts from another asset: frames and Arrow, unpartitioned and by the same windows."""

from __future__ import annotations

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from tests.plugin.conftest import DAILY, range_tags

CATALOGUE = dg.AssetKey(["catalogue", "products"])
ROWS = {"prompt_id": ["a", "b"], "prompt": ["a kite", "a boat"], "season": ["spring", "fall"]}


def _project_definitions(project, catalogue, **settings):
    project.simulator.set_scenario(progress="immediate")
    batch = project.definitions(prompts=CATALOGUE, **settings)
    return dg.Definitions.merge(batch, dg.Definitions(assets=[catalogue]))


def _materialize(project, defs, **kwargs):
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=project.instance, raise_on_error=False, **kwargs
    )


def _images(project):
    return pads.dataset(
        project.folder / "data" / "shots" / "images", partitioning="hive"
    ).to_table()


@pytest.mark.parametrize(
    "form",
    [
        pd.DataFrame,
        pa.table,
        lambda rows: pd.DataFrame(rows, index=["x", "y"]),
        lambda rows: pads.dataset(pa.table(rows)),
    ],
    ids=["frame", "table", "indexed frame", "dataset"],
)
def test_unpartitioned_asset_feeds_a_batch(project, form):
    """Whatever form it has, its other columns are carried to the images."""

    @dg.asset(key=CATALOGUE)
    def products():
        return form(ROWS)

    defs = _project_definitions(project, products, windows=None, shards=1)
    resources = {"io_manager": dg.InMemoryIOManager()}
    defs = dg.Definitions.merge(defs, dg.Definitions(resources=resources))

    assert _materialize(project, defs).success

    rows = _images(project).select(["prompt_id", "season"]).to_pylist()
    assert rows == [
        {"prompt_id": "a", "season": "spring"},
        {"prompt_id": "b", "season": "fall"},
    ]
    assert "__index_level_0__" not in _images(project).column_names


def _daily():
    @dg.asset(key=CATALOGUE, partitions_def=DAILY, backfill_policy=None)
    def products(context) -> pd.DataFrame:
        return pd.DataFrame({"prompt": [f"a kite on {context.partition_key}"]})

    return products


def test_each_window_gets_its_own_rows(project, tmp_path):
    """A range over two days reads two partitions of the upstream asset, one for each."""
    products = _daily()
    defs = _project_definitions(project, products)
    stored = {"io_manager": dg.FilesystemIOManager(base_dir=str(tmp_path / "stored"))}
    defs = dg.Definitions.merge(defs, dg.Definitions(resources=stored))
    job = defs.resolve_implicit_global_asset_job_def()
    for day in ("2026-11-19", "2026-11-20"):
        job.execute_in_process(
            instance=project.instance, asset_selection=[CATALOGUE], partition_key=day
        )

    result = project.execute("all", "2026-11-19|000", "2026-11-20|001", defs=defs)

    assert result.success
    found = _images(project).select(["date", "prompt_sent"]).to_pylist()
    assert sorted((row["date"], row["prompt_sent"]) for row in found) == [
        ("2026-11-19", "a kite on 2026-11-19"),
        ("2026-11-20", "a kite on 2026-11-20"),
    ]


def test_same_rows_for_every_window_of_an_unpartitioned_asset(project):
    """A catalogue without dates is asked for on each day."""

    @dg.asset(key=CATALOGUE)
    def products() -> pd.DataFrame:
        return pd.DataFrame({"prompt": ["a kite"]})

    defs = _project_definitions(project, products)
    job = defs.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=project.instance, asset_selection=[CATALOGUE])

    tags = range_tags("2026-11-19|000", "2026-11-20|001")
    assert project.execute("all", defs=defs, **tags).success
    assert project.n_accepted == 2


def test_other_values_are_refused_by_name(project):
    """What is no table is told with its type and the asset's name; nothing is sent."""

    @dg.asset(key=CATALOGUE)
    def products():
        return ["a kite"]

    defs = _project_definitions(project, products, windows=None, shards=1)

    result = _materialize(project, defs)

    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "catalogue/products: it is a list" in str(failure.step_failure_data.error)
    assert project.n_accepted == 0
