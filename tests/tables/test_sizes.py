"""Tables of large values: read, multiplied and written in pieces that are bounded by bytes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.limits import READ_BATCH_BYTES
from mynth_dagster.tables import parquet
from mynth_dagster.tables.parquet import pieces, value_bytes
from mynth_dagster.tables.results import GatheredRows
from mynth_dagster.tables.source import open_source, source_from_arrow
from mynth_dagster.tables.store import IMAGES, staged_tables
from tests.tables.outcomes import SLICE, image

MB = 1024 * 1024
FORMS = ["plain", "list", "struct", "map", "list of struct", "fixed width"]


def shared(form: str, value: bytes, n_rows: int) -> pa.Array:
    """A column whose rows all have one value, which a file holds once."""
    places = pa.array([0] * n_rows, pa.int32())
    texts = pa.DictionaryArray.from_arrays(places, pa.array([value]))
    ends = pa.array(range(n_rows + 1), pa.int32())
    struct = pa.StructArray.from_arrays([texts], ["bytes"])
    forms = {
        "plain": lambda: texts,
        "list": lambda: pa.ListArray.from_arrays(ends, texts),
        "struct": lambda: struct,
        "map": lambda: pa.MapArray.from_arrays(ends, pa.array(["k"] * n_rows), texts),
        "list of struct": lambda: pa.ListArray.from_arrays(ends, struct),
        "fixed width": lambda: pa.array([value] * n_rows, pa.binary(len(value))),
    }
    return forms[form]()


def put(path, columns: dict, **options) -> str:
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False, **options)
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_small_file_that_stands_for_gigabytes_is_read_in_pieces(tmp_path, form):
    """A value that lies in a file once and in many rows is written out a piece at a time."""
    n_rows, value = (2_500, b"x" * MB) if form != "fixed width" else (200, b"x" * MB)
    column = shared(form, value, n_rows)
    path = put(tmp_path / "p.parquet", {"prompt": ["a"] * n_rows, "big": column})
    del column
    held = pa.total_allocated_bytes()

    batches = open_source(path).batches()
    for _ in range(3):
        batch = next(batches)
        assert batch.num_rows > 0
        assert batch.nbytes <= 1.01 * READ_BATCH_BYTES
        assert pa.total_allocated_bytes() - held < 4 * READ_BATCH_BYTES
    assert batch.column("big").slice(0, 1).to_pylist()


def test_texts_that_go_on_from_each_other_are_read_in_pieces(tmp_path):
    """The encoding that keeps only what differs from the text before stands for much as well."""
    rows = {"prompt": ["a"] * 150, "big": ["x" * (4 * MB)] * 150}
    encoding = {"big": "DELTA_BYTE_ARRAY", "prompt": "PLAIN"}
    path = put(tmp_path / "p.parquet", rows, use_dictionary=False, column_encoding=encoding)

    batch = next(open_source(path).batches())

    assert 0 < batch.nbytes <= 1.01 * READ_BATCH_BYTES


def test_pieces_say_the_same_as_the_whole(tmp_path, monkeypatch):
    """Values, nulls and the order of rows do not depend on where a batch is cut."""
    monkeypatch.setattr(parquet, "READ_BATCH_BYTES", 2_000)
    rows = {"prompt": [f"p{n % 7}" for n in range(500)], "n": list(range(500))}
    texts = pa.array(["x" * (n % 5) if n % 3 else None for n in range(500)])
    rows |= {"kind": texts, "lists": pa.array([[f"t{n % 3}", None][: n % 3] for n in range(500)])}
    path = put(tmp_path / "p.parquet", rows)

    batches = list(open_source(path).batches())

    assert len(batches) > 5
    assert pa.Table.from_batches(batches).to_pydict() == pa.table(rows).to_pydict()


@pytest.mark.parametrize("kind", ["file", "shared value", "upstream"])
def test_a_row_beyond_all_bounds_is_refused_by_name(tmp_path, monkeypatch, kind):
    """A row too large to be written once for each image is refused in one sentence."""
    monkeypatch.setattr(parquet, "ROW_MAX_BYTES", 10 * MB)
    value = b"x" * (11 * MB)
    rows = {"prompt": ["a", "b"], "big": shared("plain", value, 2)}
    if kind == "file":
        rows["big"] = pa.array([value, value])

    path = put(tmp_path / "p.parquet", rows, use_dictionary=kind != "file")
    source = source_from_arrow(pa.table(rows), "up") if kind == "upstream" else open_source(path)

    with pytest.raises(TableError, match="a row takes 11 MB, up to 10 MB can be carried"):
        list(source.batches())


def test_more_than_a_column_can_hold_is_taken_in_pieces():
    """Rows times images beyond 2 GiB, which 32-bit offsets end at, come as several batches."""
    schema = pa.schema([("n", pa.int64()), ("picture", pa.binary())])
    prompts = pa.record_batch([pa.array([b"x" * (30 * MB)])], names=["picture"])
    gathered = GatheredRows(schema, ["picture"])
    for n in range(80):
        gathered.add((n,), 0)

    numbers: list[int] = []
    for rows in gathered.take(prompts):
        assert rows.nbytes <= READ_BATCH_BYTES
        numbers += rows.column("n").to_pylist()

    assert numbers == list(range(80))


def test_results_of_large_rows_are_those_of_small_ones(write, collect, known, store, monkeypatch):
    """Cut into pieces by bytes, prompts and images have the same rows in the same order."""
    monkeypatch.setattr(parquet, "READ_BATCH_BYTES", 5_000)
    pictures = [bytes([n]) * 1_000 for n in range(9)]
    rows = {"prompt": ["a"] * 9, "prompt_id": list(range(9)), "count": [7] * 9}
    written = write({**rows, "picture": pictures}, models=("v/m", "v/n"))
    for row in written.planned():
        known.add(row, images=[image(n) for n in range(7)])

    _, tables = collect()

    assert [row["picture"] for row in written.rows()] == [p for p in pictures for _ in range(2)]
    assert [row["picture"] for row in tables[IMAGES]] == [p for p in pictures for _ in range(14)]
    assert [row["image_index"] for row in tables[IMAGES]] == list(range(7)) * 18


def test_row_groups_of_results_are_bounded_by_bytes(store, tmp_path):
    """A reader of the results holds no more than our own reader does."""
    schema = pa.schema([("picture", pa.binary())])
    with staged_tables(store) as staging:
        table = staging.open(IMAGES, SLICE, schema, row_group_bytes=3_000)
        for _ in range(10):
            table.write(pa.record_batch([pa.array([b"x" * 1_000])], schema=schema))

    told = pq.ParquetFile(store.path(IMAGES, SLICE)).metadata
    assert [told.row_group(n).num_rows for n in range(told.num_row_groups)] == [3, 3, 3, 1]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None, "ccc"]), [5, 4, 7]),
        (pa.array(["x", "a", None, "ccc"]).slice(1), [5, 4, 7]),
        (pa.array(["a", None, "ccc"]).dictionary_encode(), [5, 5, 7]),
        (pa.array([["a", "b"], None, []]), [14, 4, 4]),
        (pa.array([[], ["a", "b"], None, []]).slice(1), [14, 4, 4]),
        (pa.array([{"a": "x"}, None, {"a": "zz"}]), [5, 4, 6]),
        (pa.array([1, None, 3], pa.int32()), [4, 4, 4]),
        (pa.nulls(3), [0, 0, 0]),
        (pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())), [14, 4, 4]),
    ],
)
def test_bytes_of_values_are_those_written_out(column, expected):
    """However a column is stored, sliced or nested."""
    sizes = value_bytes(column).tolist()

    assert len(sizes) == len(expected)
    assert all(abs(size - right) <= 1 for size, right in zip(sizes, expected, strict=True))


def test_a_row_larger_than_a_piece_is_a_piece():
    """Nothing is left out and nothing is taken twice."""
    cut = [(piece.start, piece.stop) for piece in pieces(np.array([1, 9, 1, 1, 1, 0]), 3)]

    assert cut == [(0, 1), (1, 2), (2, 6)]
