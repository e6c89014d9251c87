"""
The tables `ratings`, `alt_texts` and `reviews`: one row for each image, answered or not.

Money is `decimal128(18, 8)` in USD, times are UTC microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import (
    NOT_SUBMITTED,
    Failure,
    MoneyOutcome,
    failure_not_submitted,
    failure_of_intent,
)
from mynth_dagster.models.intent import Intent, choose_shown
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.models.request import (
    FollowUpKind,
    FollowUpSettings,
    follow_up_hash,
    follow_up_key,
    image_name,
)
from mynth_dagster.models.task import Task
from mynth_dagster.models.transitions import STALLED, IntentState
from mynth_dagster.tables.results import PROMPT_ROWS_AT_ONCE, IntentLookup
from mynth_dagster.tables.schemas import ANSWERS, FINDING, STRENGTH, schema_of
from mynth_dagster.tables.store import IMAGES, VERSION_KEY, TableStore, staged_tables

# What Mynth says of an image, shaped to the columns that hold it. Pure.
#
# An answer is paid for: whatever is odd in it is left out, and never stands in the way of the rest.


def shaped_answer(kind: FollowUpKind, findings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cells of an answer; None where it does not tell what was asked for."""
    answer = {name: _READERS[name](findings.get(name)) for name, *_ in ANSWERS[kind]}
    indispensable = ANSWERS[kind][0][0]
    return None if answer[indispensable] is None else answer


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if isinstance(value, (list, Mapping)) or value is None else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _reader(names: tuple[str, ...]) -> Callable[[Any], list[dict[str, str | None]] | None]:
    def read(value: Any) -> list[dict[str, str | None]] | None:
        if not isinstance(value, list):
            return None
        entries = (v if isinstance(v, Mapping) else {names[0]: v} for v in value)
        return [{name: _text(entry.get(name)) for name in names} for entry in entries]

    return read


_READERS: dict[str, Callable[[Any], Any]] = {
    "level": _text,
    "alt": _text,
    "score": _number,
    "summary": _text,
    "findings": _reader(FINDING),
    "strengths": _reader(STRENGTH),
}


_IMAGE_COLUMNS = [
    *("prompt_id", "request_key", "image_index", "image_id", "mynth_url", "url", "intent_id"),
]
_ASK_AGAIN = (
    "Ask again: materialize {table}, or `mynth-dagster follow-up {table}`; only images that were "
    "not asked about are sent."
)
_LATER = "Nothing is lost: it is collected whenever it finishes; materialize {table} again later."
_TRY_AGAIN = (
    "To pay for another try: materialize {table} with `retry: failed`, or `mynth-dagster follow-up "
    "{table} --retry failed`."
)
_NEXT_BY_STATUS = {
    NOT_SUBMITTED: _ASK_AGAIN,
    IntentState.WITHHELD.value: _ASK_AGAIN,
    IntentState.NOT_ACCEPTED.value: _ASK_AGAIN,
    IntentState.SENDING.value: _LATER,
    IntentState.ACCEPTED.value: _LATER,
    STALLED: _LATER,
    IntentState.REJECTED.value: _TRY_AGAIN,
    IntentState.FAILED.value: _TRY_AGAIN,
}
"""What to do about an image without an answer; else as for any request in doubt."""


@dataclass(frozen=True)
class FollowUpSummary:
    """
    What one table of answers holds.

    Args:
        n_images: Its rows.
        by_status: Images by the shown status of their follow-up.
        by_answer: Images by level, or by score; empty where answers are prose.
        charged_units: Units of 10⁻⁸ USD, as far as known.
    """

    slice: Slice
    uri: str
    version: int
    n_images: int
    n_answered: int
    by_status: dict[str, int] = field(default_factory=dict)
    by_answer: dict[str, int] = field(default_factory=dict)
    charged_units: int = 0


def write_follow_ups(
    store: TableStore,
    slice_: Slice,
    *,
    follow_up: FollowUpSettings,
    lookup: IntentLookup,
    version: int,
    now_us: int,
    stop_code: str | None = None,
) -> FollowUpSummary:
    """
    Write the answers about the images of one partition; equal knowledge makes equal bytes.

    ``stop_code`` is said of images that nobody asked about.

    Raises:
        TableError: There is no table of images, or the answers cannot be written.
    """
    table_name = follow_up.kind.table
    rows = _Rows(follow_up, lookup, now_us, stop_code)
    with staged_tables(store) as staging:
        footer = {VERSION_KEY: str(version)}
        table = staging.open(table_name, slice_, schema_of(table_name), footer=footer)
        images = store.iter_batches(
            IMAGES, slice_, columns=_IMAGE_COLUMNS, batch_rows=PROMPT_ROWS_AT_ONCE
        )
        for batch_of_images in images:
            table.write(rows.of(batch_of_images.to_pylist()))
    return FollowUpSummary(
        slice_,
        table.uri,
        version,
        n_images=table.n_rows,
        n_answered=rows.n_answered,
        by_status=dict(sorted(rows.statuses.items())),
        by_answer=dict(sorted(rows.answers.items())),
        charged_units=rows.charged_units,
    )


_WITHOUT_URL = {
    "status": "not_submitted",
    "error_code": "no_url",
    "error_message": "the image lies in your own storage only, without a public URL",
    "money": MoneyOutcome.NOT_CHARGED.value,
    "next_step": "Give the destination a URL template at Mynth for images to come.",
}


_UNUSABLE = {
    "status": IntentState.FAILED.value,
    "error_code": "unusable_answer",
    "error_message": "Mynth's answer does not tell what was asked for",
    "money": MoneyOutcome.CHARGED.value,
    "next_step": "Look at the task at Mynth by its id; asking again is paid for again.",
}


class _Rows:
    """Rows of one table as they are made, and their counts."""

    def __init__(
        self, follow_up: FollowUpSettings, lookup: IntentLookup, now_us: int, stop_code: str | None
    ) -> None:
        self._follow_up = follow_up
        self._lookup, self._now_us, self._stop_code = lookup, now_us, stop_code
        self._schema = schema_of(self._follow_up.kind.table)
        self.statuses: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.n_answered = self.charged_units = 0

    def of(self, images: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        keys = [follow_up_key(image["request_key"], image["image_index"]) for image in images]
        intents_by_key = self._lookup.intents_for(keys)
        ids = [i.task_id for intents in intents_by_key.values() for i in intents if i.task_id]
        tasks = self._lookup.tasks_for(ids)
        rows = [
            self._row(image, intents_by_key.get(key, ()), tasks)
            for image, key in zip(images, keys, strict=True)
        ]
        return pa.RecordBatch.from_pylist(rows, schema=self._schema)

    def _row(
        self, image: Mapping[str, Any], intents: Sequence[Intent], tasks: Mapping[str, Task]
    ) -> dict[str, Any]:
        name = image_name(image["intent_id"], image["image_index"])
        intent = choose_shown(intents, follow_up_hash(self._follow_up, name))
        task = tasks.get(intent.task_id or "") if intent else None
        row = {
            **{name: image[name] for name in ("prompt_id", "request_key", "image_index")},
            "image_id": image["image_id"],
            "image_intent_id": image["intent_id"],
            "url": image["mynth_url"] or image["url"],
            **(self._outcome(intent, task) if image["mynth_url"] or image["url"] else _WITHOUT_URL),
        }
        self.statuses[row["status"]] += 1
        return row

    def _outcome(self, intent: Intent | None, task: Task | None) -> dict[str, Any]:
        if intent is None:
            return self._failed(failure_not_submitted(self._stop_code))
        self.charged_units += intent.charged_units or 0
        delivery = {
            "cost_usd": None
            if intent.charged_units is None
            else usd_from_units(intent.charged_units),
            "task_id": intent.task_id,
            "intent_id": intent.intent_id,
            "request_hash": intent.request_hash,
            "generation": intent.generation,
            "attempts": intent.attempt,
            "submitted_at": intent.submitted_at_us,
            "completed_at": intent.completed_at_us,
        }
        if intent.state is IntentState.COMPLETED and task is not None and task.findings:
            answer = shaped_answer(self._follow_up.kind, task.findings)
            self._count(answer)
            cells = _UNUSABLE if answer is None else {"status": intent.state.value, **answer}
            return {**delivery, **cells}
        failure = failure_of_intent(intent, now_us=self._now_us, task=task)
        return {**delivery, **self._failed(failure)}

    def _count(self, answer: Mapping[str, Any] | None) -> None:
        self.n_answered += answer is not None
        countable = (answer or {}).get("level") or (answer or {}).get("score")
        if countable is not None:
            self.answers[str(countable)] += 1

    def _failed(self, failure: Failure) -> dict[str, Any]:
        table = self._follow_up.kind.table
        return {
            "status": failure.status,
            "error_code": failure.error_code,
            "error_message": failure.error_message,
            "money": failure.money.value,
            "next_step": _NEXT_BY_STATUS.get(failure.status, failure.next_step).format(table=table),
        }
