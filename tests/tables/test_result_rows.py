"""Rows of result tables: what each prompt row came to, what it cost and what to do next."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from mynth_dagster.clock import utc_from_us
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.intent import SurplusTask
from mynth_dagster.models.task import CatalogModel, Fault, ImageOutcome, Offers, Task, TaskStatus
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables import accounting
from mynth_dagster.tables.store import FAILURES, IMAGES, TASKS
from tests.tables.outcomes import NOW_US, SLICE, failed, image


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
        "request_key": "x@auto",
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
        "prompt": "a kite",
        "prompt_sent": "a red kite",
        "task_id": "tsk_x@auto_1",
        "intent_id": "int_x@auto_1",
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
    assert summary.n_images_beyond_asked == 1
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


@pytest.mark.parametrize(
    ("cells", "then"),
    [
        ({"output_quality": [80]}, {"limits": LIMITS_BY_REVISION["2026-10"]}),
        ({"model": ["v/m"]}, {"offers": Offers({"v/other": CatalogModel("v/other")})}),
        ({"destination": ["bucket"]}, {"offers": Offers(destinations=frozenset())}),
    ],
)
def test_what_was_delivered_stays_when_the_server_would_no_longer_take_the_row(
    write, collect, known, cells, then
):
    """A row that only the revision or the account refuses today keeps the image it paid for."""
    rows = {"prompt_id": ["x"], "prompt": ["a"], **cells}
    (row,) = write(rows).planned()
    known.add(row, images=[image(0)])

    assert write(rows, **then).planned() == []
    summary, tables = collect()

    assert (summary.n_images, tables[FAILURES]) == (1, [])


def test_a_row_that_was_edited_into_nonsense_does_not_show_what_it_asked_before(
    write, collect, known
):
    """An image of the row as it was would hide that the row as it is was refused."""
    (row,) = write({"prompt_id": ["x"], "prompt": ["a"], "size": ["1:1"]}).planned()
    known.add(row, images=[image(0)])
    write({"prompt_id": ["x"], "prompt": ["a"], "size": ["1:1 please"]})

    summary, tables = collect()

    assert summary.n_images == 0
    assert [failure["error_code"] for failure in tables[FAILURES]] == ["unknown_size"]


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
        ("x", "tsk_x@auto_1", "completed", True),
        ("x", "tsk_extra", "completed", False),
        ("x", "tsk_new", "accepted", False),
        ("y", "tsk_y@auto_1", "completed", False),
    ]
    assert (summary.charged_units, summary.n_cost_unknown, summary.n_tasks) == (7, 1, 4)
