"""Webhooks as values: what an event tells, and when the task has to be read all the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.models.task import Fault, TaskStatus
from mynth_dagster.wire.cells import parse_json
from mynth_dagster.wire.events import decode_event, read_name_and_task

AT_US = 1_795_000_000_000_000
DONE, FAILED = "task.image.generate.completed", "task.image.generate.failed"
IMAGE = {
    "status": "success",
    "id": "img_1",
    "url": "https://cdn.mynth.io/img_1.webp",
    "size": "1024x768",
    "cost": "0.01250000",
}
BAD_IMAGE = {"status": "failed", "error": {"code": "RESTRICTED_CONTENT"}}
REQUEST = {"prompt": "a red kite", "metadata": {"sku": 1.5}}


def completed(**changes: Any) -> dict[str, Any]:
    """An event of the newer revision, valid by default."""
    body = {
        "event": DONE,
        "task": {"id": "tsk_A"},
        "request": REQUEST,
        "result": {"model": "m", "images": [IMAGE, BAD_IMAGE]},
    }
    return {**body, **changes}


def decode(body: Any):
    return decode_event(body, default_format="webp", at_us=AT_US)


def test_a_completed_event_tells_the_whole_task():
    """Images, price, metadata; its time is the one that stands for the end."""
    told = decode(completed())

    assert (told.task_id, told.status, told.metadata) == (
        "tsk_A",
        TaskStatus.COMPLETED,
        {"sku": 1.5},
    )
    assert told.task.cost_units == 1_250_000
    assert told.task.updated_at_us == AT_US
    first, second = told.task.images
    assert (first.width, first.height, first.format) == (1024, 768, "webp")
    assert second.fault == Fault("restricted_content")


@pytest.mark.parametrize(
    ("changes", "units"),
    [
        ({"task": {"id": "tsk_A", "cost": "0.02"}}, 2_000_000),
        ({"result": {"images": [IMAGE], "cost": {"total": "0.03"}}}, 3_000_000),
        ({"request": {**REQUEST, "magic_prompt": True}, "task": {"id": "a", "cost": "1"}}, 10**8),
    ],
    ids=["on the task", "in the result", "with extras"],
)
def test_a_price_that_is_told_counts(changes, units):
    """Of the whole task rather than of its images."""
    assert decode(completed(**changes)).task.cost_units == units


@pytest.mark.parametrize(
    "changes",
    [
        {"result": None},
        {"result": {"images": []}},
        {"result": {"images": [{**IMAGE, "cost": None}]}},
        {"request": {**REQUEST, "magic_prompt": True}},
        {"request": {**REQUEST, "rating": True}},
        {"request": {**REQUEST, "inputs": ["https://a.example/1.png"]}},
        {"request": {"prompt": {"positive": "x", "enhance": "prefer_magic"}}},
        {"request": None},
        {"request": "odd"},
    ],
)
def test_a_task_whose_price_may_hold_more_than_images_is_read(changes):
    """What an image costs is not what the task costs where extras may have been charged."""
    told = decode(completed(**changes))

    assert told.status is TaskStatus.COMPLETED
    assert told.task is None


def test_a_failed_event_tells_its_faults_or_has_to_be_read():
    """The older revision tells no reason; a reading may."""
    body = {"event": FAILED, "task": {"id": "tsk_A"}, "request": REQUEST}
    told = decode({**body, "errors": [{"code": "GENERATION_FAILED", "message": "no"}]})

    assert told.task.faults == (Fault("generation_failed", "no"),)
    assert (told.task.status, told.task.cost_units) == (TaskStatus.FAILED, None)
    assert decode(body).task is None
    assert decode({**body, "errors": []}).task is None
    assert decode(body).metadata == {"sku": 1.5}


@pytest.mark.parametrize("cost", [None, "0.00020000"])
def test_the_end_of_a_look_at_an_image_tells_its_findings(cost):
    """Where its cost is not told, the task has to be read."""
    body = {
        "event": "task.image.rate.completed",
        "task": {"id": "tsk_R", "cost": cost},
        "request": {"url": "https://x/1.png"},
        "result": {"url": "https://x/1.png", "level": "sfw"},
    }
    told = decode(body)

    assert (told.task_id, told.status) == ("tsk_R", TaskStatus.COMPLETED)
    assert (told.task is None) is (cost is None)
    if told.task is not None:
        assert told.task.findings["level"] == "sfw"
        assert told.task.inspected_url == "https://x/1.png"


@pytest.mark.parametrize(
    "name",
    [
        "task.image.upscale.completed",
        "task.image.generate.processing",
        "task.completed",
        "all",
        "task.image.completed",
    ],
)
def test_only_the_end_of_an_image_task_means_anything(name):
    """Whatever else is announced changes nothing."""
    assert decode(completed(event=name)) is None
    assert read_name_and_task(completed(event=name)) == (name, "tsk_A")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {},
        {"event": DONE},
        {"event": DONE, "task": "tsk_A"},
        {"event": DONE, "task": {}},
        {"event": DONE, "task": {"id": 7}},
        {"event": DONE, "task": {"id": " "}},
        {"event": DONE, "task": {"id": "t" * 201}},
        {"event": 7, "task": {"id": "tsk_A"}},
        {"event": "e" * 101, "task": {"id": "tsk_A"}},
        {"data": {"event": DONE, "task": {"id": "tsk_A"}}},
    ],
)
def test_what_is_no_event_is_told_apart(body):
    """Without a name and a task there is nothing to keep."""
    assert read_name_and_task(body) is None
    assert decode(body) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(request=JSON, result=JSON, errors=JSON, cost=JSON)
def test_no_signed_body_makes_the_decoder_fail(request, result, errors, cost):
    """Whatever stands where something else is expected is as good as missing."""
    body = {
        "event": DONE,
        "task": {"id": "tsk_A", "cost": cost},
        "request": request,
        "result": result,
        "errors": errors,
    }

    assert decode(body).task_id == "tsk_A"
    assert decode({**body, "event": FAILED}).task_id == "tsk_A"
    assert parse_json(b"\xff") is None
