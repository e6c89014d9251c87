"""Downstream assets read the tables of a batch in the form they ask for."""

import shutil

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from mynth_dagster import MynthTables
from mynth_dagster.errors import ConfigError, TableError
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


def _kept(value, annotation, tmp_path, **partitions):
    """What a downstream asset reads of what an upstream one returned, over all partitions."""

    @dg.asset(io_manager_key="tables", **partitions)
    def prompts(context):
        return value(context.partition_key) if partitions else value

    ins = {"prompts": dg.AssetIn(input_manager_key="tables", dagster_type=annotation)}

    @dg.asset(ins=ins)
    def typed(prompts) -> None:
        SEEN["read"] = prompts

    resources = {"tables": MynthTables(root=str(tmp_path))}
    with dg.DagsterInstance.ephemeral() as instance:
        for key in partitions["partitions_def"].get_partition_keys() if partitions else [None]:
            dg.materialize([prompts], instance=instance, resources=resources, partition_key=key)
        assert dg.materialize(
            [prompts, typed], instance=instance, resources=resources, selection=[typed]
        ).success
    return SEEN["read"]


FRAME = pd.DataFrame({"prompt_id": ["a", "b"], "prompt": ["a kite", "a boat"]})


@pytest.mark.parametrize(
    "made",
    [
        lambda: FRAME,
        lambda: pa.Table.from_pandas(FRAME),
        lambda: pa.Table.from_pandas(FRAME).to_reader(),
    ],
    ids=["pandas", "arrow", "reader"],
)
@pytest.mark.parametrize("form", [pd.DataFrame, pa.Table, pads.Dataset])
def test_assets_of_ones_own_are_kept_in_any_form(made, form, tmp_path):
    """What one asset returns as one library's table another reads as the other's."""
    read = _kept(made(), form, tmp_path)

    assert isinstance(read, form)
    table = read.to_table() if form is pads.Dataset else read
    rows = table if form is pd.DataFrame else table.to_pandas()
    assert list(rows["prompt"]) == ["a kite", "a boat"]
    (file,) = tmp_path.rglob("*.parquet")
    assert file == tmp_path / "prompts" / "part-0.parquet"


@pytest.mark.parametrize("name", ["DataFrame", "LazyFrame"])
def test_polars_is_taken_and_given(name, tmp_path):
    """Where it is installed; its annotation asks for it."""
    polars = pytest.importorskip("polars")
    read = _kept(polars.DataFrame({"prompt": ["a kite"]}), getattr(polars, name), tmp_path)
    assert read.lazy().collect()["prompt"].to_list() == ["a kite"]


def test_partitions_of_ones_own_are_one_table_whatever_a_day_lacks(tmp_path):
    """A day whose column has no values does not break the others."""
    days = dg.StaticPartitionsDefinition(["2026-11-18", "2026-11-19", "2026-11-20"])

    def frame(day):
        colour = {"2026-11-18": [None], "2026-11-19": ["red"], "2026-11-20": [""]}[day]
        return pd.DataFrame({"prompt": [f"a kite of {day}"], "colour": colour})

    read = _kept(frame, pd.DataFrame, tmp_path, partitions_def=days)

    assert [row or "" for row in read["colour"].fillna("")] == ["", "red", ""]
    assert sorted(file.stem for file in tmp_path.rglob("*.parquet")) == days.get_partition_keys()


def test_one_table_for_several_partitions_is_refused(tmp_path):
    """Which rows would be whose nobody could say."""
    days = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(
        io_manager_key="tables", partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run()
    )
    def prompts():
        return FRAME

    resources = {"tables": MynthTables(root=str(tmp_path))}
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    with dg.DagsterInstance.ephemeral() as instance:
        refused = pytest.raises(ConfigError, match="returned one table for 2 partitions")
        with refused:
            dg.materialize([prompts], instance=instance, resources=resources, tags=tags)


def test_what_is_no_table_is_refused_by_its_type(tmp_path):
    """Before any file is written."""
    with pytest.raises(TableError, match="it is a list; a DataFrame or an Arrow table is needed"):
        _kept([1, 2], pd.DataFrame, tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


def test_kept_prompts_feed_a_batch(instant):
    """The same IO manager between an asset that makes prompts and the batch that reads them."""

    @dg.asset(io_manager_key="tables")
    def catalogue() -> pd.DataFrame:
        return FRAME

    batch = instant.definitions(
        prompts=dg.AssetIn("catalogue", input_manager_key="tables"), partitions_def=None, fan_out=1
    )
    tables = {"tables": MynthTables(root=str(instant.folder / "data"))}
    defs = dg.Definitions.merge(batch, dg.Definitions(assets=[catalogue], resources=tables))
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        instance=instant.instance, asset_selection=[catalogue.key]
    ).success

    assert instant.execute("all", defs=defs).success
    assert instant.n_accepted == 2


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
