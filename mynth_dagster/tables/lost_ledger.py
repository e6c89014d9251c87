"""What the tables of a batch remember of the ledger that wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mynth_dagster.clock import us_from_utc
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent, RowKey
from mynth_dagster.models.money import units_from_usd
from mynth_dagster.models.request import InspectionKind
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.files import PROMPTS, TASKS, TableStore
from mynth_dagster.tables.inspected import inspection_key

_STATES = {state.value for state in IntentState}
_PROMPT_COLUMNS = ["prompt_id", "request_key", "request_hash", "model", "count"]


@dataclass(frozen=True)
class RememberedPrompt:
    """A good row of a prompt table."""

    prompt_id: str
    request_key: str
    request_hash: str
    model: str
    n_asked: int


def iter_prompts(store: TableStore, slice_: Slice) -> Iterator[RememberedPrompt]:
    """The rows of a partition that may have been asked for."""
    for rows in store.iter_batches(PROMPTS, slice_, columns=_PROMPT_COLUMNS):
        for row in rows.to_pylist():
            if row["request_hash"] is not None:
                yield RememberedPrompt(*(row[name] for name in _PROMPT_COLUMNS))


def iter_intents(store: TableStore, slice_: Slice, ledger_name: str) -> Iterator[Intent]:
    """
    The intents that the `tasks` table of a partition tells of; further tasks are left out.

    One with a task comes as `accepted`: whatever became of the task is read anew, free of charge.
    """
    prompts = {prompt.request_key: prompt for prompt in iter_prompts(store, slice_)}
    seen: set[str] = set()
    for rows in store.iter_batches(TASKS, slice_):
        for row in rows.to_pylist():
            if row["intent_id"] not in seen:
                seen.add(row["intent_id"])
                yield _intent(row, slice_, ledger_name, prompts.get(row["request_key"]))


@dataclass(frozen=True)
class RememberedLook:
    """A paid look at an image, and the URL that it was about."""

    intent: Intent
    url: str


def iter_looks(
    store: TableStore, slice_: Slice, ledger_name: str, kind: InspectionKind
) -> Iterator[RememberedLook]:
    """The intents that `ratings`, `alt_texts` or `reviews` of a partition tell of."""
    for rows in store.iter_batches(kind.table, slice_):
        for row in rows.to_pylist():
            if row["intent_id"] is not None:
                yield RememberedLook(_look(row, slice_, ledger_name, kind), row["url"] or "")


def _look(row: dict[str, Any], slice_: Slice, ledger_name: str, kind: InspectionKind) -> Intent:
    submitted_us = us_from_utc(row["submitted_at"]) if row["submitted_at"] else 0
    key = inspection_key(row["request_key"], row["image_index"])
    return Intent(
        intent_id=row["intent_id"],
        row=RowKey(ledger_name, slice_.window, key),
        prompt_id=row["prompt_id"],
        fan_out=slice_.fan_out,
        generation=row["generation"],
        attempt=row["attempts"],
        state=_state(row["status"], has_task=row["task_id"] is not None),
        request_hash=row["request_hash"],
        model=kind.task_type,
        n_asked=1,
        claimed_at_us=submitted_us,
        send_by_us=submitted_us,
        submitted_at_us=submitted_us or None,
        deadline_at_us=submitted_us or None,
        task_id=row["task_id"],
        error_code=row["error_code"],
        error_message=row["error_message"],
    )


def _intent(
    row: dict[str, Any], slice_: Slice, ledger_name: str, prompt: RememberedPrompt | None
) -> Intent:
    is_as_asked_now = prompt is not None and row["current"]
    submitted_us = us_from_utc(row["submitted_at"]) if row["submitted_at"] else 0
    return Intent(
        intent_id=row["intent_id"],
        row=RowKey(ledger_name, slice_.window, row["request_key"]),
        prompt_id=row["prompt_id"],
        fan_out=slice_.fan_out,
        generation=row["generation"],
        attempt=row["attempt"],
        state=_state(row["status"], has_task=row["task_id"] is not None),
        request_hash=prompt.request_hash if prompt and is_as_asked_now else unknown_hash(row),
        model=row["model"] or (prompt.model if prompt else ""),
        n_asked=prompt.n_asked if prompt else 1,
        claimed_at_us=submitted_us,
        send_by_us=submitted_us,
        submitted_at_us=submitted_us or None,
        deadline_at_us=submitted_us or None,
        task_id=row["task_id"],
        quoted_units=_units(row["quoted_usd"]),
        reserved_units=_units(row["reserved_usd"]),
        error_code=row["error_code"],
        error_message=row["error_message"],
    )


def unknown_hash(row: dict[str, Any]) -> str:
    """Of a request that nobody remembers: equal to no row's."""
    return f"lost:{row['intent_id']}"


def _state(status: str, *, has_task: bool) -> IntentState:
    if has_task:
        return IntentState.ACCEPTED
    if status == IntentState.SENDING.value or status not in _STATES:
        return IntentState.UNRESOLVED
    return IntentState(status)


def _units(usd: Any) -> int | None:
    return None if usd is None else units_from_usd(usd)
