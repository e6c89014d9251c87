"""Which partitions a run is for: those of its range, however it was launched."""

from __future__ import annotations

from itertools import product

import dagster as dg
import pandas as pd
import pyarrow.dataset as pads
import pytest

from mynth_dagster.plugin.io_manager import MynthTables
from tests.plugin.conftest import DAILY, MODEL, range_tags

DAYS = ("2026-11-19", "2026-11-20", "2026-11-21")
MODELS = [MODEL, "black-forest-labs/flux.2-pro"]
FILES = dg.DynamicPartitionsDefinition(name="files")
START = "dagster/asset_partition_range_start"


def _backfill_tags(defs, job, ends, first_of_all):
    """What Dagster's job backfill gives a run: its range, and tags of its very first partition."""
    tags = defs.resolve_job_def(job).get_tags_for_partition_key(first_of_all, None)
    beside = {name: value for name, value in tags.items() if name != "dagster/partition"}
    return {**beside, **range_tags(*ends)}


def _message(result):
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return str(failure.step_failure_data.error.to_string())


@pytest.mark.parametrize(
    ("settings", "windows", "fan_out", "ranges"),
    [
        ({}, DAYS, ("000", "001"), [(f"{day}|000", f"{day}|001") for day in DAYS]),
        (
            {"fan_out": 3},
            DAYS,
            ("000", "001"),
            [(f"{DAYS[0]}|{shard}", f"{DAYS[2]}|{shard}") for shard in ("000", "001")],
        ),
        (
            {"fan_out": "model", "models": MODELS},
            DAYS[1:],
            MODELS,
            [(f"{day}|{MODELS[0]}", f"{day}|{MODELS[1]}") for day in DAYS[1:]],
        ),
        (
            {"partitions_def": FILES},
            ("monday", "tuesday", "friday"),
            ("000", "001"),
            [("monday|000", "tuesday|001"), ("friday|000", "friday|001")],
        ),
        ({"fan_out": 1}, DAYS, [""], [(DAYS[0], DAYS[2])]),
        ({"partitions_def": None}, [""], ("000", "001"), [("000", "001")]),
    ],
    ids=["by window", "by shard", "models", "files", "windows alone", "shards alone"],
)
def test_each_run_of_a_jobs_backfill_does_its_own_range(
    instant, settings, windows, fan_out, ranges
):
    """Every chosen partition is sent, collected and recorded once, and no other one is."""
    instant.instance.add_dynamic_partitions("files", ["monday", "tuesday", "friday"])
    defs = instant.definitions(**settings)
    asked = [instant.definitions(**settings)]

    for ends in ranges:
        tags = _backfill_tags(asked[0], "shots_all", ends, ranges[0][0])
        assert instant.execute("all", defs=defs, **tags).success

    chosen = sorted("|".join(filter(None, key)) for key in product(windows, fan_out))
    for table in ("prompts", "tasks", "images", "failures"):
        assert sorted(instant.recorded(table)) == chosen
    images = pads.dataset(instant.folder / "data" / "shots" / "images").count_rows()
    assert instant.n_accepted == images > 0


def test_the_list_of_runs_tells_what_each_is_for(instant):
    """Of a partition and of ranges that a person chose, also when a run is re-executed."""
    first, last, later = f"{DAYS[0]}|000", f"{DAYS[0]}|001", f"{DAYS[2]}|001"
    alone = instant.execute("submit", first)
    day = instant.execute("submit", first, last)
    days = instant.execute("submit", first, later)
    again = instant.execute_again(day.run_id)

    runs = [alone.run_id, day.run_id, days.run_id, again.run_id]
    tags = [instant.instance.get_run_by_id(run).tags["mynth/partitions"] for run in runs]

    assert tags == [
        first,
        f"{DAYS[0]}, 2 partitions",
        f"{DAYS[0]} to {DAYS[2]}, 6 partitions",
        f"{DAYS[0]}, 2 partitions",
    ]


def test_forced_backfill_pays_for_the_rows_of_its_ranges_alone(instant):
    """With `force`, each run of a backfill pays its own rows again, and those of no other run."""
    days = [(f"{day}|000", f"{day}|001") for day in DAYS[:2]]
    defs = instant.definitions()
    assert instant.execute("all", days[0][0], days[1][1]).success
    config = {"force": True, "confirm": True}

    tags = _backfill_tags(defs, "shots_all", days[1], days[0][0])
    assert instant.execute("all", defs=defs, config=config, **tags).success

    tasks = pads.dataset(instant.folder / "data" / "shots" / "tasks", partitioning="hive")
    rows = tasks.to_table(columns=["date", "generation"]).to_pylist()
    generations = {day: {row["generation"] for row in rows if row["date"] == day} for day in DAYS}
    assert generations[DAYS[0]] == {1}
    assert generations[DAYS[1]] == {1, 2}
    assert instant.n_accepted == 3 * 12


def test_backfill_reads_the_upstream_rows_of_its_own_windows(instant):
    """A run for the second day is fed that day's partition of the asset it reads, not the first."""
    upstream, stored = dg.AssetKey("products"), str(instant.folder / "stored")

    @dg.asset(key=upstream, partitions_def=DAILY)
    def products(context) -> pd.DataFrame:
        return pd.DataFrame({"prompt": [f"a kite on {context.partition_key}"]})

    shared = dg.Definitions(
        assets=[products], resources={"io_manager": dg.FilesystemIOManager(base_dir=stored)}
    )
    defs = dg.Definitions.merge(instant.definitions(prompts=upstream), shared)
    for day in DAYS:
        dg.materialize(
            [products],
            partition_key=day,
            instance=instant.instance,
            resources={"io_manager": dg.FilesystemIOManager(base_dir=stored)},
        )

    ends = (f"{DAYS[1]}|000", f"{DAYS[2]}|001")
    tags = _backfill_tags(defs, "shots_all", ends, f"{DAYS[0]}|000")
    assert instant.execute("all", defs=defs, **tags).success

    images = pads.dataset(instant.folder / "data" / "shots" / "images", partitioning="hive")
    prompts = images.to_table(columns=["date", "prompt_sent"]).to_pylist()
    assert sorted((row["date"], row["prompt_sent"]) for row in prompts) == [
        (day, f"a kite on {day}") for day in DAYS[1:]
    ]


def test_asset_downstream_reads_the_tables_of_the_range(instant):
    """An asset behind `images` is given the partitions of its run's range by `MynthTables`."""
    instant.execute("all", f"{DAYS[0]}|000", f"{DAYS[1]}|001")
    defs = instant.definitions()
    n_rows = []

    @dg.asset(
        partitions_def=defs.resolve_assets_def(dg.AssetKey(["shots", "images"])).partitions_def,
        ins={"images": dg.AssetIn(dg.AssetKey(["shots", "images"]), input_manager_key="tables")},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def sheet(images: pd.DataFrame) -> None:
        n_rows.append(len(images))

    tables = MynthTables(root=str(instant.folder / "data"))
    job = dg.define_asset_job("sheets", selection=[sheet.key])
    mine = dg.Definitions(assets=[sheet], jobs=[job], resources={"tables": tables})
    defs = dg.Definitions.merge(defs, mine)

    ends = (f"{DAYS[1]}|000", f"{DAYS[1]}|001")
    tags = _backfill_tags(defs, "sheets", ends, f"{DAYS[0]}|000")
    assert (
        defs.resolve_job_def("sheets")
        .execute_in_process(instance=instant.instance, tags=tags)
        .success
    )
    assert n_rows == [12]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"dagster/partition": f"{DAYS[0]}|007"}, f"the batch has no partition {DAYS[0]}|007"),
        ({"dagster/partition": DAYS[0]}, f"the batch has no partition {DAYS[0]}"),
        (range_tags(f"{DAYS[1]}|000", f"{DAYS[0]}|001"), "no partition lies between"),
        (
            {
                "dagster/partition": f"{DAYS[0]}|000",
                "dagster/partition/date": DAYS[1],
                "dagster/partition/shard": "000",
            },
            f"the partition {DAYS[0]}|000, and by its dimensions {DAYS[1]}|000",
        ),
        ({}, "it names none, and the batch has partitions"),
    ],
)
@pytest.mark.parametrize("phase", ["submit", "collect"])
def test_run_with_unclear_partitions_fails_before_anything(project, phase, tags, said):
    """Tags that contradict each other, or name what is not there, are told; nothing is sent."""
    result = project.execute(phase, **tags)

    assert not result.success
    assert said in _message(result)
    assert "Money: nothing was sent and nothing was charged. Next: start a run" in _message(result)
    assert project.n_accepted == 0


def test_sensor_knows_the_partitions_of_active_backfills(project):
    """A partition in the range of a running backfill is not collected beside it."""
    days = [(f"{day}|000", f"{day}|001") for day in DAYS[:2]]
    project.execute("submit", days[0][0], days[1][1])
    project.simulator.complete()
    defs = project.definitions()
    project.instance.create_run_for_job(
        job_def=defs.resolve_job_def("shots_collect"),
        tags=_backfill_tags(defs, "shots_collect", days[1], days[0][0]),
        status=dg.DagsterRunStatus.STARTED,
    )

    requests = project.tick().run_requests

    assert [request.tags[START] for request in requests] == [days[0][0]]
