"""
The requests that made tasks, in a file: a simulator that starts on it has the same tasks again.

Tasks are not stored, they are made anew: every draw repeats, so ids, outcomes, costs and pictures
are the same under the same scenario. Uploads, webhooks and what was changed by hand are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mynth_dagster.clock import US_PER_S, Clock, Instant
from mynth_dagster.simulator.orders import Rework
from mynth_dagster.simulator.plain import ScenarioError
from mynth_dagster.simulator.refusals import Refusal
from mynth_dagster.simulator.tasks import Task

if TYPE_CHECKING:
    from mynth_dagster.simulator.revisions import Revision
    from mynth_dagster.simulator.world import World


class Archive:
    """One file, a line of JSON for each task."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, task: Task) -> None:
        """Keep one task's request."""
        line = {
            "task_id": task.task_id,
            "created_us": task.created_us,
            "key_id": task.key.key_id,
            "type": task.type,
            "body": task.body.decode(),
        }
        if isinstance(task.order, Rework):
            line["source_pixels"] = task.order.source_pixels  # its source may not be kept
        with self._path.open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")

    def clear(self) -> None:
        """Keep nothing any more."""
        self._path.unlink(missing_ok=True)

    def restore(self, world: World, revision: Revision) -> None:
        """
        Make the tasks that were kept, at the times that they were made.

        Raises:
            ScenarioError: They were made under another scenario.
        """
        now, past = world.clock, _Past(world.clock)
        world.clock = past
        for line in self._lines():
            past.at_us = line["created_us"]
            world.settle_due()
            if _make(world, revision, line) != line["task_id"]:
                said = f"{self._path}: {line['task_id']} was made under another scenario"
                raise ScenarioError(said)
        world.clock = now
        world.settle_due()

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                yield from map(orjson.loads, file)


class _Past:
    """A clock that stands where it is put, on the same scales as another."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.at_us = clock.now_us()

    def now_us(self) -> int:
        return self.at_us

    def elapsed_s(self) -> float:
        return self._clock.elapsed_s() - (self._clock.now_us() - self.at_us) / US_PER_S

    def instant(self) -> Instant:
        return Instant(self.at_us)

    async def sleep(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)


def _make(world: World, revision: Revision, line: dict[str, Any]) -> str | None:
    """The id of a task made anew; None if the scenario refuses it."""
    key = world.accounts.with_id(line["key_id"])
    if key is None:
        return None
    body, read = line["body"].encode(), revision.requests
    asked, strict = orjson.loads(body), world.scenario.strict_fields
    try:
        if line["type"] == "image.generate":
            order = read.read_generate(asked, world.choices, strict=strict)
            return world.create(order, key, body).task_id
        route = f"POST /{line['type'].replace('.', '/').replace('_', '-')}"
        if "source_pixels" in line:
            rework = replace(read.read_rework(route, asked), source_pixels=line["source_pixels"])
            return world.rework(rework, key, body).task_id
        inspection = read.read_inspection(route, asked, strict=strict)
        return world.inspect(inspection, key, body).task_id
    except Refusal:
        return None
