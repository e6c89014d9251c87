"""Webhooks as values: what an event tells, and when the task has to be read all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.models.task import Fault, TaskStatus
from mynth_dagster.wire.decode import decode_full_task, parse_json, time_of
from mynth_dagster.wire.events import FINAL_EVENTS, EventHead, decode_event, events_of, read_head

DELIVERIES = sorted((Path(__file__).parents[1] / "webhook" / "deliveries").glob("image.*.json"))
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
def test_a_price_that_is_reported_counts(changes, units):
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
        assert told.task.image_url == "https://x/1.png"


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
    assert read_head(completed(event=name)) == EventHead(name, "tsk_A")


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
def test_what_is_no_event_is_distinguished(body):
    """Without a name and a task there is nothing to keep."""
    assert read_head(body) is None
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


SETTLED = "2026-10-04T10:00:12.000Z"


def newer(name: str = DONE, **task: Any) -> dict[str, Any]:
    """An event of revision 2026-10, valid by default; fields of its task by keyword."""
    kind, _, status = name.removeprefix("task.").rpartition(".")
    image = {key: value for key, value in IMAGE.items() if key != "cost"}
    whole = {
        "id": "tsk_A",
        "type": kind,
        "status": status,
        "request": REQUEST,
        "result": {"model": "m", "images": [{**image, "format": "png"}]},
        "errors": None,
        "cost": "0.05000000",
        "user_id": "user_1",
        "api_key_id": None,
        "created_at": "2026-10-04T10:00:00.000Z",
        "updated_at": SETTLED,
    }
    return {"id": "evt_1", "type": name, "timestamp": SETTLED, "data": {**whole, **task}}


FAULTS = [{"code": "provider_error", "message": "Gave up."}]


def test_a_newer_event_tells_its_task_as_a_reading_does():
    """With its own times and its own cost."""
    told = decode(newer())

    assert (told.task_id, told.status, told.metadata) == (
        "tsk_A",
        TaskStatus.COMPLETED,
        {"sku": 1.5},
    )
    assert told.task == decode_full_task("read", newer(), revision="2026-10", default_format=None)
    assert told.task.updated_at_us == time_of(SETTLED)
    assert told.task.cost_units == 5_000_000
    assert told.task.images[0].format == "png"


def test_the_other_revisions_default_format_is_not_believed():
    """In revision 2026-10 an image has the format that its provider gives it."""
    (image,) = decode(newer(result={"images": [{"status": "success", "url": "x"}]})).task.images

    assert image.format is None


@pytest.mark.parametrize(
    "extras",
    [{"magic_prompt": True}, {"rating": True}, {"inputs": ["https://a.example/1.png"]}],
    ids=lambda extras: next(iter(extras)),
)
def test_extras_are_in_the_cost_of_a_newer_event(extras):
    """It is the task's, so nothing has to be read."""
    assert decode(newer(request={**REQUEST, **extras})).task.cost_units == 5_000_000


def test_a_newer_event_of_a_failed_task_tells_its_faults():
    """Without result and cost."""
    told = decode(newer(FAILED, result=None, errors=FAULTS, cost=None))

    assert told.task.faults == (Fault("provider_error", "Gave up."),)
    assert (told.task.status, told.task.cost_units) == (TaskStatus.FAILED, None)
    assert told.task.updated_at_us == time_of(SETTLED)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (DONE, {"cost": None}),
        (DONE, {"cost": "a lot"}),
        (DONE, {"result": None}),
        (DONE, {"result": {"images": []}}),
        (DONE, {"status": "pending"}),
        (DONE, {"status": "failed"}),
        (DONE, {"status": None}),
        (DONE, {"type": "image.rate"}),
        (DONE, {"type": None}),
        (DONE, {"updated_at": None}),
        (DONE, {"updated_at": "yesterday"}),
        (FAILED, {"errors": None}),
        (FAILED, {"errors": FAULTS, "status": "completed"}),
    ],
)
def test_a_newer_event_that_contradicts_itself_or_lacks_something_is_read(name, changes):
    """What it names is attached all the same; the task itself is asked."""
    told = decode(newer(name, **changes))

    assert (told.task_id, told.status) == ("tsk_A", FINAL_EVENTS[name])
    assert told.metadata == {"sku": 1.5}
    assert told.task is None


@pytest.mark.parametrize("path", DELIVERIES, ids=lambda path: path.stem)
def test_each_delivery_of_one_of_our_tasks_tells_all_of_it(path):
    """None of them costs a reading; those of other tasks mean nothing."""
    body = parse_json(json.loads(path.read_text("utf-8"))["raw"].encode())
    told = decode(body)

    if body["type"] not in FINAL_EVENTS:
        assert told is None
        return
    assert told.task == decode_full_task("read", body, revision="2026-10", default_format=None)
    assert (told.task.cost_units is None) is path.stem.endswith("failed")
    assert bool(told.task.faults) is path.stem.endswith("failed")


@pytest.mark.parametrize(
    "changes",
    [
        *({"id": odd} for odd in (None, 7, "", "e" * 201)),
        *({"type": odd} for odd in (None, 7, "", "t" * 101)),
        *({"timestamp": odd} for odd in (None, 7)),
        *({"data": odd} for odd in (None, [], "tsk_A", {}, {"id": 7}, {"id": "a b"})),
    ],
    ids=str,
)
def test_what_is_no_event_of_the_newer_form_is_distinguished(changes):
    """Texts have to be where texts are documented."""
    assert read_head({**newer(), **changes}) is None
    assert decode({**newer(), **changes}) is None


@pytest.mark.parametrize("name", ["task.image.upscale.completed", "task.video.generate.failed"])
def test_the_end_of_other_newer_tasks_means_nothing(name):
    """They are known to be events, and change nothing."""
    assert read_head(newer(name)) == EventHead(name, "tsk_A", "evt_1")
    assert decode(newer(name)) is None


def test_each_type_of_task_has_two_events():
    """One for either end."""
    assert events_of("image.alt") == ["task.image.alt.completed", "task.image.alt.failed"]
    assert set(events_of("image.generate", "image.rate", "image.alt", "image.review")) == set(
        FINAL_EVENTS
    )


@given(request=JSON, result=JSON, errors=JSON, cost=JSON, status=JSON, at=JSON)
def test_no_signed_body_of_the_newer_form_makes_the_decoder_fail(
    request, result, errors, cost, status, at
):
    """Whatever stands where something else is expected is as good as missing."""
    task = {"request": request, "result": result, "errors": errors, "cost": cost}

    assert decode(newer(**task, status=status)).task_id == "tsk_A"
    assert decode(newer(FAILED, **task, updated_at=at, data=status)).task_id == "tsk_A"
