"""A store in a temporary folder, short ways to write prompts, and a lookup that lives in memory."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from mynth_dagster.limits import LIMITS_BY_REVISION, RevisionLimits
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import Intent, RowKey, SurplusTask
from mynth_dagster.models.task import (
    NOTHING_LISTED,
    ImageOutcome,
    PublicAccessToken,
    Task,
    TaskStatus,
)
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.prompts import PromptsSummary, write_prompts
from mynth_dagster.tables.requests import PlannedRow, iter_planned_batches
from mynth_dagster.tables.results import write_results
from mynth_dagster.tables.source import source_from_arrow
from mynth_dagster.tables.store import FAILURES, IMAGES, PROMPTS, TASKS, TableStore
from tests.batches import make_batch
from tests.tables.outcomes import NOW_US, SLICE, rows_of

START_US = 1_795_000_000_000_000


@dataclass
class Written:
    """Prompt tables that were written, and how to look at them."""

    store: TableStore
    batch: Batch
    summaries: list[PromptsSummary]

    def rows(self, slice_: Slice | None = None) -> list[dict[str, Any]]:
        """The rows of one slice, or of all in order."""
        slices = [slice_] if slice_ else [summary.slice for summary in self.summaries]
        return [
            row
            for one in slices
            for batch in self.store.iter_batches(PROMPTS, one)
            for row in batch.to_pylist()
        ]

    def planned(self) -> list[PlannedRow]:
        return [
            row
            for summary in self.summaries
            for planned in iter_planned_batches(self.store, summary.slice, batch=self.batch)
            for row in planned.rows(range(len(planned.request_keys)))
        ]

    def problems(self) -> list[tuple[str, str] | None]:
        """Code and field of each row's problem."""
        return [
            None if row["problem_code"] is None else (row["problem_code"], row["problem_field"])
            for row in self.rows()
        ]


@dataclass
class KnownIntents:
    """An `IntentLookup` over lists."""

    intents: list[Intent] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    surplus: dict[str, list[SurplusTask]] = field(default_factory=dict)
    downloads: dict[str, dict[int, Download]] = field(default_factory=dict)
    tokens: dict[str, PublicAccessToken] = field(default_factory=dict)

    def intents_for(self, request_keys: Sequence[str]) -> Mapping[str, Sequence[Intent]]:
        found: dict[str, list[Intent]] = {}
        for intent in self.intents:
            if intent.row.request_key in request_keys:
                found.setdefault(intent.row.request_key, []).append(intent)
        return found

    def tasks_for(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        return {name: self.tasks[name] for name in task_ids if name in self.tasks}

    def surplus_for(self, intent_ids: Sequence[str]) -> Mapping[str, Sequence[SurplusTask]]:
        return {name: self.surplus[name] for name in intent_ids if name in self.surplus}

    def downloads_for(self, intent_ids: Sequence[str]) -> Mapping[str, Mapping[int, Download]]:
        return {name: self.downloads[name] for name in intent_ids if name in self.downloads}

    def tokens_for(self, task_ids: Sequence[str]) -> Mapping[str, PublicAccessToken]:
        return {name: self.tokens[name] for name in task_ids if name in self.tokens}

    def n_rows(self) -> int:
        return len({intent.row.request_key for intent in self.intents})

    def removed(self, seen: Container[str]) -> Iterable[Sequence[Intent]]:
        yield [intent for intent in self.intents if intent.row.request_key not in seen]

    def add(
        self,
        row: PlannedRow,
        state: IntentState = IntentState.COMPLETED,
        *,
        images: Sequence[ImageOutcome] | None = None,
        task: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Intent:
        """An intent for a row, with its task where the state has one."""
        generation = changes.get("generation", 1)
        facts = {
            "intent_id": f"int_{row.request_key}_{generation}",
            "row": RowKey("shop", "", row.request_key),
            "prompt_id": row.prompt_id,
            "fan_out": "",
            "generation": 1,
            "attempt": 1,
            "state": state,
            "request_hash": row.request_hash,
            "model": row.request.model,
            "n_asked": row.request.count,
            "claimed_at_us": START_US,
            "send_by_us": START_US + 30_000_000,
        }
        if state in (IntentState.COMPLETED, IntentState.PARTIAL, IntentState.FAILED):
            facts["task_id"] = f"tsk_{row.request_key}_{generation}"
        intent = Intent(**(facts | changes))
        self.intents.append(intent)
        if images is not None and intent.task_id:
            values = {"status": TaskStatus.COMPLETED, **(task or {})}
            self.tasks[intent.task_id] = Task(
                task_id=intent.task_id,
                created_at_us=START_US,
                updated_at_us=START_US + 5_000_000,
                images=tuple(images),
                **values,
            )
        return intent


@pytest.fixture(scope="session")
def limits() -> RevisionLimits:
    return LIMITS_BY_REVISION["2026-08"]


@pytest.fixture
def store(tmp_path) -> TableStore:
    return TableStore(str(tmp_path / "tables"), "shop")


@pytest.fixture
def write(store, limits) -> Callable[..., Written]:
    """Write rows (a mapping of columns, or an Arrow table) as the prompts of a batch."""

    def write_rows(rows: Any, *, window: str = "", **settings: Any) -> Written:
        names = {"limits": limits, "store": store, "offers": NOTHING_LISTED, "wanted": None}
        given = {name: settings.pop(name, default) for name, default in names.items()}
        batch = make_batch("shop", **settings)
        table = rows if isinstance(rows, pa.Table) else pa.table(rows)
        source = source_from_arrow(table, "rows")
        summaries = write_prompts(source, batch=batch, window=window, **given)
        return Written(given["store"], batch, summaries)

    return write_rows


@pytest.fixture
def known() -> KnownIntents:
    return KnownIntents()


@pytest.fixture
def collect(store, known):
    """Write the results of the whole batch; summary and the rows of each table."""

    def collected(**settings):
        given_ = {"lookup": known, "version": 3, "now_us": NOW_US, **settings}
        summary = write_results(store, SLICE, **given_)
        return summary, {table: rows_of(store, table) for table in (TASKS, IMAGES, FAILURES)}

    return collected
