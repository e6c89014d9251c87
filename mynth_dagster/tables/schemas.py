"""
The columns of the result tables.

Money is `decimal128(18, 8)` in USD, times are UTC microseconds.
All three tables are ordered by the rows of the prompt table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa

from mynth_dagster.limits import MONEY_SCALE

USD = pa.decimal128(18, MONEY_SCALE)
UTC_US = pa.timestamp("us", tz="UTC")

TASKS_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("request_key", pa.string()),
        ("shard", pa.string()),  # key of the fan-out: a shard or a model; empty without one
        ("intent_id", pa.string()),
        ("generation", pa.int32()),  # 1-based
        ("attempt", pa.int32()),  # 1-based
        ("current", pa.bool_()),  # the generation that counts now
        ("status", pa.string()),
        ("task_id", pa.string()),
        ("model", pa.string()),  # as asked for
        ("quoted_usd", USD),
        ("reserved_usd", USD),
        ("charged_usd", USD),  # null until known
        ("submitted_at", UTC_US),
        ("completed_at", UTC_US),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("public_access_token", pa.string()),  # a secret; null unless the batch hands them out
        ("token_expires_at", UTC_US),
    ]
)
"""One row per intent of every generation, and per surplus task."""

_IMAGES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("request_key", pa.string()),
        ("image_index", pa.int32()),  # 0-based within the request
        ("image_id", pa.string()),
        ("url", pa.string()),
        ("mynth_url", pa.string()),
        ("model_requested", pa.string()),
        ("model", pa.string()),  # what `auto` was resolved to
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),  # pixels
        ("format", pa.string()),
        ("cost_usd", USD),  # the image's own, else its share of the task's; null until known
        ("cost_basis", pa.string()),
        ("rating_level", pa.string()),
        ("rating_error", pa.string()),
        ("destination", pa.string()),
        ("destination_status", pa.string()),
        ("destination_error", pa.string()),
        ("metadata", pa.string()),  # as Mynth returned it
        ("prompt", pa.string()),
        ("prompt_sent", pa.string()),  # after enhancement
        ("task_id", pa.string()),
        ("intent_id", pa.string()),
        ("submitted_at", UTC_US),
        ("completed_at", UTC_US),
        ("url_expires_at", UTC_US),  # null where unknown
        ("file_path", pa.string()),  # null where no file is kept
        ("file_bytes", pa.int64()),
        ("file_sha256", pa.string()),  # hex
    ]
)

_FAILURES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("request_key", pa.string()),
        ("image_index", pa.int32()),  # 0-based; null: the whole request
        ("stage", pa.string()),
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("field", pa.string()),
        ("http_status", pa.int32()),
        ("money", pa.string()),
        ("retryable", pa.bool_()),
        ("attempts", pa.int32()),
        ("task_id", pa.string()),
        ("intent_id", pa.string()),
        ("next_step", pa.string()),
    ]
)

RESULT_COLUMNS = frozenset([*TASKS_SCHEMA.names, *_IMAGES.names, *_FAILURES.names])
"""Names that a carried column cannot keep."""


def images_schema(carried: pa.Schema) -> pa.Schema:
    """One row per image delivered, with the prompt table's other columns at the end."""
    return pa.schema([*_IMAGES, *carried])


def failures_schema(carried: pa.Schema) -> pa.Schema:
    """One row per prompt row or image without an image, with the carried columns at the end."""
    return pa.schema([*_FAILURES, *carried])


# The normalised prompt table: one row per request, checked, with the batch's defaults filled in.
#
# `row_index` is the 0-based row of the source that a request comes from. The three `problem_`
# columns are null where a row is fine; a row with a problem is never asked for. `request_hash` is
# null where a row does not say what it asks for.


INPUTS_TYPE = pa.list_(
    pa.struct([("url", pa.string()), ("role", pa.string()), ("identity", pa.string())])
)

REQUEST_TYPES: dict[str, pa.DataType] = {
    "prompt": pa.string(),
    "negative_prompt": pa.string(),
    "model": pa.string(),
    "size": pa.string(),
    "count": pa.int32(),
    "inputs": INPUTS_TYPE,
    "output_format": pa.string(),
    "output_quality": pa.int16(),
    "enhance": pa.string(),
    "destination": pa.string(),
    "metadata": pa.string(),
}
"""What a row asks for; `metadata` is a compact JSON object."""

_KEY_FIELDS = [
    ("row_index", pa.int64()),
    ("prompt_id", pa.string()),
    ("request_key", pa.string()),
    ("request_hash", pa.string()),
]
_PROBLEM_FIELDS = [
    ("problem_code", pa.string()),
    ("problem_field", pa.string()),
    ("problem_message", pa.string()),
]
OUR_COLUMNS: tuple[str, ...] = (
    *(name for name, _ in _KEY_FIELDS),
    *REQUEST_TYPES,
    *(name for name, _ in _PROBLEM_FIELDS),
)

_FOLDER_COLUMNS = frozenset({"date", "file", "key", "partition", "fan_out"})
"""What readers of hive-style folders call their columns; equal names in the files would clash."""

RESERVED_COLUMNS = RESULT_COLUMNS.union(OUR_COLUMNS, _FOLDER_COLUMNS)


def prompts_schema(carried: pa.Schema) -> pa.Schema:
    """The columns of the normalised table, with the source's other columns at the end."""
    return pa.schema([*_KEY_FIELDS, *REQUEST_TYPES.items(), *_PROBLEM_FIELDS, *carried])


def carried_schema(schema: pa.Schema) -> pa.Schema:
    """The source's other columns of a normalised table."""
    return pa.schema([column for column in schema if column.name not in OUR_COLUMNS])


def carried_names(names: Iterable[str]) -> dict[str, str]:
    """
    What the source's other columns are called in our tables.

    A name that means something in one of our tables becomes `input_<name>`, and so does one that
    differs from another in case alone: SQL engines know no difference.
    """
    wanted = list(names)
    free = [name for name in wanted if name.lower() not in RESERVED_COLUMNS]
    first = {name.lower(): name for name in reversed(free)}
    taken, result = set(first), dict[str, str]()
    for name in wanted:
        is_kept = first.get(name.lower()) == name
        result[name] = name if is_kept else _free_name(name, taken)
        taken.add(result[name].lower())
    return result


def _free_name(name: str, taken: Collection[str]) -> str:
    candidate = f"input_{name}"
    while candidate.lower() in taken or candidate.lower() in RESERVED_COLUMNS:
        candidate = f"input_{candidate}"
    return candidate


# What each column of our tables means; for the UI, and compared with the page on tables.


_LOOK = {
    "prompt_id": "the row's name",
    "request_key": "as in `images`",
    "image_index": "as in `images`",
    "image_id": "as in `images`",
    "image_intent_id": "`intent_id` in `images`",
    "url": "what was looked at",
    "status": "a state of the look, `stalled` or `not_submitted`",
    "cost_usd": "of the look; null until known",
    "task_id": "of the look; null until known",
    "intent_id": "of the look",
    "request_hash": "what was asked, `<version>:<hex>`",
    "generation": "1-based",
    "attempts": "how often delivery was tried",
    "submitted_at": "when acceptance was seen",
    "completed_at": "when Mynth finished it",
    "error_code": "lower snake case; null where there is an answer",
    "error_message": "in words",
    "money": "`not charged`, `charged`, `refunded` or `unknown`; null where there is an answer",
    "next_step": "one sentence to act on",
}

MEANINGS: dict[str, dict[str, str]] = {
    "prompts": {
        "row_index": "0-based row of the source",
        "prompt_id": "the row's name",
        "request_key": "the prompt id, then `@` and the model asked of",
        "request_hash": "the wish in short, `<version>:<hex>`; null where the row cannot be read",
        "prompt": "what to draw",
        "negative_prompt": "what to avoid",
        "model": "asked for",
        "size": "as in the prompt table",
        "count": "images",
        "inputs": "`url` or file, `role`, and what stands for the content: `identity`",
        "output_format": "`png`, `jpg` or `webp`",
        "output_quality": "up to 100",
        "enhance": "`magic` or `native`; null: as Mynth does",
        "destination": "slug of your own storage at Mynth",
        "metadata": "compact JSON object",
        "problem_code": "null where the row is fine",
        "problem_field": "our name of the column at fault",
        "problem_message": "in words",
    },
    "tasks": {
        "prompt_id": "the row's name",
        "request_key": "as in `prompts`",
        "shard": "key of the fan-out, a shard or a model; empty without one",
        "intent_id": "`int_…`",
        "generation": "1-based",
        "attempt": "1-based",
        "current": "the generation that counts now",
        "status": "a state, or `stalled`",
        "task_id": "Mynth's id; null until known",
        "model": "as asked for",
        "quoted_usd": "expected before sending; null where no price is known",
        "reserved_usd": "held by Mynth, or the quote where it did not say",
        "charged_usd": "null until known",
        "submitted_at": "when acceptance was seen",
        "completed_at": "when Mynth finished it; to the second, by a webhook before 2026-10",
        "error_code": "lower snake case",
        "error_message": "in words",
        "public_access_token": "a secret that opens this task; null unless the batch asks for it",
        "token_expires_at": "by the lifetime that the revision documents",
    },
    "images": {
        "prompt_id": "the row's name",
        "request_key": "as in `prompts`",
        "image_index": "0-based within the request",
        "image_id": "Mynth's id",
        "url": "null where the image went to your own storage only",
        "mynth_url": "Mynth's own copy, where told",
        "model_requested": "as asked for, perhaps `auto`",
        "model": "what `auto` was resolved to",
        "width": "pixels",
        "height": "pixels",
        "format": "`png`, `jpg` or `webp`",
        "cost_usd": "the image's own, else its share of the task's; null until known",
        "cost_basis": "`image`: as Mynth told; `allocated`: a share of what only a sum is told of",
        "rating_level": "where a rating was asked for",
        "rating_error": "code of a rating that failed; the image was made all the same",
        "destination": "your own storage that it was sent to",
        "destination_status": "`success` or `failed`, by Mynth's word",
        "destination_error": "code of a delivery to your storage that failed",
        "metadata": "yours, as Mynth returned it: a JSON object",
        "prompt": "as in `prompts`",
        "prompt_sent": "after enhancement",
        "task_id": "Mynth's id",
        "intent_id": "as in `tasks`",
        "submitted_at": "when acceptance was seen",
        "completed_at": "when Mynth finished it",
        "url_expires_at": "7 days after completion; null before `2026-10` without `url_lifetime_s`",
        "file_path": "path or URL of the file; null where none is kept",
        "file_bytes": "its size",
        "file_sha256": "of its bytes, in hex",
    },
    "failures": {
        "prompt_id": "the row's name",
        "request_key": "as in `prompts`",
        "image_index": "0-based; null means the whole request",
        "stage": "`validation`, `submission`, `generation`, `delivery`, `collection` or `download`",
        "status": "a state, `stalled`, `rejected_input` or `not_submitted`",
        "error_code": "lower snake case; ours below, else Mynth's",
        "error_message": "in words",
        "field": "column or request field at fault, where known",
        "http_status": "of the answer, where there was one",
        "money": "`not charged`, `charged`, `refunded` or `unknown`",
        "retryable": "asking again may end otherwise and pays for nothing twice",
        "attempts": "how often delivery was tried; 0 where nobody tried",
        "task_id": "Mynth's id; null where there is no task",
        "intent_id": "as in `tasks`; null where nobody asked",
        "next_step": "one sentence to act on",
    },
    "ratings": {**_LOOK, "level": "of the scale that was asked for"},
    "alt_texts": {**_LOOK, "alt": "a description for those who do not see the image"},
    "reviews": {
        **_LOOK,
        "score": "1 to 4, higher is better: the median of the panel",
        "summary": "in words",
        "findings": "`finding`, `category`, `severity`, `where`, `confidence`",
        "strengths": "`strength`, `confidence`",
    },
}
