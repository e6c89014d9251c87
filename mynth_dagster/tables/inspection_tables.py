"""
The tables `ratings`, `alt_texts` and `reviews`: one row for each image, answered or not.

Money is `decimal128(18, 8)` in USD, times are UTC microseconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mynth_dagster.models.batch import Batch
from mynth_dagster.models.failure import Failure, failure_not_submitted, failure_of_intent
from mynth_dagster.models.failure_words import MoneyOutcome
from mynth_dagster.models.inspection import InspectionKind, inspection_hash
from mynth_dagster.models.intent import Intent, choose_shown
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import Task
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.files import IMAGES, VERSION_KEY, TableStore
from mynth_dagster.tables.inspected import inspection_key
from mynth_dagster.tables.result_schemas import USD, UTC_US
from mynth_dagster.tables.results import PROMPT_ROWS_AT_ONCE, IntentLookup
from mynth_dagster.tables.staging import staged_tables

_SEVERITIES = pa.struct(
    [(name, pa.string()) for name in ("finding", "category", "severity", "where", "confidence")]
)
_STRENGTHS = pa.struct([(name, pa.string()) for name in ("strength", "confidence")])

ANSWERS: dict[InspectionKind, list[tuple[str, pa.DataType]]] = {
    InspectionKind.RATE: [("level", pa.string())],
    InspectionKind.ALT: [("alt", pa.string())],
    InspectionKind.REVIEW: [
        ("score", pa.float64()),
        ("summary", pa.string()),
        ("findings", pa.list_(_SEVERITIES)),
        ("strengths", pa.list_(_STRENGTHS)),
    ],
}
"""What Mynth says of an image, by what was asked."""

_IMAGE_COLUMNS = [
    *("prompt_id", "request_key", "image_index", "image_id", "mynth_url", "url", "intent_id"),
]
_TABLES_NAMED = re.compile(r"materialize (?:prompts and tasks|tasks|images)\b", re.IGNORECASE)


def inspection_schema(kind: InspectionKind) -> pa.Schema:
    """The columns of `ratings`, `alt_texts` or `reviews`."""
    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("request_key", pa.string()),
            ("image_index", pa.int32()),
            ("image_id", pa.string()),
            ("image_intent_id", pa.string()),
            ("url", pa.string()),
            ("status", pa.string()),
            *ANSWERS[kind],
            ("cost_usd", USD),
            ("task_id", pa.string()),
            ("intent_id", pa.string()),
            ("generation", pa.int32()),
            ("attempts", pa.int32()),
            ("submitted_at", UTC_US),
            ("completed_at", UTC_US),
            ("error_code", pa.string()),
            ("error_message", pa.string()),
            ("money", pa.string()),
            ("next_step", pa.string()),
        ]
    )


@dataclass(frozen=True)
class InspectionSummary:
    """
    What one table of answers holds.

    Args:
        n_images: Its rows.
        by_status: Images by the shown status of their inspection.
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


def write_inspections(
    store: TableStore,
    slice_: Slice,
    *,
    batch: Batch,
    lookup: IntentLookup,
    version: int,
    now_us: int,
    stop_code: str | None = None,
) -> InspectionSummary:
    """
    Write the answers about the images of one partition; equal knowledge makes equal bytes.

    ``stop_code`` is said of images that nobody asked about.

    Raises:
        TableError: There is no table of images, or the answers cannot be written.
    """
    assert batch.inspection is not None
    kind = batch.inspection.kind
    rows = _Rows(batch, lookup, now_us, stop_code)
    with staged_tables(store) as staging:
        footer = {VERSION_KEY: str(version)}
        table = staging.open(kind.table, slice_, inspection_schema(kind), footer=footer)
        images = store.iter_batches(
            IMAGES, slice_, columns=_IMAGE_COLUMNS, batch_rows=PROMPT_ROWS_AT_ONCE
        )
        for batch_of_images in images:
            table.write(rows.of(batch_of_images.to_pylist()))
    return InspectionSummary(
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


class _Rows:
    """Rows of one table as they are made, and their counts."""

    def __init__(
        self, batch: Batch, lookup: IntentLookup, now_us: int, stop_code: str | None
    ) -> None:
        assert batch.inspection is not None
        self._settings = batch.inspection
        self._lookup, self._now_us, self._stop_code = lookup, now_us, stop_code
        self._schema = inspection_schema(self._settings.kind)
        self.statuses: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.n_answered = self.charged_units = 0

    def of(self, images: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        keys = [inspection_key(image["request_key"], image["image_index"]) for image in images]
        found = self._lookup.intents_for(keys)
        ids = [i.task_id for intents in found.values() for i in intents if i.task_id]
        tasks = self._lookup.tasks_for(ids)
        rows = [
            self._row(image, found.get(key, ()), tasks)
            for image, key in zip(images, keys, strict=True)
        ]
        return pa.RecordBatch.from_pylist(rows, schema=self._schema)

    def _row(
        self, image: Mapping[str, Any], intents: Sequence[Intent], tasks: Mapping[str, Task]
    ) -> dict[str, Any]:
        subject = f"{image['intent_id']}/{image['image_index']}"
        intent = choose_shown(intents, inspection_hash(self._settings, subject))
        task = tasks.get(intent.task_id or "") if intent else None
        row = {
            **{name: image[name] for name in ("prompt_id", "request_key", "image_index")},
            "image_id": image["image_id"],
            "image_intent_id": image["intent_id"],
            "url": image["mynth_url"] or image["url"],
            **(self._told(intent, task) if image["mynth_url"] or image["url"] else _WITHOUT_URL),
        }
        self.statuses[row["status"]] += 1
        return row

    def _told(self, intent: Intent | None, task: Task | None) -> dict[str, Any]:
        if intent is None:
            return self._failed(failure_not_submitted(self._stop_code))
        self.charged_units += intent.charged_units or 0
        delivery = {
            "cost_usd": None
            if intent.charged_units is None
            else usd_from_units(intent.charged_units),
            "task_id": intent.task_id,
            "intent_id": intent.intent_id,
            "generation": intent.generation,
            "attempts": intent.attempt,
            "submitted_at": intent.submitted_at_us,
            "completed_at": intent.completed_at_us,
        }
        if intent.state is IntentState.COMPLETED and task is not None and task.findings:
            self.n_answered += 1
            return {**delivery, "status": intent.state.value, **self._answer(task.findings)}
        failure = failure_of_intent(intent, now_us=self._now_us, task=task)
        return {**delivery, **self._failed(failure)}

    def _answer(self, findings: Mapping[str, Any]) -> dict[str, Any]:
        answer = {name: findings.get(name) for name, _ in ANSWERS[self._settings.kind]}
        countable = answer.get("level") or answer.get("score")
        if countable is not None:
            self.answers[str(countable)] += 1
        return answer

    def _failed(self, failure: Failure) -> dict[str, Any]:
        table = self._settings.kind.table
        return {
            "status": failure.status,
            "error_code": failure.error_code,
            "error_message": failure.error_message,
            "money": failure.money.value,
            "next_step": _TABLES_NAMED.sub(f"materialize {table}", failure.next_step),
        }
