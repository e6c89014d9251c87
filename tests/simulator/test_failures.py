from __future__ import annotations

import pytest


def statuses(api, n_prompts):
    return [api.finish(f"kite {i}")["status"] for i in range(n_prompts)]


def test_task_failure(connect):
    """A failed task tells its code, has no result and answers 200 to the poll."""
    api = connect(failures=[{"prompt_contains": "[bad]", "code": "GENERATION_FAILED"}])
    task = api.finish("[bad] kite")

    assert (task["status"], task["result"], task["cost"]) == ("failed", None, None)
    assert task["errors"][0]["code"] == "GENERATION_FAILED"
    assert api.get(f"/tasks/{task['id']}/status") == {"status": "failed"}
    assert api.finish("good kite")["status"] == "completed"


def test_task_failure_2026_04(connect):
    """The older revision tells no reason of a failed task."""
    api = connect(revision="2026-04", failures=[{"kind": "task"}])
    task = api.finish()

    assert task["status"] == "failed"
    assert {"errors", "result"}.isdisjoint(task)


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        ({"n_images": 2}, [0, 1]),
        ({"image_indexes": [1, 3, 9]}, [1, 3]),
        ({"n_images": 0}, []),
    ],
)
def test_image_failures(connect, rule, failed):
    """Some images may fail while the task completes; each keeps its place."""
    api = connect(failures=[{"kind": "images", "code": "RESTRICTED_CONTENT", **rule}])
    task = api.finish(count=4)

    images = task["result"]["images"]
    assert task["status"] == "completed"
    assert failed == [i for i, image in enumerate(images) if image["status"] == "failed"]
    assert all(images[i]["error"]["code"] == "RESTRICTED_CONTENT" for i in failed)


def test_image_failure_2026_04_is_prose(connect):
    """In the older revision a failed image's error is a plain string."""
    api = connect(revision="2026-04", failures=[{"kind": "images"}])

    images = api.finish(count=2)["result"]["images"]

    assert isinstance(images[0]["error"], str)
    assert images[1]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("choice", "status", "has_images", "has_errors"),
    [
        ("failed_without_result", "failed", False, True),
        ("failed_with_images", "failed", True, False),
        ("completed", "completed", True, False),
    ],
)
def test_all_images_failed(connect, choice, status, has_images, has_errors):
    """What a task without one good image looks like can be chosen; it costs nothing."""
    rule = {"kind": "images", "n_images": 9}
    api = connect(failures=[rule], quirks={"all_failed": choice})
    task = api.finish(count=2)

    assert status == task["status"]
    assert (has_images, has_errors) == (task["result"] is not None, task["errors"] is not None)
    assert task["cost"] in (None, "0.00000000")
    assert api.balance()["balance"] == "1000"


def test_moderation_keeps_images(connect):
    """Moderation fails every image as restricted and leaves no task-level errors."""
    api = connect(failures=[{"kind": "moderation"}])
    task = api.finish(count=2)

    codes = [image["error"]["code"] for image in task["result"]["images"]]
    assert (task["status"], task["errors"]) == ("failed", None)
    assert codes == ["RESTRICTED_CONTENT"] * 2


def test_refused_prompt(any_api):
    """A prompt may be refused at the door; nothing is made."""
    any_api.server.set_scenario(failures=[{"kind": "refused", "prompt_contains": "[no]"}])
    answer = any_api.post("[no] kite")

    assert any_api.error(answer) == (400, "restricted_content")
    assert any_api.server.log()["totals"]["accepted"] == 0


def test_stuck_task(connect):
    """A stuck task stays pending and holds its money until completed by its id."""
    api = connect(progress="clock", failures=[{"kind": "stuck"}])
    task_id = api.create()
    api.server.advance(10**6)
    api.server.complete()
    before = (api.detail(task_id)["status"], api.balance()["reserved"])
    api.server.complete([task_id])

    assert before == ("pending", "0.01")
    assert (api.detail(task_id)["status"], api.balance()["reserved"]) == ("completed", "0")


def test_first_of_a_prompt_fails(connect):
    """With ``first`` a retry of the same prompt succeeds."""
    api = connect(failures=[{"first": 1}])

    assert [api.finish("kite")["status"] for _ in range(2)] == ["failed", "completed"]
    assert api.finish("another kite")["status"] == "failed"


def test_rules_by_model_in_order(connect):
    """The first rule that applies decides, and a rule may be bound to a model."""
    rules = [
        {"model": "recraft/recraft-v4", "code": "FIRST"},
        {"model": "recraft/recraft-v4", "code": "SECOND"},
    ]
    api = connect(failures=rules)

    assert api.finish(model="recraft/recraft-v4")["errors"][0]["code"] == "FIRST"
    assert api.finish()["status"] == "completed"


def test_share_is_repeatable(connect):
    """A share of failures is the same for the same seed, another for another, and near itself."""
    rule = {"share": 0.3}
    once = statuses(connect(failures=[rule], seed=1), 60)
    again = statuses(connect(failures=[rule], seed=1), 60)
    other = statuses(connect(failures=[rule], seed=2), 60)

    assert once == again
    assert once != other
    assert 8 <= once.count("failed") <= 30
