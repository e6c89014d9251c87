"""A simulator that keeps its tasks: started again, it is the same simulated Mynth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from mynth_dagster.clock import ManualClock
from mynth_dagster.simulator import FailureRule, Scenario, ScenarioError, SimulatorServer
from tests.simulator.conftest import Api

SCENARIO = Scenario(
    seed=3,
    failures=(FailureRule(kind="task", code="GENERATION_FAILED", prompt_contains="cannot"),),
)


@contextmanager
def _serving(
    keep: Path, clock: ManualClock | None = None, port: int = 0, scenario: Scenario = SCENARIO
) -> Iterator[Api]:
    headers = {"authorization": "Bearer mak_simulator"}
    options = {"headers": headers, "verify": False, "trust_env": False}
    with (
        SimulatorServer(scenario, clock=clock, port=port, keep=keep) as server,
        httpx.Client(base_url=server.url, **options) as client,
    ):
        yield Api(server, client, server.scenario.revision)


def _seen(api: Api, task_ids: list[str]) -> list[object]:
    """Tasks, money and pictures as a client sees them."""
    tasks = [api.detail(task_id) for task_id in task_ids]
    images = [image for task in tasks for image in (task["result"] or {}).get("images", ())]
    bytes_ = [api.client.get(image["url"]).content for image in images]
    return [tasks, bytes_, api.balance(), api.get("/tasks"), api.server.log()["charges"]]


def test_started_again_it_has_the_same_tasks(tmp_path):
    """Ids, outcomes, money and pictures are those of before, at the same address."""
    clock, keep = ManualClock(), tmp_path / "requests.jsonl"
    with _serving(keep, clock) as api:
        task_ids = []
        for prompt in ("a red kite", "a kite that cannot fly", "a blue kite"):
            task_ids.append(api.create(prompt))
            api.server.advance(3.5)
        api.server.advance(60)
        before = _seen(api, task_ids)

    with _serving(keep, clock, api.server.port) as again:
        assert _seen(again, task_ids) == before


def test_upscales_are_made_again_without_their_uploads(tmp_path):
    """The dimensions of a source are kept, though its bytes are not."""
    keep = tmp_path / "requests.jsonl"
    buffer = BytesIO()
    Image.effect_noise((90, 60), 80).save(buffer, "PNG")
    scenario = replace(SCENARIO, revision="2026-10", progress="immediate")
    with _serving(keep, ManualClock(), scenario=scenario) as api:
        files = [("images", ("a.png", buffer.getvalue()))]
        url = api.open(api.client.post("/image/upload", files=files))["urls"][0]
        body = {"url": url, "size": "2x", "effort": "low"}
        task_id = api.open(api.client.post("/image/upscale", json=body))["task_id"]
        remove = {"url": url, "metadata": {"row": 1}}
        other_id = api.open(api.client.post("/image/remove-background", json=remove))["task_id"]
        before = [api.detail(task_id), api.detail(other_id)]

    with _serving(keep, ManualClock(), api.server.port, scenario) as again:
        assert [again.detail(task_id), again.detail(other_id)] == before
        assert before[0]["result"]["image"]["size"] == "180x120"


def test_what_was_pending_goes_on(tmp_path):
    """A task that was not finished finishes at its time, and new ones follow behind it."""
    clock, keep = ManualClock(), tmp_path / "requests.jsonl"
    with _serving(keep, clock) as api:
        first = api.create()

    with _serving(keep, clock) as api:
        assert api.detail(first)["status"] == "pending"
        second = api.create()
        api.server.advance(60)
        assert api.detail(first)["status"] == api.detail(second)["status"] == "completed"

    with _serving(keep, clock) as api:
        assert [task["task_id"] for task in api.server.log()["accepted"]] == [first, second]


def test_another_scenario_is_refused(tmp_path):
    """Under another seed the ids would lead to other pictures."""
    keep = tmp_path / "requests.jsonl"
    with _serving(keep) as api:
        api.create()

    with pytest.raises(ScenarioError, match="another scenario"):
        SimulatorServer(Scenario(seed=4), keep=keep)


def test_a_reset_forgets_what_was_kept(tmp_path):
    """Starting over means that the next start is empty too."""
    keep = tmp_path / "requests.jsonl"
    with _serving(keep) as api:
        api.create()
        api.server.reset()

    with _serving(keep) as api:
        assert api.server.log()["totals"]["accepted"] == 0
