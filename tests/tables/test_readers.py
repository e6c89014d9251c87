"""Our tables, read by others: pandas, pyarrow datasets and DuckDB, with exact money."""

from decimal import Decimal
from itertools import chain

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mynth_dagster.models.batch import Batch
from mynth_dagster.models.task import ImageOutcome
from mynth_dagster.tables.results import write_results
from mynth_dagster.tables.store import FAILURES, IMAGES, PROMPTS, TASKS
from tests.batches import make_batch
from tests.tables.outcomes import iter_planned_rows

WINDOWS = ("2026-11-21", "2026-11-22")
COST = 1_234_567_890_00000001  # beyond what a float holds exactly
TOTAL = Decimal("1234567890.00000001")


@pytest.fixture(params=[{"fan_out": 2}, {"models": ("v/m1", "v/m2"), "fan_out": "model"}, {}])
def batch(request) -> Batch:
    return make_batch("shop", **request.param)


@pytest.fixture
def root(write, store, known, batch, tmp_path):
    """All tables of two windows; a row's own column is called like a folder."""
    settings = {"models": batch.request.models, "fan_out": batch.fan_out}
    rows = {"prompt_id": ["x", "y"], "prompt": ["a", "b"], "date": ["d", "d"], "model": [None] * 2}
    for window in WINDOWS:
        written = write(rows, window=window, **settings)
        for summary in written.summaries:
            known.intents.clear()
            for row in chain.from_iterable(
                iter_planned_rows(store, summary.slice, batch=written.batch)
            ):
                if row.prompt_id == "x":
                    known.add(row, images=[ImageOutcome(0, url="https://u", cost_units=COST)])
            write_results(store, summary.slice, lookup=known, version=1, now_us=0)
    return tmp_path / "tables/shop"


@pytest.mark.parametrize("table", [PROMPTS, TASKS, IMAGES, FAILURES])
def test_every_reader_sees_all_rows(root, batch, table):
    """A folder of partitions is one table to each reader."""
    per_window = len(batch.request.models) * (2 if table == PROMPTS else 1)
    folder = root / table

    counts = {
        len(pd.read_parquet(folder)),
        ds.dataset(str(folder), partitioning="hive").count_rows(),
        pq.read_table(folder).num_rows,
        duckdb.sql(f"SELECT count(*) FROM '{folder}/**/*.parquet'").fetchall()[0][0],
    }

    assert {2 * per_window} == counts


def test_partitions_are_pruned(root):
    """A reader takes one window by its folder."""
    images = ds.dataset(str(root / IMAGES), partitioning="hive")

    found = images.to_table(filter=pc.field("date") == WINDOWS[1])

    assert 0 < found.num_rows < images.count_rows()
    ((one_day,),) = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{root}/images/**/*.parquet', hive_partitioning=true)"
        f" WHERE date = '{WINDOWS[1]}'"
    ).fetchall()
    assert found.num_rows == one_day


def test_money_is_exact_in_every_reader(root):
    """Eighteen digits of money arrive unrounded."""
    folder = root / IMAGES
    images = ds.dataset(str(folder), partitioning="hive").to_table(columns=["cost_usd"])

    assert {TOTAL} == set(images.column("cost_usd").to_pylist())
    assert {TOTAL} == set(pd.read_parquet(folder)["cost_usd"])
    assert duckdb.sql(f"SELECT DISTINCT cost_usd FROM '{folder}/**/*.parquet'").fetchall() == [
        (TOTAL,)
    ]
    ((kind,), *_) = duckdb.sql(f"SELECT typeof(cost_usd) FROM '{folder}/**/*.parquet'").fetchall()
    assert kind == "DECIMAL(18,8)"


def test_times_are_utc_in_every_reader(root):
    """Times carry their zone."""
    folder = root / IMAGES

    assert pa.timestamp("us", "UTC") == ds.dataset(str(folder)).schema.field("completed_at").type
    assert str(pd.read_parquet(folder)["completed_at"].dt.tz) == "UTC"
    query = f"SELECT typeof(completed_at) FROM '{folder}/**/*.parquet'"
    ((kind,), *_) = duckdb.sql(query).fetchall()
    assert kind == "TIMESTAMP WITH TIME ZONE"


def test_results_join_back_to_the_input(root):
    """Carried columns and keys lead from an image to its prompt."""
    joined = duckdb.sql(
        f"SELECT i.input_date, p.prompt FROM '{root}/images/**/*.parquet' i"
        f" JOIN '{root}/prompts/**/*.parquet' p USING (request_key, date)"
    ).fetchall()

    assert {("d", "a")} == set(joined)


def test_half_written_files_are_not_read(root):
    """A temporary file beside a table is invisible to every reader."""
    folder = root / IMAGES
    expected = len(pd.read_parquet(folder))
    (part, *_) = folder.rglob("part-0.parquet")
    part.with_name(".part-0.host.1.abcd.tmp").write_bytes(b"PAR1")

    assert expected == len(pd.read_parquet(folder))
    assert expected == ds.dataset(str(folder), partitioning="hive").count_rows()
    query = f"SELECT count(*) FROM '{folder}/**/*.parquet'"
    assert [(expected,)] == duckdb.sql(query).fetchall()
