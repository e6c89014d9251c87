"""Downstream assets read the tables of a batch in the form they ask for."""

import shutil

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from mynth_dagster import MynthTables
from tests.plugin.conftest import DAILY

IMAGES = dg.AssetKey(["shots", "images"])
SEEN = {}


def _definitions(project, downstream):
    tables = dg.Definitions(
        assets=[downstream], resources={"tables": MynthTables(root=str(project.folder / "data"))}
    )
    return dg.Definitions.merge(project.definitions(), tables)


def _materialize(project, downstream, partition_key=None, **kwargs):
    defs = _definitions(project, downstream)
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=project.instance,
        asset_selection=[downstream.key],
        partition_key=partition_key,
        raise_on_error=False,
        **kwargs,
    )


def _input(**metadata):
    return dg.AssetIn(IMAGES, input_manager_key="tables", metadata=metadata)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the tables of all tests are kept once the first has made them."""
    return tmp_path_factory.mktemp("kept") / "data"


@pytest.fixture
def made(project, kept):
    """Both shards of two days are in the tables."""
    data = project.folder / "data"
    if kept.exists():
        shutil.copytree(kept, data)
    else:
        project.simulator.set_scenario(progress="immediate")
        project.execute("all", "2026-11-19|000", "2026-11-20|001")
        shutil.copytree(data, kept)
    SEEN.clear()
    return project


def test_daily_asset_reads_all_shards_of_its_day(made):
    """A daily downstream asset gets its day's shards as one frame."""

    @dg.asset(ins={"images": _input()}, partitions_def=DAILY)
    def report(images: pd.DataFrame) -> None:
        SEEN["images"] = images

    assert _materialize(made, report, "2026-11-19").success
    assert sorted(SEEN["images"]["prompt_id"]) == sorted(f"p{i}" for i in range(12))


def test_arrow_table_with_chosen_columns(made):
    """As an Arrow table, with only the columns that the input's metadata names."""

    @dg.asset(ins={"images": _input(columns=["prompt_id", "cost_usd"])}, partitions_def=DAILY)
    def report(images: pa.Table) -> None:
        SEEN["images"] = images

    assert _materialize(made, report, "2026-11-20").success
    assert SEEN["images"].column_names == ["prompt_id", "cost_usd"]
    assert SEEN["images"].schema.field("cost_usd").type == pa.decimal128(18, 8)


def test_dataset_is_lazy(made):
    """As a dataset nothing is read until the asset asks."""

    @dg.asset(ins={"images": _input()}, partitions_def=DAILY)
    def report(images: pads.Dataset) -> None:
        SEEN["n_rows"] = images.count_rows()

    assert _materialize(made, report, "2026-11-20").success
    assert SEEN["n_rows"] == 12


def test_missing_partition_is_an_error_that_names_it(made):
    """A day without tables stops the downstream asset and says what to do."""

    @dg.asset(ins={"images": _input()}, partitions_def=DAILY)
    def report(images: pd.DataFrame) -> None:
        SEEN["images"] = images

    result = _materialize(made, report, "2026-11-21")

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "no table yet for 2026-11-21|000" in str(failure.step_failure_data.error)


def test_writing_is_refused():
    """Only the batch's own assets write its tables."""

    @dg.asset(io_manager_key="tables")
    def other() -> int:
        return 1

    tables = MynthTables(root="data")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [other], resources={"tables": tables}, instance=instance, raise_on_error=False
        )

    assert not result.success


def _put_notes(project, notes) -> None:
    """Columns of the user's own, as the source of each day had them."""
    for day, column in notes.items():
        for path in (project.folder / "data/shots/images").glob(f"date={day}/*/part-0.parquet"):
            table = pq.read_table(path, partitioning=None)
            pq.write_table(table.append_column("note", column.take([0] * len(table))), path)


FLOAT, TEXT = pa.array([float("nan")]), pa.array(["hello"])


@pytest.mark.parametrize("form", [pd.DataFrame, pa.Table, pads.Dataset])
@pytest.mark.parametrize("days", [(FLOAT, TEXT), (TEXT, FLOAT), (pa.nulls(1), TEXT)])
def test_days_are_one_table_with_their_keys(made, form, days):
    """A day whose own column is empty is null there, whatever type a CSV gave it."""
    _put_notes(made, dict(zip(("2026-11-19", "2026-11-20"), days, strict=True)))

    @dg.asset(ins={"images": _input(allow_missing_partitions=True)})
    def report(images: form) -> None:
        table = images.to_table() if form is pads.Dataset else images
        SEEN["images"] = table if form is pd.DataFrame else table.to_pandas()

    assert _materialize(made, report).success
    frame = SEEN["images"]
    by_day = frame.groupby("date")["note"].agg(lambda notes: set(notes.dropna()))
    told = {"hello"} if days[0] is TEXT else set()
    assert by_day.to_dict() == {"2026-11-19": told, "2026-11-20": {"hello"} - told}
    assert set(frame["fan_out"]) == {"000", "001"}
    assert len(frame) == 24


def test_days_of_different_kinds_are_refused_by_column_and_day(made):
    """Numbers on one day and text on another are no column."""
    _put_notes(made, {"2026-11-19": pa.array([7]), "2026-11-20": TEXT})

    @dg.asset(ins={"images": _input(allow_missing_partitions=True)})
    def report(images: pd.DataFrame) -> None:
        """Never run."""

    result = _materialize(made, report)

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = str(failure.step_failure_data.error)
    assert "column 'note': has type string here and int64 in date=2026-11-19" in error
    assert "date=2026-11-20" in error
