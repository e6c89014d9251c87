"""
What must hold after every case, judged by the simulator's own log.

The names are those of the promise: nothing lost, nothing paid twice, complete, money told,
repeatable, monotone. Errors and bounds are looked at by the cases themselves.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import sqlalchemy as sa

from mynth_dagster.models.money import NOTHING, exposure_of, exposure_of_surplus
from mynth_dagster.models.transitions import FINAL, IntentState

TABLES = ("tasks", "images", "failures")
OPEN_STATUSES = {"unresolved", "sending", "lost", "abandoned"}


@dataclass(frozen=True)
class Scene:
    """Where a case took place: what Mynth saw, and what we have to show for it."""

    log: Mapping[str, Any]
    root: Path
    ledger_url: str
    batch: str = "b"

    def table(self, name: str) -> list[dict[str, Any]]:
        files = sorted((self.root / self.batch / name).rglob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        engine = sa.create_engine(self.ledger_url)
        with engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(sa.text(statement))]
        engine.dispose()
        return rows

    def bytes_of_tables(self) -> dict[str, bytes]:
        return {
            str(file.relative_to(self.root)): file.read_bytes()
            for name in TABLES
            for file in sorted((self.root / self.batch / name).rglob("*.parquet"))
        }


def check_nothing_lost(scene: Scene) -> None:
    """Each accepted task is in `tasks`, on the row it was made for, or its row is in doubt."""
    files = sorted(scene.root.glob("*/tasks/**/*.parquet"))
    tasks = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    row_of_task = {task["task_id"]: task["intent_id"] for task in tasks if task["task_id"]}
    in_doubt = {t["intent_id"] for t in tasks if t["status"] in OPEN_STATUSES}
    for entry in scene.log["accepted"]:
        shown = row_of_task.get(entry["task_id"])
        if shown is None:
            assert entry["intent_id"] in in_doubt, f"{entry} is in no table"
        else:
            assert shown == entry["intent_id"], f"{entry} is shown on another row"


def check_nothing_paid_twice(scene: Scene, *, allowed: int = 1) -> None:
    """At most one accepted request for each row and generation, over all its attempts."""
    by_intent = Counter(entry["intent_id"] for entry in scene.log["accepted"])
    twice = {intent: n for intent, n in by_intent.items() if n > allowed}
    assert not twice, f"paid more than {allowed} times: {twice}"


def check_complete(scene: Scene, n_rows: int, *, count: int = 1) -> None:
    """Every prompt row has its images and their failures, or one failure of the whole."""
    outcomes = Counter(row["prompt_id"] for row in scene.table("images"))
    whole: Counter[str] = Counter()
    for row in scene.table("failures"):
        if row["stage"] == "download":
            continue  # of an image that is there: see `check_files`
        (whole if row["image_index"] is None else outcomes)[row["prompt_id"]] += 1
    assert len(outcomes | whole) == n_rows
    assert not set(outcomes) & set(whole)
    assert set(outcomes.values()) <= {count}
    assert set(whole.values()) <= {1}


def check_money(scene: Scene) -> None:
    """Known charges are Mynth's, and the ledger's counters are the sums of its rows."""
    charged = {c["task_id"]: c["charged"] for c in scene.log["charges"]}
    for task in scene.table("tasks"):
        if task["charged_usd"] is not None and task["task_id"] in charged:
            assert task["charged_usd"] == Decimal(charged[task["task_id"]] or 0)
    sums = {}
    columns = 'batch, "window", fan_out'
    for *place, state, quoted, reserved, cost in scene.query(
        f"SELECT {columns}, state, quoted_units, reserved_units, charged_units FROM intents"
    ):
        sums[tuple(place)] = sums.get(tuple(place), NOTHING) + exposure_of(
            IntentState(state), quoted_units=quoted, reserved_units=reserved, charged_units=cost
        )
    for *place, reserved, cost in scene.query(
        'SELECT i.batch, i."window", i.fan_out, t.reserved_units, t.charged_units'
        " FROM tasks t JOIN intents i ON i.intent_id = t.intent_id WHERE t.is_surplus"
    ):
        sums[tuple(place)] += exposure_of_surplus(reserved, cost)
    for *place, spent, reserved, unknown in scene.query(
        f"SELECT {columns}, spent_units, reserved_units, unknown_units FROM partitions"
    ):
        expected = sums.get(tuple(place), NOTHING)
        assert (spent, reserved, unknown) == (expected.spent, expected.reserved, expected.unknown)


def check_files(scene: Scene) -> None:
    """Each file is what its row says; each failed download is of an image without one."""
    without = set()
    for row in scene.table("images"):
        if row["file_path"] is None:
            without.add((row["intent_id"], row["image_index"]))
            continue
        content = Path(row["file_path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            row["file_bytes"],
            row["file_sha256"],
        )
    failed = [row for row in scene.table("failures") if row["stage"] == "download"]
    assert {(row["intent_id"], row["image_index"]) for row in failed} <= without
    assert not {row["money"] for row in failed} - {"charged", "unknown"}


def check_no_litter(scene: Scene) -> None:
    """No temporary file stays behind, and no answer waits in a journal."""
    assert list(scene.root.rglob(".part-*")) == []
    assert list(scene.root.rglob("*.journal")) == []


def final_states(scene: Scene) -> dict[str, str]:
    """Intents that are done, by id; they may never change again."""
    states = scene.query("SELECT intent_id, state FROM intents")
    return {intent: state for intent, state in states if IntentState(state) in FINAL}


def check_monotone(before: Mapping[str, str], scene: Scene) -> None:
    """What was done before is done in the same way now."""
    after = final_states(scene)
    assert {intent: after.get(intent) for intent in before} == dict(before)


def check_all(scene: Scene, n_rows: int, *, count: int = 1, allowed: int = 1) -> None:
    """Everything that can be judged from log, ledger and tables alone."""
    check_nothing_lost(scene)
    check_nothing_paid_twice(scene, allowed=allowed)
    check_complete(scene, n_rows, count=count)
    check_money(scene)
    check_files(scene)
    check_no_litter(scene)
