"""Folders of prompts as Spark, Hive, Delta and people with two tools leave them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.prompts import write_prompts
from mynth_dagster.tables.source import HIVE_NULL, open_source
from mynth_dagster.tables.store import TableStore
from tests.tables.outcomes import iter_planned_rows


def put(path: Path, columns: dict, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def rows_of(location: object) -> list[dict]:
    return [row for batch in open_source(str(location)).batches() for row in batch.to_pylist()]


MARKERS = {
    "_delta_log/00000000000000000000.json": "a Delta table",
    ".hoodie/hoodie.properties": "a Hudi table",
    "_spark_metadata/0": "the sink of a Spark stream",
    "_versions/1.manifest": "a Lance dataset",
    "metadata/00000-ab.metadata.json": "an Iceberg table",
    "snapshot/snapshot-1": "a Paimon table",
}


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    """A folder on the disk, and one in another file system."""
    if request.param == "local":
        yield str(tmp_path)
        return
    fs = fsspec.filesystem("memory")
    yield "memory://lake"
    fs.rm("/lake", recursive=True)


def put_at(place: str, name: str, columns: dict | None = None) -> None:
    fs, path = fsspec.core.url_to_fs(f"{place}/{name}")
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    with fs.open(path, "wb") as out:
        if columns is None:
            out.write(b"{}")
        else:
            pq.write_table(pa.table(columns), out)


NAMED = [
    "t",  # the table
    "",  # a folder above it
    "t/day=1",  # a partition of it
    "t/day=1/part-0.parquet",
    "t/day=1/*.parquet",
    "*/day=1",
    "t/day=*/part-*.parquet",
]


@pytest.mark.parametrize(
    ("marker", "named"),
    [*((marker, NAMED[3]) for marker in MARKERS), *(("_delta_log/0.json", n) for n in NAMED)],
)
def test_a_folder_that_is_more_than_its_files_is_refused(place, marker, named):
    """Named itself, in part or from above, it is refused by its name, before any row is read."""
    put_at(place, "t/day=1/part-0.parquet", {"prompt": ["deleted long ago"]})
    put_at(place, f"t/{marker}")
    kind = MARKERS.get(marker, "a Delta table")

    with pytest.raises(TableError, match=f"this is {kind} .*nothing was sent"):
        open_source(f"{place}/{named}".rstrip("/"))


def test_a_folder_beside_such_a_table_is_read(place):
    """Only what was named, and what it is part of, counts."""
    put_at(place, "delta/_delta_log/0.json")
    put_at(place, "delta/p.parquet", {"prompt": ["theirs"]})
    put_at(place, "plain/p.parquet", {"prompt": ["ours"]})
    put_at(place, "plain/metadata/notes.json")

    assert rows_of(f"{place}/plain") == [{"prompt": "ours"}]


def test_files_are_recognised_by_their_content_and_what_is_left_out_is_named(place):
    """Any ending or none; what is no Parquet is named, what is hidden is not."""
    for n, name in enumerate(["1.parquet", "2.parq", "3.PARQUET", "000000_0", "5.snappy"]):
        put_at(place, f"in/{name}", {"prompt": [f"kite {n}"]})
    for name in ["_SUCCESS", ".1.parquet.crc", "README.txt", "sub/old.csv", "_tmp/x.parquet"]:
        put_at(place, f"in/{name}")

    for location in (f"{place}/in", f"{place}/in/*", f"{place}/in/**"):
        source = open_source(location)
        assert sum(batch.num_rows for batch in source.batches()) == 5
        (note,) = source.notes
        assert note == "2 files are no Parquet and left out: README.txt; old.csv"


def test_a_folder_without_any_table_names_what_is_there(tmp_path):
    """Somebody pointed to a folder of another format."""
    (tmp_path / "prompts.csv").write_text("prompt\na kite\n")

    with pytest.raises(TableError, match=r"no Parquet files; 1 file is no Parquet.*prompts.csv"):
        open_source(str(tmp_path))


def test_names_of_folders_are_columns(place):
    """As Spark's partitionBy writes them: decoded, null where the name says so."""
    put_at(place, "t/lang=en/model=v%2Fm/a.parquet", {"prompt": ["a kite"]})
    put_at(place, "t/lang=__HIVE_DEFAULT_PARTITION__/model=v%2Fn/a.parquet", {"prompt": ["x"]})
    put_at(place, "t/lang=gr%C3%BC%3Dn/model=/a.parquet", {"prompt": ["y"]})

    assert rows_of(f"{place}/t") == [
        {"prompt": "x", "lang": None, "model": "v/n"},
        {"prompt": "a kite", "lang": "en", "model": "v/m"},
        {"prompt": "y", "lang": "grü=n", "model": ""},
    ]


@pytest.mark.parametrize("named", ["lang=en", "lang=en/a.parquet", "lang=*/*.parquet", "lang=en/*"])
def test_a_part_of_a_table_says_what_the_whole_says(tmp_path, named):
    """A file that is named alone is the file that it is in its folder."""
    put(tmp_path / "lang=en/a.parquet", {"prompt": ["a"]})

    assert rows_of(tmp_path / named) == [{"prompt": "a", "lang": "en"}]


@pytest.mark.parametrize(
    ("in_file", "key"),
    [
        (["en"], "en"),
        ([7], "7"),
        ([dt.date(2026, 11, 22)], "2026-11-22"),
        (pa.array(["en"]).dictionary_encode(), "en"),
        ([None], HIVE_NULL),
        (pa.array([None], pa.string()), HIVE_NULL),
    ],
)
def test_a_column_in_file_and_folder_is_one_where_both_agree(tmp_path, in_file, key):
    """The file's own value is kept, in its own type."""
    put(tmp_path / f"k={key}/a.parquet", {"prompt": ["a"], "k": in_file})

    expected = pa.array(in_file).to_pylist() if isinstance(in_file, list) else in_file.to_pylist()
    assert [row["k"] for row in rows_of(tmp_path)] == expected


@pytest.mark.parametrize(
    ("in_file", "key"),
    [
        (["de"], "en"),
        ([8], "7"),
        ([8], "x"),
        ([None], "en"),
        (["en"], HIVE_NULL),
    ],
)
def test_a_column_in_file_and_folder_is_refused_where_they_differ(tmp_path, in_file, key):
    """Nobody can tell which of the two is meant."""
    put(tmp_path / f"k={key}/a.parquet", {"prompt": ["a"], "k": in_file})

    with pytest.raises(TableError, match=r"row 0, column 'k': the file says .* and the folder"):
        rows_of(tmp_path)


def test_names_of_folders_are_asked_for(tmp_path):
    """Text of folders is a number where a number is needed."""
    put(tmp_path / "in/model=v%2Fm/count=3/prompt_id=7/a.parquet", {"prompt": ["a"]})
    batch, store = Batch("shop"), TableStore(str(tmp_path / "out"), "shop")
    source = open_source(str(tmp_path / "in"))
    limits = LIMITS_BY_REVISION["2026-10"]

    (made,) = write_prompts(source, batch=batch, window="", limits=limits, store=store)

    ((row,),) = iter_planned_rows(store, made.slice, batch=batch)
    assert (row.prompt_id, row.request.model, row.request.count) == ("7", "v/m", 3)


TEXTS = [
    pa.array(["a"]),
    pa.array(["a"], pa.large_string()),
    pa.array(["a"]).cast(pa.string_view()),
    pa.array(["a"]).dictionary_encode(),
    pa.array([None], pa.string()),
    pa.nulls(1),
    pa.array([float("nan")]),
    pa.array([None], pa.bool_()),
]
DAY = dt.datetime.fromisoformat("2026-11-22T01:02:03")


@pytest.mark.parametrize(
    "columns",
    [
        TEXTS,
        TEXTS[::-1],
        [pa.array([1], pa.int32()), pa.array([1], pa.int64()), pa.array([1], pa.uint8())],
        [pa.array([1]), pa.array([float("nan")])],
        [pa.array([float("nan")]), pa.array([1])],
        [pa.array([DAY], pa.timestamp(unit)) for unit in ("us", "ns", "ms")],
        [pa.array([DAY], pa.timestamp("us", zone)) for zone in ("UTC", "Europe/Berlin")],
        [pa.array([1.5], pa.float32()), pa.array([1.5])],
        [pa.array([Decimal("1.5")]), pa.array([Decimal("22.25")]), pa.array([3])],
        [pa.array([["a"]]), pa.array([["a"]], pa.large_list(pa.large_string())), pa.nulls(1)],
        [pa.array([["a"]]), pa.array([[None]], pa.list_(pa.null()))],
        [pa.array([{"a": 1}]), pa.array([{"a": 1}], pa.struct([("a", pa.int32())]))],
        [pa.array([b"a"]), pa.array([b"a"], pa.large_binary())],
        [pa.array([dt.time(1)], pa.time32("ms")), pa.array([dt.time(1)], pa.time64("ns"))],
    ],
)
def test_files_that_say_the_same_in_other_types_are_one_table(tmp_path, columns):
    """No user can see the difference in her tool."""
    for n, column in enumerate(columns):
        put(tmp_path / f"{n}.parquet", {"prompt": ["x"], "mine": column})

    found = [row["mine"] for row in rows_of(tmp_path)]

    said = [
        None if value != value else value  # noqa: PLR0124 - NaN is pandas' null
        for column in columns
        for value in column.to_pylist()
    ]
    if isinstance(said[0], dt.datetime) and said[0].tzinfo is None:
        said = [pd.Timestamp(value).to_pydatetime() for value in said]
    assert found == said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a"], [1]),
        ([1], [DAY]),
        ([DAY], ["a"]),
        ([["a"]], ["a"]),
        ([True], [1.5]),
        ([b"a"], ["a"]),
    ],
)
def test_files_that_say_different_things_are_refused(tmp_path, one, other):
    """With column, both types and both files."""
    put(tmp_path / "a.parquet", {"prompt": ["x"], "mine": one})
    put(tmp_path / "b.parquet", {"prompt": ["x"], "mine": other})

    with pytest.raises(TableError, match=r"b.parquet: column 'mine': has type .* in a.parquet"):
        rows_of(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([2**60 + 1]), pa.array([0.5])),
        (pa.array([1], pa.timestamp("ns")), pa.array([DAY], pa.timestamp("us"))),
        (pa.array([2**63], pa.uint64()), pa.array([1])),
    ],
)
def test_a_value_that_would_change_is_an_error(tmp_path, one, other):
    """Types are made one, values never."""
    put(tmp_path / "a.parquet", {"prompt": ["x"], "mine": one})
    put(tmp_path / "b.parquet", {"prompt": ["x"], "mine": other})

    with pytest.raises(TableError, match=r"a.parquet: column .mine.: does not fit the other files"):
        rows_of(tmp_path)


def test_old_timestamps_keep_their_year(tmp_path):
    """Spark's INT96 reaches beyond what nanoseconds can; what is in nanoseconds stays so."""
    forever = dt.datetime.fromisoformat("9999-12-31")
    when = pa.array([forever, DAY], pa.timestamp("us"))
    put(
        tmp_path / "p.parquet",
        {
            "prompt": ["a", "b"],
            "at": when,
            "nested": pa.array([[forever], None], pa.list_(when.type)),
        },
        use_deprecated_int96_timestamps=True,
    )
    put(tmp_path / "ns.parquet", {"prompt": ["a"], "at": pa.array([1], pa.timestamp("ns"))})

    assert [row["at"] for row in rows_of(tmp_path / "p.parquet")] == [forever, DAY]
    assert rows_of(tmp_path / "p.parquet")[0]["nested"] == [forever]
    assert open_source(str(tmp_path / "p.parquet")).schema.field("at").type == pa.timestamp("us")
    assert open_source(str(tmp_path / "ns.parquet")).schema.field("at").type == pa.timestamp("ns")


def test_an_index_without_a_name_is_no_column(tmp_path):
    """pandas says which of its columns are an index; one with a name is the user's."""
    frame = pd.DataFrame({"prompt": ["a", "b"]}, index=[3, 7])
    frame.to_parquet(tmp_path / "unnamed.parquet")
    frame.rename_axis("sku").to_parquet(tmp_path / "named.parquet")
    put(tmp_path / "mine.parquet", {"prompt": ["a"], "__index_level_0__": [1]})

    assert list(rows_of(tmp_path / "unnamed.parquet")[0]) == ["prompt"]
    assert [row["sku"] for row in rows_of(tmp_path / "named.parquet")] == [3, 7]
    assert rows_of(tmp_path / "mine.parquet")[0]["__index_level_0__"] == 1
