"""
The simulated Mynth itself: tasks, money and time, without HTTP.

Nothing runs in the background. A task whose time has come ends when anybody next looks,
in the order of due times, so no reader can tell the difference. Used from one thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mynth_dagster.clock import US_PER_S, Clock, Instant
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator.accounts import Accounts, Key
from mynth_dagster.simulator.completion import Fates, PriceBook
from mynth_dagster.simulator.scenario import Scenario, ScenarioError
from mynth_dagster.simulator.tasks import Inspection, Order, Outcome, Rework, Task, read_ulid
from mynth_dagster.simulator.validation import Refusal

if TYPE_CHECKING:
    from mynth_dagster.simulator.revisions import Revision


Hook = Callable[[Task], None]


class World:
    """
    All state of one simulated Mynth.

    ``on_created`` is called with each task as soon as it is there, ``on_finished`` right after its
    end, in order of their ends.
    """

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        self.clock = clock
        self.tasks: list[Task] = []
        self.accounts = Accounts(scenario)
        self.on_created: list[Hook] = []
        self.on_finished: list[Hook] = []
        self._due: list[tuple[float, int]] = []
        self.fates = Fates(scenario)
        self._adopt(scenario)

    def change(self, scenario: Scenario) -> None:
        """Play on under a changed scenario; tasks and money stay."""
        self.complete_due()
        self.accounts.adopt(scenario, self.scenario)
        self.fates = self.fates.change(scenario)
        self._adopt(scenario)
        self.complete_due()

    def quote(self, order: Order) -> tuple[int, Literal["exact", "upper_bound"]]:
        """
        What an order would hold (units), and whether it will cost just that.

        Raises:
            Refusal: The model does not exist or cannot take the inputs.
        """
        self.fates.check_model(order)
        units = self.prices.hold(order, is_4k=self.fates.is_priced_4k(order))
        return units, "upper_bound" if order.model == AUTO_MODEL else "exact"

    def create(self, order: Order, key: Key, body: bytes) -> Task:
        """
        Make a task for an order, with its reservation and its fate.

        Raises:
            Refusal: Model, moderation, balance or limit forbid it; nothing was reserved.
        """
        reserved, _ = self.quote(order)
        rule = self.fates.find_rule(order)
        outcome = self.fates.draw(order, rule)
        is_4k = self.fates.is_priced_4k(order)
        price = self.prices.full_price(order, outcome.model, is_4k=is_4k)
        return self._begin(order, key, body, reserved, min(price, reserved), outcome)

    def inspect(self, inspection: Inspection, key: Key, body: bytes) -> Task:
        """
        Make a task that rates, describes or reviews.

        Raises:
            Refusal: Moderation, balance or limit forbid it; nothing was reserved.
        """
        price = self.prices.inspection(inspection)
        outcome = self.fates.draw_inspection(self.fates.find_rule(inspection))
        return self._begin(inspection, key, body, price, price, outcome)

    def rework(self, rework: Rework, key: Key, body: bytes) -> Task:
        """
        Make a task that makes one image of another.

        Raises:
            Refusal: Moderation, balance or limit forbid it; nothing was reserved.
        """
        price = self.prices.rework(rework)
        outcome = self.fates.draw_rework(rework, self.fates.find_rule(rework))
        return self._begin(rework, key, body, price, price, outcome)

    def find(self, task_id: str) -> Task | None:
        """The task with this id, ended if it is due."""
        self.complete_due()
        place = read_ulid(task_id.removeprefix("tsk_"))
        if place is None or place[0] >= len(self.tasks):
            return None
        task = self.tasks[place[0]]
        return task if task.task_id == task_id else None

    def find_image(self, image_id: str) -> tuple[Task, int] | None:
        """The ended task and the 0-based index of a delivered image."""
        self.complete_due()
        place = read_ulid(image_id.removeprefix("img_"))
        if place is None or place[0] >= len(self.tasks):
            return None
        task, index = self.tasks[place[0]], place[1]
        is_there = 0 <= index < task.n_images and task.image_id(index) == image_id
        if not is_there or not task.shows_images or index in task.outcome.failed:
            return None
        return task, index

    def page(self, key: Key, *, limit: int, before: Task | None) -> Sequence[Task]:
        """A key's newest listed tasks, newest first, created before ``before`` if given."""
        self.complete_due()
        numbers = key.task_numbers
        end = len(numbers) if before is None else bisect_left(numbers, before.number)
        lag_us = round((self.scenario.effective_quirks.list_lag_s or 0.0) * US_PER_S)
        if lag_us:
            shown_until_us = self.clock.now_us() - lag_us
            while end and self.tasks[numbers[end - 1]].created_us > shown_until_us:
                end -= 1
        return [self.tasks[number] for number in reversed(numbers[max(0, end - limit) : end])]

    def complete_due(self) -> None:
        """Settle whatever is due by now."""
        if not self._due or self.scenario.progress == "manual":
            return
        is_immediate = self.scenario.progress == "immediate"
        now_s = self.clock.elapsed_s()
        while self._due and (is_immediate or self._due[0][0] <= now_s):
            task = self.tasks[heappop(self._due)[1]]
            self._finish(task, task.created_us + round(task.latency_s * US_PER_S), task.due_s)

    def complete(self, task_ids: Iterable[str] | None = None) -> int:
        """
        Settle the named tasks, or every pending one that is not stuck; how many were pending.

        Raises:
            KeyError: An id is unknown.
        """
        if task_ids is None:
            chosen = [self.tasks[number] for _, number in sorted(self._due)]
        else:
            chosen = [self._known(task_id) for task_id in dict.fromkeys(task_ids)]
        pending = [task for task in chosen if task.is_pending]
        now_us, now_s = self.clock.now_us(), self.clock.elapsed_s()
        for task in pending:
            self._finish(task, now_us, now_s)
        self._due = [] if task_ids is None else self._due
        return len(pending)

    def _adopt(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.quirks = scenario.effective_quirks
        self.prices = PriceBook(scenario)

    def _known(self, task_id: str) -> Task:
        task = self.find(task_id)
        if task is None:
            raise KeyError(task_id)
        return task

    def _begin(
        self,
        order: Order | Inspection | Rework,
        key: Key,
        body: bytes,
        reserved: int,
        price: int,
        outcome: Outcome,
    ) -> Task:
        now_us = self.clock.now_us()
        key.reserve(reserved, now_us, self.quirks)
        task = Task(
            number=len(self.tasks),
            seed=self.scenario.seed,
            key=key,
            order=order,
            body=body,
            reserved=reserved,
            price=price,
            created_us=now_us,
        )
        task.outcome = outcome
        self.tasks.append(task)
        key.task_numbers.append(task.number)
        for hook in self.on_created:
            hook(task)
        self._schedule(task)
        return task

    def _schedule(self, task: Task) -> None:
        now_s = self.clock.elapsed_s()
        if self.scenario.progress != "immediate":
            task.latency_s = self.fates.draw_latency_s(task.number)
        task.due_s = now_s + task.latency_s
        if task.outcome.is_stuck:
            return
        if self.scenario.progress == "immediate":
            self._finish(task, task.created_us, now_s)
        else:
            heappush(self._due, (task.due_s, task.number))

    def _finish(self, task: Task, at_us: int, at_s: float) -> None:
        if not task.is_pending:
            return
        outcome = task.outcome
        has_good_image = len(outcome.failed) < task.n_images and not outcome.fails_whole
        if isinstance(task.order, Inspection):
            has_good_image = not outcome.fails_whole
        self._conclude(task, has_good_image=has_good_image)
        task.finished_us, task.finished_s = at_us, at_s
        task.key.charge(task.reserved, task.cost or 0, task.created_us)
        for hook in self.on_finished:
            hook(task)

    def _conclude(self, task: Task, *, has_good_image: bool) -> None:
        lost = sum(map(task.image_share, task.outcome.failed))
        task.cost = task.price - lost if has_good_image else 0
        keeps = not task.outcome.fails_whole and (
            task.outcome.keeps_images or self.quirks.all_failed == "failed_with_images"
        )
        completes = has_good_image or (
            self.quirks.all_failed == "completed" and not task.outcome.fails_whole
        )
        task.status = "completed" if completes else "failed"
        task.shows_images = task.n_images > 0 and (completes or keeps)


# The requests that made tasks, in a file: a simulator that starts on it has the same tasks again.
#
# Tasks are not stored, they are made anew: every draw repeats, so ids, outcomes, costs and pictures
# are the same under the same scenario. Uploads, webhooks and what was changed by hand are not kept.


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
            world.complete_due()
            if _make(world, revision, line) != line["task_id"]:
                said = f"{self._path}: {line['task_id']} was made under another scenario"
                raise ScenarioError(said)
        world.clock = now
        world.complete_due()

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
            order = read.read_generate(asked, world.quirks, strict=strict)
            return world.create(order, key, body).task_id
        route = f"POST /{line['type'].replace('.', '/').replace('_', '-')}"
        if "source_pixels" in line:
            rework = replace(read.read_rework(route, asked), source_pixels=line["source_pixels"])
            return world.rework(rework, key, body).task_id
        inspection = read.read_inspection(route, asked, strict=strict)
        return world.inspect(inspection, key, body).task_id
    except Refusal:
        return None
