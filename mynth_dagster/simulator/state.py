"""
The simulated Mynth itself: tasks, money, files, webhooks and time, without HTTP.

Nothing runs in the background. A task whose time has come ends when anybody next looks, in the
order of due times, so no reader can tell the difference. Used from one thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from mynth_dagster.clock import US_PER_S, Clock, Instant
from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.accounts import Accounts, Key
from mynth_dagster.simulator.completion import OutcomePicker, PriceBook, Rendering
from mynth_dagster.simulator.destinations import DestinationStore
from mynth_dagster.simulator.faults import FaultPicker
from mynth_dagster.simulator.images import UploadStore, pixels_of
from mynth_dagster.simulator.revision import Revision
from mynth_dagster.simulator.rng import parse_ulid
from mynth_dagster.simulator.scenario import Scenario, ScenarioError, TaskType
from mynth_dagster.simulator.tasks import AnyRequest, EditRequest, GenerateRequest, SimulatedTask
from mynth_dagster.simulator.v2026_04 import Revision202604
from mynth_dagster.simulator.v2026_08 import Revision202608
from mynth_dagster.simulator.v2026_10 import Revision202610
from mynth_dagster.simulator.validation import Refusal
from mynth_dagster.simulator.webhooks import WebhookQueue, WebhookStore

REVISIONS: dict[str, Revision] = {
    revision.name: revision for revision in (Revision202604(), Revision202608(), Revision202610())
}


class State:
    """
    All that one simulated Mynth knows; replaced whole by a reset.

    ``on_created`` is called with each task as soon as it is there, ``on_finished`` right after its
    end, in the order of their ends; ``base_url`` is where clients last reached the images.

    Raises:
        ScenarioError: The tasks in the archive were made under another scenario.
    """

    def __init__(self, scenario: Scenario, clock: Clock, archive: Archive | None = None) -> None:
        self.clock = clock
        self.tasks: list[SimulatedTask] = []
        self._due: list[tuple[float, int]] = []
        self.accounts = Accounts(scenario)
        self.uploads = UploadStore(scenario.seed)
        self.webhooks = WebhookStore(scenario, clock.now_us())
        self.webhook_queue = WebhookQueue(scenario, clock, self.webhooks)
        self.destinations = DestinationStore(scenario, clock.now_us())
        self.outcomes = OutcomePicker(scenario)
        self.faults = FaultPicker(scenario)
        self.base_url = ""
        self.on_created: list[Callable[[SimulatedTask], None]] = []
        self.on_finished: list[Callable[[SimulatedTask], None]] = []
        self._adopt(scenario)
        if archive is not None:
            archive.restore(self)
            self.on_created.append(archive.add)
        self.on_finished.append(self._announce)

    def change(self, scenario: Scenario) -> None:
        """Play on under a changed scenario; tasks and money stay."""
        self.complete_due()
        previous, now_us = self.scenario, self.clock.now_us()
        self.accounts.change(scenario, previous)
        self.webhooks.change(scenario, previous, now_us)
        self.destinations.change(scenario, previous, now_us)
        self.outcomes = self.outcomes.change(scenario)
        self.faults = self.faults.change(scenario)
        self._adopt(scenario)
        self.complete_due()

    def read_request(self, task_type: TaskType, body: dict[str, Any]) -> AnyRequest:
        """
        What a request body asks for, in the revision that is spoken.

        Raises:
            Refusal: The body is wrong.
        """
        strict = self.scenario.strict_fields
        if task_type == "image.generate":
            return self.revision.read_generate(body, self.quirks, strict=strict)
        if task_type in ("image.upscale", "image.remove_background"):
            return self.revision.read_edit(task_type, body)
        return self.revision.read_analysis(task_type, body, strict=strict)

    def quote(self, request: GenerateRequest) -> tuple[int, Literal["exact", "upper_bound"]]:
        """
        What a request would hold (units), and whether it will cost just that.

        Raises:
            Refusal: The model does not exist or cannot take the inputs.
        """
        self.outcomes.check_model(request)
        units = self.prices.hold(request, is_4k=self.outcomes.is_priced_4k(request))
        return units, "upper_bound" if request.model == AUTO_MODEL else "exact"

    def create(self, request: AnyRequest, key: Key, body: bytes) -> SimulatedTask:
        """
        Make a task for a request, with its reservation and its outcome.

        Raises:
            Refusal: Model, moderation, balance or limit forbid it; nothing was reserved.
        """
        if isinstance(request, GenerateRequest):
            self.outcomes.check_model(request)
        is_4k = self.outcomes.is_priced_4k(request)
        reserved = self.prices.hold(request, is_4k=is_4k)
        outcome = self.outcomes.pick(request, self.outcomes.find_rule(request))
        price = self.prices.price(request, outcome.model, is_4k=is_4k)
        now_us, now_s = self.clock.now_us(), self.clock.elapsed_s()
        key.reserve(reserved, now_us, self.quirks)
        task = SimulatedTask(
            number=len(self.tasks),
            seed=self.scenario.seed,
            key=key,
            request=request,
            body=body,
            reserved=reserved,
            price=min(price, reserved),
            created_us=now_us,
            outcome=outcome,
        )
        self.tasks.append(task)
        key.task_numbers.append(task.number)
        for hook in self.on_created:
            hook(task)
        is_immediate = self.scenario.progress == "immediate"
        if not is_immediate:
            task.latency_s = self.outcomes.pick_latency_s(task.number)
        task.due_s = now_s + task.latency_s
        if outcome.is_stuck:
            return task
        if is_immediate:
            self._finish(task, now_us, now_s)
        else:
            heappush(self._due, (task.due_s, task.number))
        return task

    def find(self, task_id: str) -> SimulatedTask | None:
        """The task with this id, ended if it is due."""
        self.complete_due()
        place = parse_ulid(task_id.removeprefix("tsk_"))
        if place is None or place[0] >= len(self.tasks):
            return None
        task = self.tasks[place[0]]
        return task if task.task_id == task_id else None

    def find_image(self, image_id: str) -> tuple[SimulatedTask, int] | None:
        """The task and the 0-based index of a delivered image."""
        self.complete_due()
        place = parse_ulid(image_id.removeprefix("img_"))
        if place is None or place[0] >= len(self.tasks):
            return None
        task, index = self.tasks[place[0]], place[1]
        is_there = 0 <= index < task.n_images and task.image_id(index) == image_id
        if not is_there or not task.shows_images or index in task.outcome.failed:
            return None
        return task, index

    def pixels_of(self, url: str) -> str:
        """Width and height of an image by its URL; those of foreign ones are invented."""
        name = urlsplit(url).path.rpartition("/cdn/")[2]
        upload = self.uploads.find(name)
        if upload is not None:
            return pixels_of(upload.content) or defaults.SOURCE_PIXELS
        image = self.find_image(name.rpartition(".")[0])
        return defaults.SOURCE_PIXELS if image is None else image[0].outcome.pixels

    def page(
        self, key: Key, *, limit: int, before: SimulatedTask | None
    ) -> Sequence[SimulatedTask]:
        """A key's newest listed tasks, newest first, created before ``before`` if given."""
        self.complete_due()
        numbers = key.task_numbers
        end = len(numbers) if before is None else bisect_left(numbers, before.number)
        lag_us = round((self.quirks.list_lag_s or 0.0) * US_PER_S)
        if lag_us:
            shown_until_us = self.clock.now_us() - lag_us
            while end and self.tasks[numbers[end - 1]].created_us > shown_until_us:
                end -= 1
        return [self.tasks[number] for number in reversed(numbers[max(0, end - limit) : end])]

    def complete_due(self) -> None:
        """End whatever is due by now."""
        if not self._due or self.scenario.progress == "manual":
            return
        is_immediate = self.scenario.progress == "immediate"
        now_s = self.clock.elapsed_s()
        while self._due and (is_immediate or self._due[0][0] <= now_s):
            task = self.tasks[heappop(self._due)[1]]
            self._finish(task, task.created_us + round(task.latency_s * US_PER_S), task.due_s)

    def complete(self, task_ids: Iterable[str] | None = None) -> int:
        """
        End the named tasks, or every pending one that is not stuck; how many were pending.

        Raises:
            KeyError: An id is unknown.
        """
        if task_ids is None:
            tasks = [self.tasks[number] for _, number in sorted(self._due)]
        else:
            tasks = []
            for task_id in dict.fromkeys(task_ids):
                task = self.find(task_id)
                if task is None:
                    raise KeyError(task_id)
                tasks.append(task)
        pending = [task for task in tasks if task.is_pending]
        now_us, now_s = self.clock.now_us(), self.clock.elapsed_s()
        for task in pending:
            self._finish(task, now_us, now_s)
        if task_ids is None:
            self._due = []
        return len(pending)

    def event_of(self, task: SimulatedTask) -> dict[str, Any]:
        """The body of the webhook that tells of a task's end."""
        public_url = self.scenario.public_url
        base_url = public_url.rstrip("/") if public_url else self.base_url
        return self.revision.event(task, Rendering(base_url, self.scenario, self.destinations))

    def _adopt(self, scenario: Scenario) -> None:
        self.scenario = self.webhook_queue.scenario = scenario
        self.quirks = scenario.effective_quirks
        self.revision = REVISIONS[scenario.revision]
        self.prices = PriceBook(scenario)

    def _finish(self, task: SimulatedTask, at_us: int, at_s: float) -> None:
        if not task.is_pending:
            return
        task.finish(self.quirks.all_failed, at_us, at_s)
        task.key.charge(task.reserved, task.cost or 0, task.created_us)
        for hook in self.on_finished:
            hook(task)

    def _announce(self, task: SimulatedTask) -> None:
        self.webhook_queue.announce(task, self.revision, self.event_of)


# The requests that made tasks, in a file: a simulator that starts on it has the same tasks again.
#
# Tasks are not stored, they are made anew: every choice repeats, so ids, outcomes, costs and
# pictures are the same under the same scenario. Uploads, webhooks and what was changed by hand are
# not kept.


class Archive:
    """One file, a line of JSON for each task."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, task: SimulatedTask) -> None:
        """Keep one task's request."""
        line = {
            "task_id": task.task_id,
            "created_us": task.created_us,
            "key_id": task.key.key_id,
            "type": task.type,
            "body": task.body.decode(),
        }
        if isinstance(task.request, EditRequest):
            line["source_pixels"] = task.request.source_pixels  # its source may not be kept
        with self._path.open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")

    def clear(self) -> None:
        """Keep nothing any more."""
        self._path.unlink(missing_ok=True)

    def restore(self, state: State) -> None:
        """
        Make the tasks that were kept, at the times that they were made.

        Raises:
            ScenarioError: They were made under another scenario.
        """
        clock, past = state.clock, _PastClock(state.clock)
        state.clock = past
        for line in self._lines():
            past.at_us = line["created_us"]
            state.complete_due()
            if _make_again(state, line) != line["task_id"]:
                message = f"{self._path}: {line['task_id']} was made under another scenario"
                raise ScenarioError(message)
        state.clock = clock
        state.complete_due()

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                yield from map(orjson.loads, file)


class _PastClock:
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


def _make_again(state: State, line: dict[str, Any]) -> str | None:
    """The id of a task made anew; None if the scenario refuses it."""
    key = state.accounts.with_id(line["key_id"])
    if key is None:
        return None
    body = line["body"].encode()
    try:
        request = state.read_request(line["type"], orjson.loads(body))
        if "source_pixels" in line:
            assert isinstance(request, EditRequest)
            request = replace(request, source_pixels=line["source_pixels"])
        return state.create(request, key, body).task_id
    except Refusal:
        return None
