"""Finding and reading prompt tables."""

from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynth_dagster.errors import TableError
from mynth_dagster.limits import READ_BATCH_ROWS
from mynth_dagster.tables.source import open_source, source_from_arrow

PARTI = Path(__file__).parents[3] / "shared/data/parti_prompts.parquet"


def put(path: Path, *prompts: str | None, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"prompt": list(prompts), **columns}), path)
    return path


def prompts_of(source) -> list[str]:
    return [value for batch in source.batches() for value in batch.column("prompt").to_pylist()]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two levels of files, beside names that are no tables."""
    put(tmp_path / "in/b.parquet", "b1", "b2")
    put(tmp_path / "in/a.parquet", "a1")
    put(tmp_path / "in/date=2026-11-22/c.parquet", "c1")
    put(tmp_path / "in/_temporary/x.parquet", "x")
    put(tmp_path / "in/.hidden.parquet", "x")
    put(tmp_path / "in/_metadata.parquet", "x")
    (tmp_path / "in/readme.txt").write_text("no table")
    return tmp_path / "in"


def test_file_is_read(tmp_path):
    """One file is a source of its rows."""
    path = put(tmp_path / "p.parquet", "a", "b")

    assert prompts_of(open_source(str(path))) == ["a", "b"]


def test_folder_is_read_in_order_of_names(folder):
    """A folder is read at all levels, in the order of paths, without hidden names."""
    assert prompts_of(open_source(str(folder))) == ["a1", "b1", "b2", "c1"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a1", "b1", "b2"]),
        ("**/c.parquet", ["c1"]),
        ("[b].parquet", ["b1", "b2"]),
        ("date=*", ["c1"]),
    ],
)
def test_pattern_is_read(folder, pattern, expected):
    """A pattern is read in order; a folder that it matches is read with all below."""
    assert expected == prompts_of(open_source(f"{folder}/{pattern}"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a1", "b1", "b2"]),
        (".hid*.parquet", ["x"]),
        ("_temporary/*.parquet", ["x"]),
    ],
)
def test_hidden_files_are_read_where_the_pattern_names_them(folder, pattern, expected):
    """Wherever the folder itself lies: one above it may be hidden."""
    hidden = folder.rename(folder.parent / ".data")

    assert prompts_of(open_source(f"{hidden}/{pattern}")) == expected


def test_other_file_systems_are_read():
    """Any fsspec URL is a source."""
    with fsspec.open("memory://inbox/p.parquet", "wb") as out:
        pq.write_table(pa.table({"prompt": ["far away"]}), out)

    assert prompts_of(open_source("memory://inbox")) == ["far away"]


def test_source_can_be_read_again(folder):
    """A second reading brings the same rows."""
    source = open_source(str(folder))

    assert prompts_of(source) == prompts_of(source)


def test_rows_are_named_with_their_file(folder):
    """Rows count on over the files; a complaint names the file as well."""
    source = open_source(str(folder))
    list(source.batches())

    assert "row 0 (in" in source.where(0)
    assert source.where(0).endswith("a.parquet)")
    assert source.where(2).endswith("b.parquet)")
    assert source.where(3).endswith("c.parquet)")


def test_a_relative_path_is_shown_as_it_was_looked_for(tmp_path, monkeypatch):
    """The working directory of a service is no secret to whoever has to find the file."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(TableError) as caught:
        open_source("in/p.parquet")

    assert caught.value.path == str(tmp_path / "in" / "p.parquet")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("none.parquet", "there is no such file or folder"),
        ("none/*.parquet", "the pattern matches no Parquet file"),
        ("empty", "the folder has no Parquet files"),
        ("nosuch://x", "cannot open"),
    ],
)
def test_nothing_there_is_reported(tmp_path, location, reason):
    """A location without tables is an error that names it."""
    (tmp_path / "empty").mkdir()
    location = location if "://" in location else str(tmp_path / location)

    with pytest.raises(TableError, match=reason) as caught:
        open_source(location)

    assert location == caught.value.path


@pytest.mark.parametrize("content", [b"", b"PAR1", b"prompt,id\na,1\n", b"PAR1" * 20])
def test_no_parquet_is_reported(tmp_path, content):
    """A file that is no Parquet is named, in words."""
    path = tmp_path / "p.parquet"
    path.write_bytes(content)

    with pytest.raises(TableError, match="cannot be read as Parquet") as caught:
        open_source(str(path))

    assert str(path) == caught.value.path


def test_permission_is_reported(tmp_path, monkeypatch):
    """A file that may not be read is named; opening fails as the system would fail it."""
    path = put(tmp_path / "p.parquet", "a")

    def refuse(*_args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pa, "OSFile", refuse)

    with pytest.raises(TableError, match="permission denied"):
        open_source(str(path))


def test_files_must_have_the_same_columns(tmp_path):
    """A column that one file lacks is named with both files."""
    put(tmp_path / "a.parquet", "x", size=["1:1"])
    put(tmp_path / "b.parquet", "y")

    with pytest.raises(TableError, match=r"column 'size': a.parquet has this column.*b.parquet"):
        open_source(str(tmp_path))


def test_files_must_have_the_same_types(tmp_path):
    """A column of two types is named with both types."""
    put(tmp_path / "a.parquet", "x", n=[1])
    put(tmp_path / "b.parquet", "y", n=["1"])

    with pytest.raises(
        TableError, match=r"column 'n': has type string here and int64 in a.parquet"
    ):
        open_source(str(tmp_path))


def test_empty_column_takes_the_type_of_the_others(tmp_path):
    """A column without any value in one file does not clash with the others."""
    put(tmp_path / "a.parquet", "x", n=[None])
    put(tmp_path / "b.parquet", "y", n=["1"])

    source = open_source(str(tmp_path))

    assert pa.string() == source.schema.field("n").type
    assert [v for b in source.batches() for v in b.column("n").to_pylist()] == [None, "1"]


def test_column_order_may_differ(tmp_path):
    """Files may order their columns differently."""
    pq.write_table(pa.table({"prompt": ["x"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [2], "prompt": ["y"]}), tmp_path / "b.parquet")

    assert prompts_of(open_source(str(tmp_path))) == ["x", "y"]


@pytest.mark.parametrize("row_groups", [True, False])
def test_table_without_rows_is_read(tmp_path, row_groups):
    """No rows are fine, with a row group and without."""
    empty = pa.table({"prompt": pa.array([], pa.string())})
    with pq.ParquetWriter(tmp_path / "p.parquet", empty.schema) as writer:
        if row_groups:
            writer.write_table(empty)

    assert prompts_of(open_source(str(tmp_path / "p.parquet"))) == []


def test_damaged_row_group_is_named(tmp_path):
    """A damaged page is reported with file, row group and column."""
    path = tmp_path / "p.parquet"
    table = pa.table({"prompt": [f"prompt {n}" for n in range(2000)], "n": range(2000)})
    pq.write_table(table, path, row_group_size=1000, use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    content[column.data_page_offset + column.total_compressed_size - 10] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(TableError, match="row group 1 cannot be read") as caught:
        prompts_of(open_source(str(path)))

    (problem,) = caught.value.problems
    assert ("n", 1000, str(path)) == (problem.column, problem.row, caught.value.path)


def test_batches_are_bounded(tmp_path):
    """A large row group comes in batches of bounded size."""
    path = put(tmp_path / "p.parquet", *["x"] * (2 * READ_BATCH_ROWS + 1))

    sizes = [batch.num_rows for batch in open_source(str(path)).batches()]

    assert sum(sizes) == 2 * READ_BATCH_ROWS + 1
    assert max(sizes) <= READ_BATCH_ROWS


def test_reader_of_an_upstream_asset_can_be_read_twice():
    """A one-shot reader becomes a source that can be read again."""
    table = pa.table({"prompt": ["a", "b"], "kind": pa.array(["x", "y"]).dictionary_encode()})
    source = source_from_arrow(table.to_reader(max_chunksize=1), "upstream")

    assert prompts_of(source) == ["a", "b"]
    assert prompts_of(source) == ["a", "b"]
    assert source.name == "upstream"


def test_pandas_file_is_read(tmp_path):
    """A file that pandas wrote is a source of its columns."""
    pd.DataFrame({"prompt": ["a"], "n": [1]}).to_parquet(tmp_path / "p.parquet")

    assert prompts_of(open_source(str(tmp_path / "p.parquet"))) == ["a"]


def test_real_prompts_are_read():
    """The public prompt set is read whole."""
    if not PARTI.exists():
        pytest.skip(f"the prompt set is not at {PARTI}")

    assert len(prompts_of(open_source(str(PARTI)))) == 1632


@pytest.fixture(scope="session")
def sound_bytes(tmp_path_factory) -> bytes:
    """A small file with text, numbers, a list and a dictionary column."""
    path = tmp_path_factory.mktemp("sound") / "p.parquet"
    table = pa.table(
        {
            "prompt": [f"prompt number {n}" for n in range(50)],
            "n": range(50),
            "inputs": [["https://example.com/a.png"]] * 50,
            "kind": pa.array(["x", "y"] * 25).dictionary_encode(),
        }
    )
    pq.write_table(table, path, row_group_size=20)
    return path.read_bytes()


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damage_is_only_ever_a_table_error(sound_bytes, tmp_path_factory, data):
    """Flipped bits and a cut end either go unnoticed or raise `TableError`, nothing else."""
    content = bytearray(sound_bytes)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut_at = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    path.write_bytes(content[:cut_at])

    try:
        for _ in open_source(str(path)).batches():
            pass
    except TableError:
        return
