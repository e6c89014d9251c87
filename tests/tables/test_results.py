"""Result tables as a whole: every prompt row in exactly one way, in order, bytes stable."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mynth_dagster.errors import TableError
from mynth_dagster.models.task import ImageOutcome
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables import accounting
from mynth_dagster.tables.results import write_results
from mynth_dagster.tables.schemas import (
    carried_schema,
    schema_of,
)
from mynth_dagster.tables.store import FAILURES, IMAGES, PROMPTS, TASKS
from tests.tables.outcomes import NOW_US, SLICE, failed, image


def test_schemas_are_as_documented(write, collect, store):
    """The three tables have their columns in the documented order, carried ones at the end."""
    write({"prompt": ["a"], "category": ["c"]})
    collect()

    carried = carried_schema(store.read_schema(PROMPTS, SLICE)).remove_metadata()
    assert carried.names == ["category"]
    expected = [schema_of(TASKS), schema_of(IMAGES, carried), schema_of(FAILURES, carried)]
    assert expected == [
        store.read_schema(table, SLICE).remove_metadata() for table in (TASKS, IMAGES, FAILURES)
    ]
    documented = (
        "prompt_id request_key image_index image_id url mynth_url model_requested model width "
        "height format cost_usd cost_basis rating_level rating_error destination "
        "destination_status destination_error metadata prompt prompt_sent task_id intent_id "
        "submitted_at completed_at url_expires_at file_path file_bytes file_sha256 category"
    )
    assert documented.split() == expected[1].names
    documented = (
        "prompt_id request_key image_index stage status error_code error_message field "
        "http_status money retryable attempts task_id intent_id next_step category"
    )
    assert documented.split() == expected[2].names
    documented = (
        "prompt_id request_key shard intent_id generation attempt current status task_id "
        "model quoted_usd reserved_usd charged_usd submitted_at completed_at error_code "
        "error_message public_access_token token_expires_at"
    )
    assert documented.split() == expected[0].names
    assert pa.decimal128(18, 8) == expected[1].field("cost_usd").type
    assert pa.timestamp("us", "UTC") == expected[1].field("submitted_at").type


def test_rows_keep_the_order_of_the_input(write, collect, known):
    """Images and failures come in the order of the prompt rows, over many batches."""
    ids = [f"{number * 7919 % 3000:04d}" for number in range(3000)]
    planned = write({"prompt": ["p"] * 3000, "prompt_id": ids}).planned()
    for row in planned[::300]:
        known.add(row, images=[image(0)])

    _, tables = collect()

    assert ids[::300] == [found["prompt_id"] for found in tables[IMAGES]]
    asked_for = set(ids[::300])
    assert [name for name in ids if name not in asked_for] == [
        failure["prompt_id"] for failure in tables[FAILURES]
    ]


def test_equal_knowledge_makes_equal_bytes(write, collect, known, store):
    """A second collection without news writes the very same files."""
    for row in write({"prompt": ["a", "b", "c"]}).planned()[:2]:
        known.add(row, images=[image(0)])
    collect()
    first = [Path(store.path(table, SLICE)).read_bytes() for table in (TASKS, IMAGES, FAILURES)]

    collect(now_us=NOW_US + 3_600_000_000)

    again = [Path(store.path(table, SLICE)).read_bytes() for table in (TASKS, IMAGES, FAILURES)]
    assert first == again


def test_row_that_is_not_accounted_for_stops(write, collect, known, store):
    """If a row would have two images of one index nothing is published, and the row is named."""
    (row,) = write({"prompt_id": ["x"], "prompt": ["a"], "count": [2]}).planned()
    known.add(row, images=[image(0), image(0)])

    with pytest.raises(accounting.UnaccountedRowError, match="row 'x@auto'"):
        collect()

    assert not store.exists(TASKS, SLICE)


def test_results_need_a_prompt_table(collect):
    """Without a prompt table there is nothing to account for, and that is said."""
    with pytest.raises(TableError, match="there is no `prompts` yet: make that first"):
        collect()


def test_empty_prompt_table_makes_empty_results(write, collect):
    """No prompt rows make three typed tables without rows."""
    write({"prompt": pa.array([], pa.string())})

    summary, tables = collect()

    assert tables == {TASKS: [], IMAGES: [], FAILURES: []}
    assert summary.n_rows == 0


def test_slices_name_their_fan_out(write, known, store):
    """The shard column of `tasks` is the key of the slice, not of the intent."""
    written = write({"prompt": ["a"], "prompt_id": ["x"]}, fan_out=2)
    (row,) = written.planned()
    known.add(row, images=[image(0)], fan_out="009")
    (home,) = [summary.slice for summary in written.summaries if summary.n_rows]

    write_results(store, home, lookup=known, version=1, now_us=NOW_US)

    (batch,) = store.iter_batches(TASKS, home)
    assert [home.fan_out] == batch.column("shard").to_pylist()


OUTCOMES = st.lists(st.sampled_from(["image", "failed", "destination"]), max_size=5)
FATES = st.one_of(
    st.none(),
    st.tuples(st.sampled_from([s for s in IntentState if s not in accounting.DELIVERING])),
    st.tuples(st.sampled_from(accounting.DELIVERING), st.one_of(st.none(), OUTCOMES)),
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(fates=st.lists(st.tuples(st.integers(0, 5), FATES), min_size=1, max_size=6))
def test_every_row_is_accounted_for_exactly(write, known, collect, fates):
    """For any fates, images and image failures add up to what was asked, or one failure stands."""
    known.intents.clear()
    known.tasks.clear()
    rows = write(
        {
            "prompt_id": [str(number) for number in range(len(fates))],
            "prompt": ["p"] * len(fates),
            "count": [count for count, _ in fates],  # 0 is refused by our own checks
        }
    )
    planned = {row.prompt_id: row for row in rows.planned()}
    for number, (_, fate) in enumerate(fates):
        row = planned.get(str(number))
        if row and fate:
            kinds = fate[1] if len(fate) > 1 else None
            known.add(row, fate[0], images=None if kinds is None else outcomes(kinds))

    summary, tables = collect()

    for said in summary.rows_in_words.split("; "):
        whole, parts = said.split(" = ")
        assert int(whole.split()[0]) == sum(int(part.split()[0]) for part in parts.split(" + "))
    for number, (count, fate) in enumerate(fates):
        images = [r for r in tables[IMAGES] if r["prompt_id"] == str(number)]
        failures = [r for r in tables[FAILURES] if r["prompt_id"] == str(number)]
        whole = [failure for failure in failures if failure["image_index"] is None]
        if whole:
            assert (len(failures), len(images)) == (1, 0)
        else:
            assert fate is not None
            assert max(count, len(fate[1])) == len(images) + len(failures)


def outcomes(kinds: list[str]) -> list[ImageOutcome]:
    made = {
        "image": image,
        "failed": failed,
        "destination": lambda index: replace(image(index), url=None, destination_status="failed"),
    }
    return [made[kind](index) for index, kind in enumerate(kinds)]


def test_summary_samples_images_and_failures(write, known, collect):
    """For people: sums, the first images with their facts, each code with examples and words."""
    written = write(
        {"prompt_id": ["a", "b", "c", "d"], "prompt": ["p", "q", "r", " "], "count": [2, 1, 1, 1]}
    )
    first, second, third = written.planned()
    known.add(first, images=[image(0, width=64, height=32, cost_units=3), image(1)])
    known.add(second, IntentState.FAILED, images=[failed(0)])
    known.add(third, IntentState.FAILED, images=[failed(0)])

    summary, _ = collect()

    assert summary.rows_in_words == "4 rows = 1 rejected + 3 sent; 3 sent = 1 delivered + 2 failed"
    assert (summary.n_images_asked, summary.n_images_missing, summary.n_images) == (4, 2, 2)
    assert [(i.prompt_id, i.image_index, i.width, i.cost_units) for i in summary.images] == [
        ("a", 0, 64, 3),
        ("a", 1, None, None),
    ]
    kinds = [(k.code, k.n_failures, k.n_retryable, k.examples) for k in summary.failure_kinds]
    assert kinds == [("restricted_content", 2, 0, ["b", "c"]), ("empty_prompt", 1, 0, ["d"])]
    assert summary.failure_kinds[0].next_step
    assert summary.median_task_s == 5.0
