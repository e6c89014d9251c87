"""A case's stage: runs on a clock made by hand, finished and judged the same way every time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.run import RunReport
from mynth_dagster.simulator import SimulatorServer
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import MODEL, LeapingClock
from tests.faults.invariants import Scene, check_all, check_monotone, final_states

MINUTE_S = 60.0
PAUSES_S = (0.0, 20 * MINUTE_S, 4 * MINUTE_S, 100 * MINUTE_S, 4 * MINUTE_S)
"""Between the runs that finish a case: at once, and when searches can prove something."""


class Stage(Bench):
    """A simulator, a ledger, a root, a clock; and the judge of what came of them."""

    def __init__(self, server: SimulatorServer, clock: LeapingClock, folder: Path) -> None:
        super().__init__(server, clock, folder)
        self.has_list = server.scenario.revision != "2026-04"
        self.n_later = 0

    @property
    def scene(self) -> Scene:
        return Scene(self.log, self.root, self.ledger_url)

    def tick(self) -> None:
        """One look of the sensor."""

        async def once() -> None:
            async with self.session() as session:
                await partition_status(session, make_batch("b", models=(MODEL,)), budget_s=40)

        asyncio.run(once())

    def finish(
        self,
        rows: Sequence[dict[str, Any]] | int,
        *,
        images: int | None = None,
        count: int = 1,
        **fields: Any,
    ) -> RunReport:
        """
        Run again until nothing is left to wait for, then check everything.

        `images` is how many there must be in the end; None: one for each row whose task did not
        fail. A revision without a task list holds some rows for a person.
        """
        n_rows = rows if isinstance(rows, int) else len(rows)
        for pause_s in PAUSES_S:
            before = final_states(self.scene)
            self.clock.advance(pause_s)
            report = self.run(rows, **fields)
            check_monotone(before, self.scene)
            if report.is_accounted_for:
                break
            self.send_later()
        n_held = 0 if self.has_list else report.unresolved
        n_failed = report.rows_by_status.get("failed", 0)
        expected = n_rows - n_failed - n_held if images is None else images - n_held
        assert report.images == expected
        check_all(self.scene, n_rows, count=count)
        self.check_repeatable(rows, **fields)
        return report

    def send_later(self) -> None:
        """A row of another table, whose task shows that the list is no old copy."""
        self.run(1, name="later", window=str(self.clock.now_us()))
        self.n_later += 1

    def check_repeatable(self, rows: Sequence[dict[str, Any]] | int, **fields: Any) -> None:
        """Once more, hours later, sends nothing and writes the same bytes."""
        before, n_posts = self.scene.bytes_of_tables(), self.n_posts
        self.clock.advance(sum(PAUSES_S))
        self.run(rows, **fields)
        assert self.n_posts == n_posts
        assert self.scene.bytes_of_tables() == before


class LogKeeper(logging.Handler):
    """Everything that was logged by anybody, down to DEBUG, as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
