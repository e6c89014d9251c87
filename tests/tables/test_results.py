"""Result tables: every prompt row in exactly one way, money exact, bytes stable."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mynth_dagster.clock import utc_from_us
from mynth_dagster.errors import TableError
from mynth_dagster.models.intent import SurplusTask
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import Fault, ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables import accounting
from mynth_dagster.tables.files import FAILURES, IMAGES, PROMPTS, TASKS, TableStore
from mynth_dagster.tables.prompt_schema import carried_schema
from mynth_dagster.tables.result_schemas import TASKS_SCHEMA, failures_schema, images_schema
from mynth_dagster.tables.results import write_results

NOW_US = 1_795_000_100_000_000
SLICE = Slice()


def image(index: int, **facts) -> ImageOutcome:
    return ImageOutcome(index, f"img_{index}", f"https://cdn/{index}.webp", **facts)


def failed(index: int, code: str = "RESTRICTED_CONTENT") -> ImageOutcome:
    return ImageOutcome(index, fault=Fault(code))


@pytest.fixture
def collect(store, known):
    """Write the results of the whole batch; summary and the rows of each table."""

    def collected(**settings):
        given_ = {"lookup": known, "version": 3, "now_us": NOW_US, **settings}
        summary = write_results(store, SLICE, **given_)
        return summary, {table: rows_of(store, table) for table in (TASKS, IMAGES, FAILURES)}

    return collected


def rows_of(store: TableStore, table: str) -> list[dict]:
    return [row for batch in store.iter_batches(table, SLICE) for row in batch.to_pylist()]


def test_schemas_are_as_documented(write, collect, store):
    """The three tables have their columns in the documented order, carried ones at the end."""
    write({"prompt": ["a"], "category": ["c"]})
    collect()

    carried = carried_schema(store.read_schema(PROMPTS, SLICE)).remove_metadata()
    assert carried.names == ["category"]
    expected = [TASKS_SCHEMA, images_schema(carried), failures_schema(carried)]
    assert expected == [
        store.read_schema(table, SLICE).remove_metadata() for table in (TASKS, IMAGES, FAILURES)
    ]
    documented = (
        "prompt_id request_key image_index image_id url mynth_url model_requested model width "
        "height format cost_usd cost_basis rating_level rating_error destination "
        "destination_status destination_error metadata prompt_sent task_id intent_id submitted_at "
        "completed_at url_expires_at file_path file_bytes file_sha256 category"
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


def test_delivered_row_is_in_images(write, collect, known, store):
    """A completed row has its images with all that is known of them, and no failure."""
    (row,) = write({"prompt_id": ["x"], "prompt": ["a kite"], "count": [2]}).planned()
    facts = {"width": 10, "height": 20, "format": "webp", "rating_level": "sfw"}
    known.add(
        row,
        images=[image(0, cost_units=5, **facts), image(1, cost_units=7, mynth_url="https://m/1")],
        task={
            "model": "v/chosen",
            "prompt_sent": "a red kite",
            "cost_units": 12,
            "metadata": {"job": 7, "mynth_dagster": "int_x.0.led_x"},
        },
        charged_units=12,
        reserved_units=20,
        quoted_units=18,
        submitted_at_us=NOW_US - 50,
        completed_at_us=NOW_US - 10,
    )

    summary, tables = collect()

    first, second = tables[IMAGES]
    expected = {
        "prompt_id": "x",
        "request_key": "x",
        "image_index": 0,
        "image_id": "img_0",
        "url": "https://cdn/0.webp",
        "mynth_url": None,
        "model_requested": "auto",
        "model": "v/chosen",
        "width": 10,
        "height": 20,
        "format": "webp",
        "rating_level": "sfw",
        "rating_error": None,
        "destination": None,
        "destination_status": None,
        "destination_error": None,
        "metadata": '{"job":7}',
        "cost_usd": Decimal("0.00000005"),
        "cost_basis": "image",
        "prompt_sent": "a red kite",
        "task_id": "tsk_x_1",
        "intent_id": "int_x_1",
        "submitted_at": utc_from_us(NOW_US - 50),
        "completed_at": utc_from_us(NOW_US - 10),
        "url_expires_at": None,
        "file_path": None,
        "file_bytes": None,
        "file_sha256": None,
    }
    assert expected == first
    assert (second["image_index"], second["mynth_url"]) == (1, "https://m/1")
    assert tables[FAILURES] == []
    (task,) = tables[TASKS]
    assert (
        task["current"],
        task["status"],
        task["generation"],
        task["attempt"],
    ) == (True, "completed", 1, 1)
    assert (Decimal("0.00000018"), Decimal("0.00000020"), Decimal("0.00000012")) == (
        task["quoted_usd"],
        task["reserved_usd"],
        task["charged_usd"],
    )
    assert (
        summary.n_rows,
        summary.n_images_asked,
        summary.n_images,
        summary.n_failures,
        summary.charged_units,
        summary.n_cost_unknown,
    ) == (1, 2, 2, 0, 12, 0)
    assert store.read_metadata(TASKS, SLICE) == {"mynth:schema": "1", "mynth:version": "3"}


def test_partial_row_is_in_both_tables(write, collect, known):
    """Of a partial task the delivered images are images and the others image-level failures."""
    (row,) = write({"prompt": ["a"], "count": [4], "sku": ["s"]}).planned()
    outcomes = [image(0), failed(1), image(3)]
    known.add(row, IntentState.PARTIAL, images=outcomes, reserved_units=8)

    summary, tables = collect()

    assert [found["image_index"] for found in tables[IMAGES]] == [0, 3]
    shown = [(f["image_index"], f["error_code"], f["money"]) for f in tables[FAILURES]]
    assert shown == [(1, "restricted_content", "refunded"), (2, "image_missing", "refunded")]
    assert {"s"} == {row["sku"] for table in (IMAGES, FAILURES) for row in tables[table]}
    assert summary.rows_by_status == {"partial": 1}


def test_cost_of_the_task_is_split_exactly(write, collect, known):
    """Where only the task's cost is known the images share it to the last unit."""
    (row,) = write({"prompt": ["a"], "count": [3]}).planned()
    known.add(row, images=[image(0), image(1), image(2)], task={"cost_units": 100})

    _, tables = collect()

    assert [f"{found['cost_usd']:f}" for found in tables[IMAGES]] == [
        "0.00000034",
        "0.00000033",
        "0.00000033",
    ]
    assert {found["cost_basis"] for found in tables[IMAGES]} == {"allocated"}


def test_only_what_is_left_of_the_cost_is_split(write, collect, known):
    """Images of known cost, failed ones too, keep it; the others share the rest."""
    (row,) = write({"prompt": ["a"], "count": [4]}).planned()
    outcomes_ = [image(0, cost_units=40), image(1), replace(failed(2), cost_units=10), image(3)]
    known.add(row, IntentState.PARTIAL, images=outcomes_, charged_units=101)

    _, tables = collect()

    costs = [int(found["cost_usd"] * 10**8) for found in tables[IMAGES]]
    assert costs == [40, 26, 25]


def test_unknown_cost_stays_unknown(write, collect, known):
    """A cost that nobody told is null, never zero, and is counted."""
    (row,) = write({"prompt": ["a"]}).planned()
    known.add(row, images=[image(0)])

    summary, tables = collect()

    assert [found["cost_usd"] for found in tables[IMAGES]] == [None]
    assert (summary.charged_units, summary.n_cost_unknown) == (0, 1)


def test_more_images_than_asked_are_all_shown(write, collect, known):
    """Images beyond the number asked for are charged, so they are listed."""
    (row,) = write({"prompt": ["a"], "count": [1]}).planned()
    known.add(row, images=[image(0), image(1)])

    summary, tables = collect()

    assert 2 == len(tables[IMAGES]) == summary.n_images
    assert tables[FAILURES] == []


def test_image_lost_by_the_destination_is_a_delivery_failure(write, collect, known):
    """An image that exists nowhere because its destination failed is no image."""
    (row,) = write({"prompt": ["a"]}).planned()
    outcome = ImageOutcome(0, "img_0", destination="b", destination_status="failed", cost_units=5)
    known.add(row, images=[outcome])

    _, tables = collect()

    (failure,) = tables[FAILURES]
    assert (
        failure["stage"],
        failure["error_code"],
        failure["money"],
    ) == ("delivery", "destination_failed", "charged")


@pytest.mark.parametrize(
    ("stop_code", "status", "code"),
    [
        (None, "not_submitted", "not_submitted"),
        ("insufficient_balance", "withheld", "insufficient_balance"),
    ],
)
def test_row_that_nobody_asked_for_is_a_failure(write, collect, stop_code, status, code):
    """A good row without an intent says so; withheld, where the last run stopped before it."""
    write({"prompt": ["a"]})

    summary, tables = collect(stop_code=stop_code)

    (failure,) = tables[FAILURES]
    assert (
        failure["stage"],
        failure["error_code"],
        failure["money"],
        failure["retryable"],
        failure["attempts"],
    ) == ("submission", code, "not charged", True, 0)
    assert ({code: 1}, {status: 1}) == (summary.failures_by_code, summary.rows_by_status)


def test_rejected_row_is_a_failure_of_validation(write, collect):
    """A row that failed our checks tells its problem and its column."""
    write({"prompt": [""], "count": [3]})

    summary, tables = collect()

    (failure,) = tables[FAILURES]
    assert (
        failure["stage"],
        failure["status"],
        failure["error_code"],
        failure["field"],
        failure["image_index"],
    ) == ("validation", "rejected_input", "empty_prompt", "prompt", None)
    assert summary.n_images_asked == 0


@pytest.mark.parametrize("state", [s for s in IntentState if s not in accounting.DELIVERING])
def test_each_state_without_images_is_one_failure(write, collect, known, state):
    """Whatever state a row is in, it has exactly one failure of the whole request."""
    (row,) = write({"prompt": ["a"], "count": [4]}).planned()
    known.add(row, state, attempt=2)

    summary, tables = collect()

    (failure,) = tables[FAILURES]
    assert (state.value, None, 2) == (
        failure["status"],
        failure["image_index"],
        failure["attempts"],
    )
    assert tables[IMAGES] == []
    assert {state.value: 1} == summary.rows_by_status


def test_overdue_row_is_stalled(write, collect, known, store):
    """Past its deadline an accepted row is shown as stalled; until then nothing depends on now."""
    (row,) = write({"prompt": ["a"]}).planned()
    known.add(row, IntentState.ACCEPTED, deadline_at_us=NOW_US, task_id="tsk", reserved_units=4)

    summary, _ = collect()
    early = Path(store.path(FAILURES, SLICE)).read_bytes()
    collect(now_us=NOW_US - 1_000_000)
    assert early == Path(store.path(FAILURES, SLICE)).read_bytes()
    late, tables = collect(now_us=NOW_US + 1)

    assert (summary.n_pending, summary.n_stalled, summary.reserved_units) == (1, 0, 4)
    assert (late.n_pending, late.n_stalled) == (0, 1)
    assert "stalled" == tables[TASKS][0]["status"] == tables[FAILURES][0]["status"]


def test_delivered_row_without_its_task_is_not_collected(write, collect, known):
    """A completed row whose task could not be read is a failure of collection, not lost."""
    (row,) = write({"prompt": ["a"]}).planned()
    known.add(row)

    _, tables = collect()

    assert [(failure["stage"], failure["error_code"]) for failure in tables[FAILURES]] == [
        ("collection", "not_collected")
    ]


def test_failed_task_tells_its_faults(write, collect, known):
    """A failed task gives its codes in lower snake case and what became of the money."""
    (row,) = write({"prompt": ["a"]}).planned()
    faults = (Fault("GENERATION_FAILED", "no luck"), Fault("x", "again"))
    task = {"status": TaskStatus.FAILED, "faults": faults}
    known.add(row, IntentState.FAILED, images=[], task=task, reserved_units=5)

    _, tables = collect()

    (failure,) = tables[FAILURES]
    assert (
        failure["error_code"],
        failure["error_message"],
        failure["money"],
    ) == ("generation_failed", "no luck; again", "refunded")
    assert tables[TASKS][0]["error_code"] == "generation_failed"


def test_newest_generation_that_delivered_is_shown(write, collect, known):
    """While a newer generation is on its way the older images stay; only the newest is current."""
    (row,) = write({"prompt": ["a"]}).planned()
    known.add(row, IntentState.ACCEPTED, generation=2, task_id="tsk_2")
    known.add(row, images=[image(0)])

    _, tables = collect()

    assert ["int_" + row.request_key + "_1"] == [found["intent_id"] for found in tables[IMAGES]]
    assert [(t["generation"], t["current"]) for t in tables[TASKS]] == [(1, False), (2, True)]


def test_edited_row_is_asked_for_anew(write, collect, known):
    """After an edit the old task is listed as not current and the row waits to be sent."""
    (row,) = write({"prompt_id": ["x"], "prompt": ["before"]}).planned()
    known.add(row, images=[image(0)], charged_units=9)
    write({"prompt_id": ["x"], "prompt": ["after"]})

    summary, tables = collect()

    assert [task["current"] for task in tables[TASKS]] == [False]
    assert [failure["error_code"] for failure in tables[FAILURES]] == ["not_submitted"]
    assert (summary.n_images, summary.charged_units) == (0, 9)


def test_removed_rows_and_surplus_tasks_are_listed(write, collect, known):
    """Tasks of rows that are gone, and second tasks of one intent, stay in `tasks` with money."""
    rows = {"prompt_id": ["x", "y"], "prompt": ["a", "b"]}
    x, y = write(rows).planned()
    intent = known.add(x, images=[image(0)], charged_units=1)
    known.add(y, images=[image(0)], charged_units=2)
    extra = Task("tsk_extra", TaskStatus.COMPLETED, NOW_US, NOW_US + 1, cost_units=4)
    known.surplus[intent.intent_id] = [
        SurplusTask("tsk_extra", intent.intent_id, extra),
        SurplusTask("tsk_new", intent.intent_id),
    ]
    write({name: values[:1] for name, values in rows.items()})

    summary, tables = collect()

    listed = [(t["prompt_id"], t["task_id"], t["status"], t["current"]) for t in tables[TASKS]]
    assert listed == [
        ("x", "tsk_x_1", "completed", True),
        ("x", "tsk_extra", "completed", False),
        ("x", "tsk_new", "accepted", False),
        ("y", "tsk_y_1", "completed", False),
    ]
    assert (summary.charged_units, summary.n_cost_unknown, summary.n_tasks) == (7, 1, 4)


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

    with pytest.raises(accounting.UnaccountedRowError, match="row 'x'"):
        collect()

    assert not store.exists(TASKS, SLICE)


def test_results_need_a_prompt_table(collect):
    """Without a prompt table there is nothing to account for, and that is said."""
    with pytest.raises(TableError, match="no such file"):
        collect()


def test_empty_prompt_table_makes_empty_results(write, collect):
    """No prompt rows make three typed tables without rows."""
    write({"prompt": pa.array([], pa.string())})

    summary, tables = collect()

    assert tables == {TASKS: [], IMAGES: [], FAILURES: []}
    assert summary.n_rows == 0


def test_slices_name_their_fan_out(write, known, store):
    """The shard column of `tasks` is the key of the slice, not of the intent."""
    written = write({"prompt": ["a"], "prompt_id": ["x"]}, shards=2)
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

    _, tables = collect()

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
    """For people: the first images with their facts, and each code with examples and words."""
    written = write(
        {"prompt_id": ["a", "b", "c", "d"], "prompt": ["p", "q", "r", " "], "count": [2, 1, 1, 1]}
    )
    first, second, third = written.planned()
    known.add(first, images=[image(0, width=64, height=32, cost_units=3), image(1)])
    known.add(second, IntentState.FAILED, images=[failed(0)])
    known.add(third, IntentState.FAILED, images=[failed(0)])

    summary, _ = collect()

    assert [(i.prompt_id, i.image_index, i.width, i.cost_units) for i in summary.images] == [
        ("a", 0, 64, 3),
        ("a", 1, None, None),
    ]
    kinds = [(k.code, k.n_failures, k.n_retryable, k.examples) for k in summary.failure_kinds]
    assert kinds == [("restricted_content", 2, 0, ["b", "c"]), ("empty_prompt", 1, 0, ["d"])]
    assert summary.failure_kinds[0].next_step
    assert summary.median_task_s == 5.0
