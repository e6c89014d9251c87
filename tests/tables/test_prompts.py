"""From source rows to request rows: names, defaults, models, slices, columns."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import shard_of
from mynth_dagster.models.request import InputImage, Rating, Routing, RowRequest, request_hash
from mynth_dagster.models.task import CatalogModel, Offers
from mynth_dagster.tables import prompts as prompts_module
from mynth_dagster.tables.prompts import write_prompts
from mynth_dagster.tables.schemas import OUR_COLUMNS, schema_of
from mynth_dagster.tables.source import open_source, source_from_arrow
from mynth_dagster.tables.store import PROMPTS, TableStore
from tests.batches import make_batch
from tests.tables.outcomes import iter_planned_rows

PARTI = Path(__file__).parents[3] / "shared/data/parti_prompts.parquet"


def test_prompt_alone_is_enough(write):
    """A table of prompts becomes one request per row, in order, with the schema as documented."""
    written = write({"prompt": ["a", "b"]})

    assert [row.request.prompt for row in written.planned()] == ["a", "b"]
    schema = written.store.read_schema(PROMPTS, Slice()).remove_metadata()
    assert schema_of(PROMPTS) == schema
    assert list(OUR_COLUMNS) == schema.names


def test_all_columns_reach_the_request(write):
    """Every column that means something ends in the request it describes."""
    rows = {
        "prompt_id": [7],
        "prompt": ["a kite"],
        "negative_prompt": ["rain"],
        "model": ["v/m"],
        "size": ["1:1"],
        "count": [3],
        "inputs": [["https://x/1.png", "https://x/2.png"]],
        "output_format": ["png"],
        "output_quality": [90],
        "enhance": ["magic"],
        "destination": ["my-bucket"],
        "metadata": ['{ "sku": 1.5 }'],
    }

    (row,) = write(rows).planned()

    expected = RowRequest(
        prompt="a kite",
        negative_prompt="rain",
        model="v/m",
        size="1:1",
        count=3,
        inputs=(InputImage("https://x/1.png"), InputImage("https://x/2.png")),
        output_format="png",
        output_quality=90,
        enhance="magic",
        routing=Routing(metadata_json='{"sku":1.5}', destination="my-bucket"),
    )
    assert expected == row.request
    assert (row.prompt_id, row.request_key, row.row_index) == ("7", "7@v/m", 0)
    assert request_hash(expected) == row.request_hash


def test_defaults_fill_what_a_row_leaves_open(write):
    """Where a row is silent or blank the batch's defaults count, also in the hash."""
    defaults = {
        "negative_prompt": "rain",
        "size": "1:1",
        "count": 2,
        "output_format": "png",
        "output_quality": 80,
        "enhance": "magic",
        "rating": Rating(),
        "destination": "bucket",
        "webhook_urls": ("https://x/hook",),
        "mute_registered_webhooks": True,
    }

    silent, spoken = write(
        {"prompt": ["a", "a"], "size": [" ", "2:3"], "count": [None, 1]}, **defaults
    ).planned()

    expected = RowRequest(
        prompt="a",
        negative_prompt="rain",
        size="1:1",
        count=2,
        output_format="png",
        output_quality=80,
        enhance="magic",
        rating=Rating(),
        routing=Routing(
            destination="bucket", webhook_urls=("https://x/hook",), mute_registered_webhooks=True
        ),
    )
    assert expected == silent.request
    assert request_hash(expected) == silent.request_hash
    assert (spoken.request.size, spoken.request.count) == ("2:3", 1)


def test_each_row_is_asked_of_each_model(write):
    """Prompts × models in source order, then the order of models; a row's own model wins."""
    rows = {"prompt_id": ["x", "y"], "prompt": ["a", "b"], "model": [None, "v/own"]}

    planned = write(rows, models=("v/m2", "v/m1")).planned()

    expected = [("x@v/m2", "v/m2", 0), ("x@v/m1", "v/m1", 0), ("y@v/own", "v/own", 1)]
    assert expected == [(row.request_key, row.request.model, row.row_index) for row in planned]


def test_fan_out_by_model_makes_a_slice_of_each(write):
    """With a partition per model each slice asks one model."""
    written = write({"prompt": ["a", "b"]}, models=("v/m1", "v/m2"), fan_out="model")

    assert [summary.slice.fan_out for summary in written.summaries] == ["v/m1", "v/m2"]
    for summary in written.summaries:
        assert {summary.slice.fan_out} == {row["model"] for row in written.rows(summary.slice)}


def test_model_without_a_slice_is_accounted_for_once(write):
    """A row's own model that has no partition is a problem of that row, in the first slice."""
    rows = {"prompt": ["a", "b"], "model": ["v/other", "v/m2"]}

    written = write(rows, models=("v/m1", "v/m2"), fan_out="model")

    first, second = (written.rows(summary.slice) for summary in written.summaries)
    assert [(r["prompt"], r["problem_code"]) for r in first] == [("a", "model_not_in_fan_out")]
    assert [(r["prompt"], r["problem_code"]) for r in second] == [("b", None)]


def test_shards_follow_the_prompt_id(write):
    """A row's shard depends on its id alone, so all models of a prompt share it."""
    rows = {"prompt": ["p"] * 40, "prompt_id": range(40)}

    written = write(rows, fan_out=4, models=("v/m1", "v/m2"))

    for summary in written.summaries:
        for row in written.rows(summary.slice):
            assert summary.slice.fan_out == f"{shard_of(row['prompt_id'], 4):03d}"
    assert len(written.rows()) == 80


def test_only_wanted_slices_are_written(write, store):
    """Some slices of a window may be written alone, with the very same bytes."""
    rows = {"prompt": ["p"] * 300, "prompt_id": range(300)}
    written = write(rows, fan_out=3)
    path = Path(store.path(PROMPTS, written.summaries[1].slice))
    whole = path.read_bytes()
    path.unlink()

    again = write(rows, fan_out=3, wanted=[written.summaries[1].slice])

    assert [written.summaries[1]] == again.summaries
    assert whole == path.read_bytes()


def test_unknown_slice_is_refused(write):
    """A slice that the batch has not is a fault of the caller."""
    with pytest.raises(ConfigError, match="no partition of this batch"):
        write({"prompt": ["a"]}, fan_out=2, wanted=[Slice("", "007")])


def test_many_slices_need_few_open_files(write, monkeypatch):
    """A window with more slices than files may be open is written in several passes."""
    rows = {"prompt": ["p"] * 60, "prompt_id": range(60)}
    expected = [summary.n_rows for summary in write(rows, fan_out=7).summaries]
    monkeypatch.setattr(prompts_module, "WRITERS_OPEN_MAX", 2)

    assert expected == [summary.n_rows for summary in write(rows, fan_out=7).summaries]


def test_slices_without_rows_become_empty_tables(write, store):
    """An empty source is fine: each slice gets a typed table without rows."""
    rows = {"prompt": pa.array([], pa.string()), "kept": pa.array([], pa.int8())}

    written = write(rows, fan_out=2)

    assert [summary.n_rows for summary in written.summaries] == [0, 0]
    schema = store.read_schema(PROMPTS, written.summaries[1].slice)
    assert pa.int8() == schema.field("kept").type
    assert written.planned() == []


def test_repeated_id_stops_everything(write, store):
    """An id given twice names both rows and publishes nothing."""
    ids = [str(number) for number in range(20_000)]
    ids[19_999] = "7"

    with pytest.raises(TableError, match="'7' is given twice: row 7 and row 19999"):
        write({"prompt": ["p"] * 20_000, "prompt_id": ids})

    assert not store.exists(PROMPTS, Slice())


def test_repeated_id_across_files_names_the_files(tmp_path, store, limits):
    """An id given in two files is found, and both files are named."""
    for name in ("a", "b"):
        pq.write_table(
            pa.table({"prompt": ["p"], "prompt_id": ["x"]}), tmp_path / f"{name}.parquet"
        )

    with pytest.raises(TableError, match=r"row 0 \(in .*a.parquet\) and row 1 \(in .*b.parquet\)"):
        write_prompts(
            open_source(str(tmp_path)), batch=Batch("shop"), window="", limits=limits, store=store
        )


def test_many_repeated_ids_are_counted(write):
    """Of very many repeated ids five are named, and how many more there are."""
    with pytest.raises(TableError, match="and 994 more"):
        write({"prompt": ["p"] * 1_000, "prompt_id": ["same"] * 1_000})


def test_equal_rows_without_ids_are_separate_requests(write):
    """Rows without ids get names from what they ask for, numbered where equal."""
    names = [row.prompt_id for row in write({"prompt": ["a", "b", "a", "a"]}).planned()]

    assert [names[0], names[1], f"{names[0]}-2", f"{names[0]}-3"] == names
    assert names[0].startswith("row_")


def test_derived_names_do_not_depend_on_the_batch(write):
    """Defaults, models and carried columns leave derived names alone."""
    rows = {"prompt": ["a"], "size": ["1:1"]}

    (plain,) = write(rows).planned()
    (other,) = write({**rows, "kept": [1]}, models=("v/m",), count=3).planned()
    (edited,) = write({**rows, "size": ["2:3"]}).planned()

    assert plain.prompt_id == other.prompt_id != edited.prompt_id


def test_changed_defaults_stop_the_plan(write, store):
    """Rows completed under other defaults are not asked for."""
    write({"prompt": ["a"]})

    with pytest.raises(TableError, match="other defaults"):
        list(iter_planned_rows(store, Slice(), batch=make_batch("shop", count=2)))


def test_missing_table_stops_the_plan(store):
    """Planning without a prompt table says what is missing."""
    with pytest.raises(TableError, match="there is no `prompts` yet"):
        list(iter_planned_rows(store, Slice(), batch=Batch("shop")))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"models": ("v/mm",)}, "models: Mynth lists no model 'v/mm'; did you mean 'v/m'"),
        ({"models": ("a@b",)}, "models"),
        ({"size": "huge"}, "request.size: 'huge' is no size"),
        ({"count": 0}, "request.count: 0 images"),
        ({"enhance": "native"}, "request.enhance"),
    ],
)
def test_settings_that_no_row_can_use_are_refused(write, settings, complaint):
    """A wrong model or default is a fault of the settings, found before reading."""
    with pytest.raises(ConfigError, match=complaint):
        write({"prompt": ["a"]}, offers=Offers({"v/m": CatalogModel("v/m")}), **settings)


def test_auto_needs_no_listing(write):
    """The automatic choice of a model is asked for even if the server does not list it."""
    assert len(write({"prompt": ["a"]}, offers=Offers({"v/m": CatalogModel("v/m")})).planned()) == 1


def test_summary_counts_rows_and_images(write):
    """A summary says how many rows, images and problems a table has."""
    rows = {"prompt": ["a", "", "c"], "count": [2, 2, 3]}

    (summary,) = write(rows).summaries

    assert (
        summary.n_rows,
        summary.n_valid,
        summary.n_rejected,
        summary.n_images_asked,
    ) == (3, 2, 1, 5)
    assert summary.problems_by_code == {"empty_prompt": 1}
    assert [row["prompt"] if row["problem_code"] is None else None for row in summary.sample] == [
        "a",
        None,
        "c",
    ]


def test_writing_twice_makes_equal_bytes(write, store):
    """Equal rows make an equal file."""
    rows = {"prompt": ["a"] * 100, "kind": pa.array(["x", "y"] * 50).dictionary_encode()}
    write(rows)
    path = Path(store.path(PROMPTS, Slice()))
    first = path.read_bytes()

    write(rows)

    assert first == path.read_bytes()


def test_real_prompts_are_split_over_shards(store):
    """The public prompt set loses and doubles no row over eight shards."""
    if not PARTI.exists():
        pytest.skip(f"the prompt set is not at {PARTI}")
    batch = make_batch("shop", fan_out=8)

    summaries = write_prompts(
        open_source(str(PARTI)),
        batch=batch,
        window="",
        limits=LIMITS_BY_REVISION["2026-04"],
        store=store,
    )

    ids = [
        row.prompt_id
        for summary in summaries
        for rows in iter_planned_rows(store, summary.slice, batch=batch)
        for row in rows
    ]
    assert 1632 == len(ids) == len(set(ids))
    assert sum(summary.n_valid for summary in summaries) == 1632


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([None, "1:1", "2:3"])), max_size=12
)


def named(rows, **settings) -> list[tuple]:
    """Write rows to memory; `(slice, prompt, size, id, model)` of each request."""
    table = pa.table(
        {
            "prompt": pa.array([prompt for prompt, _ in rows], pa.string()),
            "size": pa.array([size for _, size in rows], pa.string()),
        }
    )
    batch = make_batch("shop", **settings)
    store = TableStore("memory://named", "shop")
    summaries = write_prompts(
        source_from_arrow(table, "rows"),
        batch=batch,
        window="",
        limits=LIMITS_BY_REVISION["2026-08"],
        store=store,
    )
    return [
        (
            summary.slice.fan_out,
            row.request.prompt,
            row.request.size,
            row.prompt_id,
            row.request.model,
        )
        for summary in summaries
        for found in iter_planned_rows(store, summary.slice, batch=batch)
        for row in found
    ]


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, data=st.data())
def test_derived_names_do_not_depend_on_order(rows, data):
    """Shuffled rows get the same names for the same wishes."""
    shuffled = data.draw(st.permutations(rows))

    assert sorted(named(rows), key=str) == sorted(named(shuffled), key=str)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, shards=st.integers(1, 5), n_models=st.integers(1, 3), by_model=st.booleans())
def test_fan_out_is_a_partition(rows, shards, n_models, by_model):
    """Whatever the fan-out, each row is asked of each model in exactly one slice."""
    models = tuple(f"v/m{number}" for number in range(n_models))
    whole = named(rows, models=models)
    settings_ = {"fan_out": "model"} if by_model else {"fan_out": shards}

    parts = named(rows, models=models, **settings_)

    assert len(rows) * n_models == len(parts)
    assert sorted(map(str, (row[1:] for row in whole))) == sorted(
        map(str, (row[1:] for row in parts))
    )


@pytest.mark.parametrize(("n_rows", "is_changed"), [(3, False), (2, True)])
def test_summary_tells_whether_the_table_reads_otherwise(tmp_path, n_rows, is_changed):
    """Writing the same rows again is no change; a missing row is."""
    store = TableStore(str(tmp_path), "shots")

    def write(n_written: int):
        rows = pa.table({"prompt": [f"a kite, number {i}" for i in range(n_written)]})
        (summary,) = write_prompts(
            source_from_arrow(rows, "rows"),
            batch=Batch("shots"),
            window="",
            limits=LIMITS_BY_REVISION["2026-08"],
            store=store,
        )
        return summary

    assert write(3).is_changed
    assert write(n_rows).is_changed is is_changed
