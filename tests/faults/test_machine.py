"""Any order of runs, crashes, webhooks, searches, decisions and edits keeps the promise."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mynth_dagster.crash_points import EVENT, CrashPoint
from mynth_dagster.engine.plan import Retry, RunOptions
from mynth_dagster.engine.resolve import attach, give_up
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.errors import MynthError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import WebhookEvent
from mynth_dagster.limits import REVISIONS
from mynth_dagster.simulator import SimulatorServer
from tests.factories import LeapingClock
from tests.faults.invariants import (
    check_all,
    check_money,
    check_monotone,
    check_nothing_paid_twice,
    final_states,
)
from tests.faults.stage import Stage

ROWS_MAX = 6
KINDS = [
    *("lost_answer", "reset", "truncated", "server_error", "server_error_with_task"),
    *("rate_limited", "html_error"),
]
POINTS = [
    *(CrashPoint.BEFORE_INTENT, CrashPoint.INTENT_COMMITTED, CrashPoint.ANSWER_READ),
    *(CrashPoint.ANSWER_COMMITTED, CrashPoint.POLLED, CrashPoint.RESULT_READ),
    *(CrashPoint.WALKED, CrashPoint.WALK_RECORDED, CrashPoint.TABLES_STAGED),
    *(CrashPoint.TABLE_PUBLISHED, CrashPoint.TABLES_PUBLISHED),
]


class Crash(BaseException):
    """The process is gone; nothing may catch it and go on."""


class Bomb:
    """Raises a crash at the n-th arrival at a crash point, once."""

    def __init__(self) -> None:
        self.point, self.left = "", 0
        sys.addaudithook(self._hook)

    def arm(self, point: CrashPoint, nth: int) -> None:
        self.point, self.left = point.name, nth

    def disarm(self) -> None:
        self.point = ""

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == EVENT and args[0] == self.point:
            self.left -= 1
            if self.left == 0:
                self.point = ""
                raise Crash


BOMB = Bomb()


class Promise(RuleBasedStateMachine):
    """One table of a few rows, and everything that may happen to it."""

    folder: Path
    servers: Callable[..., SimulatorServer]

    @initialize(revision=st.sampled_from(REVISIONS), seed=st.integers(0, 9))
    def begin(self, revision: str, seed: int) -> None:
        folder = Path(mkdtemp(dir=type(self).folder))
        clock = LeapingClock()
        server = type(self).servers(
            clock=clock, revision=revision, progress="clock", latency=20, seed=seed
        )
        self.work = Stage(server, clock, folder)
        self.texts = {f"p{n}": "a" for n in range(3)}
        self.done: dict[str, str] = {}

    @property
    def rows(self) -> list[dict[str, str]]:
        return [{"prompt_id": name, "prompt": text} for name, text in self.texts.items()]

    def attempt(self, **options: Any) -> None:
        """A run that may crash, stop or succeed."""
        self.attempt_with(options=RunOptions(**options))

    def attempt_with(self, **how: Any) -> None:
        with suppress(Crash, MynthError):
            self.work.run(self.rows, deadline_s=30.0, **how)
        BOMB.disarm()

    @rule()
    def run(self) -> None:
        self.attempt()

    @rule(retry=st.sampled_from([Retry.RETRYABLE, Retry.FAILED, Retry.PARTIAL]))
    def retry(self, retry: Retry) -> None:
        self.attempt(retry=retry)

    @rule(point=st.sampled_from(POINTS), nth=st.integers(1, 4))
    def crash(self, point: CrashPoint, nth: int) -> None:
        BOMB.arm(point, nth)
        self.attempt()

    @rule(kind=st.sampled_from(KINDS), every=st.integers(1, 3), fails=st.booleans())
    def things_go_wrong(self, kind: str, every: int, fails: bool) -> None:
        failures = [{"share": 0.5}] if fails else []
        fault = {"kind": kind, "every": every, "retry_after_s": 1.0}
        self.work.server.set_scenario(faults=[fault], failures=failures)

    @rule()
    def all_is_well(self) -> None:
        self.work.server.set_scenario(faults=(), failures=())

    @rule(name=st.sampled_from([f"p{n}" for n in range(ROWS_MAX)]), text=st.sampled_from("ab"))
    def edit(self, name: str, text: str) -> None:
        self.texts[name] = text

    @rule(when=st.sampled_from(["on_quote", "on_round"]))
    def cancel(self, when: str) -> None:
        stop = CancelToken()
        progress = RunProgress(**{when: lambda *_: stop.set(CANCELLED)})
        self.attempt_with(stop=stop, progress=progress)

    @rule(nth=st.integers(0, ROWS_MAX), times=st.integers(1, 2))
    def announce(self, nth: int, times: int) -> None:
        """A webhook about some task, perhaps twice, perhaps of one that is not finished."""
        tasks = [entry["task_id"] for entry in self.work.log["accepted"]]
        if tasks and (self.work.folder / "ledger.db").exists():
            asyncio.run(self._receive(tasks[nth % len(tasks)], times))

    async def _receive(self, task_id: str, times: int) -> None:
        ledger = Ledger.open(self.work.ledger_url)
        event = WebhookEvent(
            event_id=f"hint {task_id}",
            is_signed=False,
            event="task.completed",
            task_id=task_id,
            body=None,
            received_at_us=self.work.clock.now_us(),
        )
        for _ in range(times):
            await ledger.events.receive(event)
        ledger.close()

    @precondition(lambda self: len(self.texts) > 1)
    @rule()
    def remove(self) -> None:
        self.texts.popitem()

    @rule()
    def look(self) -> None:
        with suppress(MynthError):
            self.work.tick()

    @rule(minutes=st.sampled_from([1, 16, 70]))
    def wait(self, minutes: int) -> None:
        self.work.clock.advance(minutes * 60.0)

    @rule(hours=st.sampled_from([-24, 24]))
    def set_the_clock(self, hours: int) -> None:
        self.work.clock.jump_wall(hours * 3600.0)

    @rule(how=st.sampled_from(["attach", "abandon", "resubmit"]))
    def decide(self, how: str) -> None:
        """A person settles the oldest row in doubt, by what Mynth really knows."""
        held = self._held()
        made = {e["intent_id"]: e["task_id"] for e in self.work.log["accepted"]}
        for intent_id in held[:1]:
            if how == "attach" and intent_id in made:
                asyncio.run(self._attach(intent_id, made[intent_id]))
            elif how != "attach" and intent_id not in made:
                asyncio.run(self._give_up(intent_id, resubmit=how == "resubmit"))

    def _held(self) -> list[str]:
        if not (self.work.folder / "ledger.db").exists():
            return []
        ledger = Ledger.open(self.work.ledger_url)
        held = [intent.intent_id for intent in ledger.read.held("b")]
        ledger.close()
        return held

    async def _attach(self, intent_id: str, task_id: str) -> None:
        with suppress(MynthError):
            async with self.work.session() as session:
                await attach(session, intent_id, task_id)

    async def _give_up(self, intent_id: str, *, resubmit: bool) -> None:
        ledger = Ledger.open(self.work.ledger_url)
        await give_up(ledger, intent_id, resubmit=resubmit)
        ledger.close()

    @invariant()
    def nothing_is_paid_twice_and_what_is_done_stays_done(self) -> None:
        if not hasattr(self, "work") or not (self.work.folder / "ledger.db").exists():
            return
        scene = self.work.scene
        check_nothing_paid_twice(scene)
        check_money(scene)
        check_monotone(self.done, scene)
        self.done = final_states(scene)

    def teardown(self) -> None:
        if hasattr(self, "work"):
            self.work.server.set_scenario(faults=(), failures=())
            for minutes in (0, 20, 4, 100, 4):
                self.work.clock.advance(minutes * 60.0)
                self.attempt()
            check_all(self.work.scene, len(self.texts))


@pytest.mark.timeout(600)  # it runs for two minutes where the machine is busy
def test_the_promise_is_kept_in_any_order_of_events(
    simulator: Callable[..., SimulatorServer], tmp_path: Path
):
    """Random interleavings, the invariants after each step; a failing order is printed whole."""
    server = simulator()

    class Machine(Promise):
        folder = tmp_path

        @staticmethod
        def servers(*, clock: LeapingClock, **scenario: Any) -> SimulatorServer:
            from mynth_dagster.simulator import Scenario  # noqa: PLC0415

            server.app.clock = clock
            server.reset(Scenario.from_dict(scenario))
            return server

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=14,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
