"""Writing tables: all or nothing, and nothing left behind."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.models.batch import Slice
from mynth_dagster.tables import manifest
from mynth_dagster.tables.source import source_from_arrow
from mynth_dagster.tables.store import IMAGES, TASKS, TableStore, staged_tables, temp_name

SLICE = Slice("2026-11-22", "003")
SCHEMA = pa.schema([("n", pa.int64())])


def numbers(*values: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def write(store: TableStore, *values: int, table: str = IMAGES, **options) -> None:
    with staged_tables(store) as staging:
        staging.open(table, SLICE, SCHEMA, **options).write(numbers(*values))


def read(store: TableStore, table: str = IMAGES) -> list[int]:
    batches = store.iter_batches(table, SLICE)
    return [value for batch in batches for value in batch.column("n").to_pylist()]


def all_files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_table_is_found_where_the_layout_says(store, tmp_path):
    """A table lies in hive-style folders under root, batch and table."""
    write(store, 1, 2)

    expected = tmp_path / "tables/shop/images/date=2026-11-22/fan_out=003/part-0.parquet"
    assert str(expected) == store.uri(IMAGES, SLICE)
    assert expected.is_file()
    assert read(store) == [1, 2]


def test_unpartitioned_table_lies_in_the_table_folder(store):
    """Without window and fan-out there are no further folders."""
    assert store.uri(IMAGES, Slice()).endswith("/shop/images/part-0.parquet")


@pytest.mark.parametrize("root", ["memory://results", "memory://results/deep/er"])
def test_any_fsspec_root_works(root):
    """A root in another file system is written, found and read the same way."""
    store = TableStore(root, "shop")

    assert not store.exists(TASKS, SLICE)
    write(store, 4, 5, table=TASKS, footer={"mynth:version": "9"})

    assert store.exists(TASKS, SLICE)
    assert read(store, TASKS) == [4, 5]
    assert store.read_metadata(TASKS, SLICE) == {"mynth:schema": "1", "mynth:version": "9"}
    assert store.uri(TASKS, SLICE).startswith("memory://")
    assert [name for name in store.fs.find(store.folder(TASKS, SLICE)) if "tmp" in name] == []


def test_exception_keeps_the_old_tables(store, tmp_path):
    """After an exception no table is replaced and no temporary file is left."""
    write(store, 1)

    with pytest.raises(RuntimeError), staged_tables(store) as staging:  # noqa: PT012
        staging.open(IMAGES, SLICE, SCHEMA).write(numbers(2))
        staging.open(TASKS, SLICE, SCHEMA).write(numbers(3))
        raise RuntimeError

    assert read(store) == [1]
    assert not store.exists(TASKS, SLICE)
    assert all_files(tmp_path) == ["part-0.parquet"]


def test_nothing_is_visible_before_the_end(store):
    """While several tables are being written a reader sees only the old ones."""
    write(store, 1)

    with staged_tables(store) as staging:
        for table in (IMAGES, TASKS):
            staging.open(table, SLICE, SCHEMA, row_group_rows=1).write(numbers(2, 3))
        staging.close()
        assert read(store) == [1]
        assert not store.exists(TASKS, SLICE)

    assert read(store) == [2, 3]
    assert read(store, TASKS) == [2, 3]


def test_full_disk_keeps_the_old_table(store, tmp_path):
    """A write that the system refuses is a `TableError`, and the old table stays."""
    write(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))

    try:
        with pytest.raises(TableError, match="nothing was replaced"):
            write(store, *range(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert read(store) == [1]
    assert all_files(tmp_path) == ["part-0.parquet"]


def test_folder_that_is_a_file_is_named(store, tmp_path):
    """A root that cannot hold folders is a `TableError` before anything is written."""
    (tmp_path / "tables").write_text("in the way")

    with pytest.raises(TableError, match="a part of the path is a file"):
        write(store, 1)


def test_orphans_of_dead_processes_are_removed(store, tmp_path):
    """Rewriting a slice removes what a killed process left there, and nothing else."""
    write(store, 1)
    folder = tmp_path / "tables/shop/images/date=2026-11-22/fan_out=003"
    with staged_tables(store) as staging:
        staging.open(IMAGES, SLICE, SCHEMA)
        (temporary,) = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    orphan = temporary.replace(f".{os.getpid()}.", f".{dead.pid}.")
    elsewhere = temporary.replace(".part-0.", ".part-0.other-")
    for name in (orphan, elsewhere, temporary):
        (folder / name).write_bytes(b"half a table")

    write(store, 2)

    assert sorted([elsewhere, temporary, "part-0.parquet"]) == all_files(folder)


def test_equal_rows_make_equal_bytes(store):
    """The file depends on rows, schema and footer, not on the batches or the time."""
    with staged_tables(store) as staging:
        table = staging.open(IMAGES, SLICE, SCHEMA, row_group_rows=3)
        for value in range(10):
            table.write(numbers(value))
        other = staging.open(TASKS, SLICE, SCHEMA, row_group_rows=3)
        other.write(numbers(*range(7)))
        other.write(numbers(7, 8, 9))

    first, second = (Path(store.path(name, SLICE)) for name in (IMAGES, TASKS))
    assert first.read_bytes() == second.read_bytes()


def test_missing_table_is_named(store):
    """Reading a table that was never written says so."""
    with pytest.raises(TableError, match="there is no `images` yet: make that first"):
        read(store)


def test_unsupported_type_is_an_error_about_the_table(store, tmp_path):
    """A column that Parquet cannot hold is a `TableError`, and nothing is left behind."""
    schema = pa.schema([("u", pa.dense_union([pa.field("a", pa.int8())]))])

    with (
        pytest.raises(TableError, match="cannot create the table"),
        staged_tables(store) as staging,
    ):
        staging.open(IMAGES, SLICE, schema)

    assert all_files(tmp_path) == []


@pytest.mark.parametrize("write", ["ledger", "source"])
def test_marks_beside_the_tables_clear_away_what_a_killed_run_left(store, tmp_path, write):
    """Each run writes them anew; a half-written one of a dead process stays nowhere."""

    def write_again() -> None:
        if write == "ledger":
            manifest.write_mark(store, manifest.LedgerMark("led_1", 3))
        else:
            source = source_from_arrow(pa.table({"prompt": ["a"]}), "prompts")
            manifest.write_source_mark(store, Slice(window="2026-11-22"), source)

    write_again()
    (mark,) = (path for path in tmp_path.rglob("*") if path.is_file())
    alive = temp_name()
    dead = alive.replace(f".{os.getpid()}.", ".999999999.")
    for name in (alive, dead):
        (mark.parent / name).write_bytes(b"half")

    write_again()

    assert {path.name for path in mark.parent.iterdir()} == {mark.name, alive}
