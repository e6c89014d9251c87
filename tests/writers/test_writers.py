"""
Parquet files of six writers, each with its own options: every one is read whole.

`make writers` installs the writers and runs this.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.prompts import write_prompts
from mynth_dagster.tables.source import open_source
from mynth_dagster.tables.store import TableStore
from tests.cli.conftest import Shell

DAY = dt.datetime.fromisoformat("2026-11-22T01:02:03")
N = 40
PROMPTS = [f"a kite {n}, 画 🪁" for n in range(N)]


def frame_of(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"prompt": PROMPTS, **columns})


KINDS: dict[str, Callable[[], pd.DataFrame]] = {
    "ids": lambda: frame_of(prompt_id=range(N)),
    "text ids": lambda: frame_of(prompt_id=[f"p{n}" for n in range(N)]),
    "float counts": lambda: frame_of(count=[1.0, None] * (N // 2)),
    "empty columns": lambda: frame_of(size=[float("nan")] * N, negative_prompt=[None] * N),
    "categories": lambda: frame_of(kind=pd.Categorical(["x", "y"] * (N // 2))),
    "times": lambda: frame_of(at=[DAY] * N, zoned=pd.to_datetime([DAY] * N, utc=True)),
    "dates": lambda: frame_of(day=[DAY.date()] * N),
    "numbers": lambda: frame_of(price=[Decimal("1.25"), None] * (N // 2), ok=[True, False] * 20),
    "lists": lambda: frame_of(tags=[["a", "b"], []] * (N // 2)),
    "bytes": lambda: frame_of(raw=[b"\xff\x00"] * N),
    "many columns": lambda: frame_of(**{f"c{n}": [n] * N for n in range(120)}),
    "no rows": lambda: frame_of(prompt_id=range(N)).head(0),
}


def with_pyarrow(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    pq.write_table(pa.Table.from_pandas(frame), path, **options)


def with_pandas(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    frame.to_parquet(path, engine="pyarrow", **options)


def with_polars(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    polars = pytest.importorskip("polars")
    polars.from_pandas(frame).write_parquet(path, **options)


def with_duckdb(frame: pd.DataFrame, path: Path, options: str) -> None:
    with duckdb.connect() as connection:
        connection.register("prompts", pa.Table.from_pandas(frame, preserve_index=False))
        connection.sql(f"COPY prompts TO '{path}' (FORMAT parquet, {options})")


def with_fastparquet(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    pytest.importorskip("fastparquet").write(str(path), frame, **options)


def with_delta(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """A file of a Delta table, taken out of it."""
    deltalake = pytest.importorskip("deltalake")
    table = path.with_suffix(".delta")
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    deltalake.write_deltalake(str(table), rows, **options)
    with pytest.raises(TableError, match="this is a Delta table"):
        open_source(str(table))
    files = sorted(table.glob("*.parquet"))
    path.write_bytes(files[0].read_bytes()) if files else pq.write_table(rows, path)


WRITERS: dict[Callable[..., None], list[dict[str, Any]]] = {
    with_pyarrow: [
        {},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY"}},
        {"row_group_size": 7, "store_schema": False, "version": "1.0"},
        {"use_deprecated_int96_timestamps": True, "compression": "gzip", "write_page_index": True},
    ],
    with_pandas: [{}, {"index": True}, {"compression": None}, {"compression": "brotli"}],
    with_polars: [
        {},
        {"compression": "snappy", "row_group_size": 7},
        {"compression": "uncompressed", "statistics": False},
        {"data_page_size": 64},
    ],
    with_duckdb: [
        {"options": "COMPRESSION snappy"},
        {"options": "COMPRESSION zstd, ROW_GROUP_SIZE 2048"},
        {"options": "PARQUET_VERSION v2"},
        {"options": "COMPRESSION uncompressed"},
    ],
    with_fastparquet: [
        {},
        {"compression": "SNAPPY", "times": "int96"},
        {"has_nulls": True, "row_group_offsets": 13},
        {"compression": "GZIP", "stats": True},
    ],
    with_delta: [{}, {"mode": "append"}, {"configuration": {"delta.appendOnly": "true"}}, {}],
}
CASES = [
    pytest.param(writer, kind, options, id=f"{writer.__name__} {kind} {n}".replace(" ", "-"))
    for writer, choices in WRITERS.items()
    for kind, (n, options) in product(KINDS, enumerate(choices))
]


def write(path: Path, writer: Callable[..., None], kind: str, options: dict[str, Any]) -> None:
    """A file, if the writer can write it at all."""
    try:
        writer(KINDS[kind](), path, **options)
    except Exception as exc:
        if isinstance(exc, (AssertionError, pytest.skip.Exception)):
            raise
        pytest.skip(f"the writer cannot: {exc!s:.80}")


def test_there_are_about_three_hundred_files() -> None:
    """As many combinations as make a difference to a reader."""
    assert len(CASES) >= 300


@pytest.mark.parametrize(("writer", "kind", "options"), CASES)
def test_each_file_is_read_whole(
    tmp_path: Path, writer: Callable[..., None], kind: str, options: dict[str, Any]
) -> None:
    """Every row with its prompt and its own columns."""
    path = tmp_path / "p.parquet"
    write(path, writer, kind, options)
    store, batch = TableStore(str(tmp_path / "out"), "b"), Batch("b")
    limits = LIMITS_BY_REVISION["2026-10"]

    source = open_source(str(path))
    (made,) = write_prompts(source, batch=batch, window="", limits=limits, store=store)

    rows = [row for rows in store.iter_batches("prompts", made.slice) for row in rows.to_pylist()]
    expected = [] if kind == "no rows" else PROMPTS
    assert [row["prompt"] for row in rows] == expected
    assert {row["problem_code"] for row in rows} <= {None}
    _require_own_columns(rows, kind)


def _require_own_columns(rows: list[dict[str, Any]], kind: str) -> None:
    if kind == "times" and rows:
        assert str(rows[0]["at"]).startswith("2026-11-22 01:02:03")
    if kind == "text ids":
        assert [row["prompt_id"] for row in rows] == [f"p{n}" for n in range(N)]
    if kind == "ids" and rows:
        assert [row["prompt_id"] for row in rows] == [str(n) for n in range(N)]
    if kind == "many columns":
        assert rows[1]["c119"] == 119
    if kind == "bytes":
        assert rows[0]["raw"] == b"\xff\x00"
    if kind == "categories":
        assert [row["kind"] for row in rows[:2]] == ["x", "y"]


@pytest.mark.parametrize("writer", list(WRITERS), ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("kind", ["text ids", "times"])
def test_a_file_of_each_writer_becomes_images(
    simulator: Callable[..., Any], tmp_path: Path, writer: Callable[..., None], kind: str
) -> None:
    """Through the whole of a run, and again for nothing."""
    work = Shell(simulator(), tmp_path)
    path = tmp_path / "kites.parquet"
    write(path, writer, kind, WRITERS[writer][0])

    codes = [work.run(str(path)).exit_code for _ in range(2)]

    assert (codes, work.n_posts) == ([0, 0], N)
    images = pq.read_table(work.root / "kites" / "images" / "part-0.parquet")
    assert images.num_rows == N


def folders(tmp_path: Path) -> Iterator[Path]:
    """What each engine writes when told to partition by a column."""
    frame = KINDS["text ids"]().assign(lang=["en", None] * (N // 2))
    pq.write_to_dataset(pa.Table.from_pandas(frame), tmp_path / "a", partition_cols=["lang"])
    yield tmp_path / "a"
    with duckdb.connect() as connection:
        connection.register("prompts", pa.Table.from_pandas(frame, preserve_index=False))
        options = "FORMAT parquet, PARTITION_BY (lang)"
        connection.sql(f"COPY prompts TO '{tmp_path / 'b'}' ({options})")
    yield tmp_path / "b"
    polars = pytest.importorskip("polars")
    by_lang = polars.PartitionBy(tmp_path / "c", key="lang")
    polars.from_pandas(frame).lazy().sink_parquet(by_lang, mkdir=True)
    yield tmp_path / "c"
    fastparquet = pytest.importorskip("fastparquet")
    kept = frame.dropna()
    fastparquet.write(str(tmp_path / "d"), kept, file_scheme="hive", partition_on=["lang"])
    yield tmp_path / "d"


def test_folders_of_each_writer_give_their_columns(tmp_path: Path) -> None:
    """Whoever wrote them, the column that is in their names is there."""
    for folder in folders(tmp_path):
        source = open_source(str(folder))
        rows = [row for batch in source.batches() for row in batch.to_pylist()]

        langs = [row["lang"] for row in rows]
        assert langs.count("en") == N // 2, folder
        assert set(langs) <= {"en", None}, folder
        assert {row["prompt"] for row in rows} <= set(PROMPTS)
