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

    defs = _project_definitions(project, products, partitions_def=None, fan_out=1)
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

    defs = _project_definitions(project, products, partitions_def=None, fan_out=1)

    result = _materialize(project, defs)

    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "catalogue/products: it is a list" in str(failure.step_failure_data.error)
    assert project.n_accepted == 0


def _by(definition):
    """An upstream asset that says in each prompt which partition it is of."""

    @dg.asset(key=CATALOGUE, partitions_def=definition)
    def products(context) -> pd.DataFrame:
        key = str(context.partition_key)
        return pd.DataFrame(
            {"prompt_id": [f"kite {key}", "sign"], "prompt": [f"a kite of {key}", "a sign"]}
        )

    return products


def _run_over(project, products, first, last=None, *, prompts=CATALOGUE, **settings):
    """Every upstream partition is there; then one run of the batch. Its prompts by window."""
    stored = {"io_manager": dg.FilesystemIOManager(base_dir=str(project.folder / "stored"))}
    for key in products.partitions_def.get_partition_keys():
        dg.materialize([products], partition_key=key, instance=project.instance, resources=stored)
    project.simulator.set_scenario(progress="immediate")
    defs = dg.Definitions.merge(
        project.definitions(prompts=prompts, **settings),
        dg.Definitions(assets=[products], resources=stored),
    )
    result = project.execute("all", first, last, defs=defs)
    assert result.success, [
        e.step_failure_data.error for e in result.all_events if e.is_step_failure
    ]
    rows = pads.dataset(project.folder / "data" / "shots" / "prompts", partitioning="hive")
    found = rows.to_table().sort_by("prompt_id").to_pylist()
    by_window: dict[str, list[str]] = {}
    for row in found:
        by_window.setdefault(str(row.get("date")), []).append(row["prompt"])
    return by_window


WEEKLY = dg.WeeklyPartitionsDefinition("2026-11-01", end_date="2026-11-22")
MONTHLY = dg.MonthlyPartitionsDefinition("2026-10-01", end_date="2026-12-01")
NOVEMBER = dg.DailyPartitionsDefinition("2026-11-01", end_date="2026-11-22")
HOURLY = dg.HourlyPartitionsDefinition("2026-11-19-00:00", end_date="2026-11-21-00:00")
REGIONS = dg.MultiPartitionsDefinition(
    {"date": DAILY, "region": dg.StaticPartitionsDefinition(["eu", "us"])}
)


def _kites(keys):
    return sorted([*(f"a kite of {key}" for key in keys), "a sign"])


@pytest.mark.parametrize("shards", [1, 2])
def test_window_gets_all_upstream_partitions_within_it(project, shards):
    """Each week of a range run has the rows of its seven days, equal rows of two days once."""
    first, last = (
        ("2026-11-01", "2026-11-08") if shards == 1 else ("2026-11-01|000", "2026-11-08|001")
    )

    found = _run_over(project, _by(NOVEMBER), first, last, partitions_def=WEEKLY, fan_out=shards)

    assert {week: sorted(prompts) for week, prompts in found.items()} == {
        "2026-11-01": _kites(f"2026-11-0{day}" for day in range(1, 8)),
        "2026-11-08": _kites(f"2026-11-{day:02d}" for day in range(8, 15)),
    }
    assert project.n_accepted == 2 * 8


def test_hours_make_a_day(project):
    """A day has the rows of its 24 hours."""
    found = _run_over(project, _by(HOURLY), "2026-11-19", partitions_def=DAILY, fan_out=1)

    assert sorted(found["2026-11-19"]) == _kites(f"2026-11-19-{hour:02d}:00" for hour in range(24))


def test_every_region_of_a_day_is_read(project):
    """Where the asset has a dimension more, a day has the rows of all its partitions."""
    found = _run_over(
        project, _by(REGIONS), "2026-11-19", "2026-11-20", partitions_def=DAILY, fan_out=1
    )

    assert {day: sorted(prompts) for day, prompts in found.items()} == {
        day: _kites([f"{day}|eu", f"{day}|us"]) for day in ("2026-11-19", "2026-11-20")
    }


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (
            dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1),
            {"2026-11-19": ["2026-11-18"], "2026-11-20": ["2026-11-19"]},
        ),
        (
            dg.TimeWindowPartitionMapping(start_offset=-1),
            {
                "2026-11-19": ["2026-11-18", "2026-11-19"],
                "2026-11-20": ["2026-11-19", "2026-11-20"],
            },
        ),
        (
            dg.SpecificPartitionsPartitionMapping(["2026-11-21"]),
            {"2026-11-19": ["2026-11-21"], "2026-11-20": ["2026-11-21"]},
        ),
        (
            dg.LastPartitionMapping(),
            {"2026-11-19": ["2026-11-23"], "2026-11-20": ["2026-11-23"]},
        ),
    ],
    ids=["day before", "both days", "one for all", "last"],
)
def test_each_window_of_a_range_gets_what_the_mapping_says(project, mapping, expected):
    """A mapping named in an AssetIn decides, in a run over two windows too."""
    prompts = dg.AssetIn(CATALOGUE, partition_mapping=mapping)

    found = _run_over(
        project,
        _by(DAILY),
        "2026-11-19",
        "2026-11-20",
        prompts=prompts,
        partitions_def=DAILY,
        fan_out=1,
    )

    assert {day: sorted(rows) for day, rows in found.items()} == {
        day: _kites(keys) for day, keys in expected.items()
    }


def test_batch_without_windows_reads_every_partition(project):
    """Without windows and fan-out all partitions of the asset are one table."""
    found = _run_over(project, _by(NOVEMBER), None, partitions_def=None, fan_out=1)

    assert len(found["None"]) == 22


@pytest.mark.parametrize(
    ("theirs", "settings", "mapping", "reason"),
    [
        (DAILY, {"partitions_def": HOURLY, "fan_out": 1}, None, "belong to several windows"),
        (DAILY, {"partitions_def": HOURLY, "fan_out": 2}, None, "belong to several windows"),
        (
            DAILY,
            {"partitions_def": HOURLY, "fan_out": 1},
            dg.TimeWindowPartitionMapping(),
            "belong to several windows",
        ),
        (MONTHLY, {"partitions_def": DAILY, "fan_out": 1}, None, "belong to several windows"),
        (WEEKLY, {"partitions_def": MONTHLY, "fan_out": 1}, None, "belong to several windows"),
        (
            dg.DailyPartitionsDefinition("2026-11-01", hour_offset=6),
            {"partitions_def": DAILY, "fan_out": 1},
            None,
            "belong to several windows",
        ),
        (DAILY, {"partitions_def": None, "fan_out": 2}, None, "do not fit"),
        (
            REGIONS,
            {"partitions_def": DAILY, "fan_out": 2},
            None,
            "is partitioned by date and region",
        ),
        (
            DAILY,
            {"partitions_def": DAILY, "fan_out": 2},
            dg.TimeWindowPartitionMapping(start_offset=-1),
            "joins windows alone",
        ),
    ],
    ids=[
        "day to hours",
        "day to hours and shards",
        "day to hours by name",
        "month to days",
        "week to months",
        "other hour",
        "days without windows",
        "regions and shards",
        "offset with shards",
    ],
)
def test_windows_that_do_not_fit_are_refused_when_defined(
    project, theirs, settings, mapping, reason
):
    """Rows that would be paid for in several windows are told when the location is loaded."""
    prompts = dg.AssetIn(CATALOGUE, partition_mapping=mapping)
    batch = project.definitions(prompts=prompts, **settings)
    defs = dg.Definitions.merge(batch, dg.Definitions(assets=[_by(theirs)]))

    with pytest.raises(dg.DagsterInvalidDefinitionError) as refused:
        defs.resolve_job_def("shots_submit")

    assert reason in str(refused.value.__cause__)


def test_table_of_several_windows_in_one_is_refused(project):
    """What an IO manager joined over two windows cannot be told apart; nothing is sent."""

    class Joined(dg.InMemoryIOManager):
        def load_input(self, context):
            return pd.DataFrame({"prompt": list(context.asset_partition_keys)})

    prompts = dg.AssetIn(CATALOGUE, input_manager_key="joined")
    defs = dg.Definitions.merge(
        project.definitions(prompts=prompts),
        dg.Definitions(assets=[_by(DAILY)], resources={"joined": Joined()}),
    )

    result = project.execute("submit", "2026-11-19|000", "2026-11-20|001", defs=defs)

    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "run one window at a time" in failure.step_failure_data.error.to_string()
    assert project.execute("submit", "2026-11-19|000", "2026-11-19|001", defs=defs).success
    assert project.n_accepted == 1
