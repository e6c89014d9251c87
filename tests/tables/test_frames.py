"""Tables that other code hands over, as Arrow."""

from __future__ import annotations

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.tables.source import as_arrow, source_from_arrow


def rows_of(value: object) -> list[dict]:
    source = source_from_arrow(as_arrow(value, "shop/products"), "shop/products")
    return [row for batch in source.batches() for row in batch.to_pylist()]


TABLE = pa.table({"prompt": ["a", "b"], "sku": [1, 2]})
ROWS = TABLE.to_pylist()


@pytest.mark.parametrize(
    "value",
    [
        TABLE.to_pandas(),
        TABLE,
        TABLE.to_reader(),
        TABLE.to_batches()[0],
        pads.dataset(TABLE),
        duckdb.from_arrow(TABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_table_is_taken(value):
    """Whatever library holds it."""
    assert rows_of(value) == ROWS


def test_polars_frames_are_taken():
    """Lazy ones are computed."""
    pl = pytest.importorskip("polars")
    frame = pl.from_arrow(TABLE)

    assert rows_of(frame) == ROWS
    assert rows_of(frame.lazy().filter(pl.col("sku") == 2)) == ROWS[1:]


def test_hugging_face_datasets_are_taken():
    """Chosen and shuffled rows are those that their user sees; a split has to be named."""
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict(TABLE.to_pydict())

    assert rows_of(dataset) == ROWS
    assert rows_of(dataset.select([1])) == ROWS[1:]
    assert rows_of(dataset.to_iterable_dataset()) == ROWS
    with pytest.raises(TableError, match="it is a DatasetDict of train, test; hand one over"):
        as_arrow(datasets.DatasetDict(train=dataset, test=dataset), "x")


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["x", "y"], name="sku"),
        pd.RangeIndex(2, name="sku"),
        pd.MultiIndex.from_tuples([(1, "x"), (2, "y")], names=["sku", "lang"]),
        pd.MultiIndex.from_tuples([(1, "x"), (2, "y")], names=["sku", None]),
    ],
)
def test_a_named_index_is_a_column(index):
    """Results can be joined back; what has no name is dropped."""
    frame = pd.DataFrame({"prompt": ["a", "b"]}, index=index)

    rows = rows_of(frame)

    assert [row["sku"] for row in rows] == list(index.get_level_values("sku"))
    assert set(rows[0]) == {"prompt", *(name for name in index.names if name)}


@pytest.mark.parametrize("index", [pd.RangeIndex(2), pd.Index([7, 3])])
def test_an_index_without_a_name_is_none(index):
    """It is pandas' own count."""
    assert list(rows_of(pd.DataFrame({"prompt": ["a", "b"]}, index=index))[0]) == ["prompt"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pd.DataFrame({"prompt": ["a", 1]}), r"column 'prompt': its values \(int, str\) are no"),
        (pd.DataFrame({"prompt": ["a"], "x": [object()]}), r"column 'x': its values \(object\)"),
        (pd.DataFrame({"prompt": ["a"], "x": ["\ud800"]}, dtype=object), "column 'x': its values"),
        (
            pd.DataFrame([["a", 1, 2]], columns=["prompt", "x", "x"]),
            "column 'x': this name is",
        ),
        (
            pd.DataFrame({"x": [1]}, index=pd.Index(["a"], name="x")),
            "column 'x': this name is",
        ),
        ({"prompt": ["a"]}, "it is a dict of prompt; hand one over"),
        (["a"], "it is a list; a DataFrame or an Arrow table is needed"),
    ],
)
def test_what_is_no_table_is_refused_by_column(frame, reason):
    """In one sentence of ours."""
    with pytest.raises(TableError, match=f"shop/products: {reason}"):
        as_arrow(frame, "shop/products")
