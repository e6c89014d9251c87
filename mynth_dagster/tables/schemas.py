"""
The columns of all tables: each once, with its name, its type and its meaning.

Money is `decimal128(18, 8)` in USD, times are UTC microseconds. The columns of a prompt table that
mean nothing to us are carried: they stand after our own in `prompts`, `images` and `failures`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa

from mynth_dagster.limits import MONEY_SCALE
from mynth_dagster.models.request import FollowUpKind

USD = pa.decimal128(18, MONEY_SCALE)
UTC_US = pa.timestamp("us", tz="UTC")
INPUTS_TYPE = pa.list_(
    pa.struct([("url", pa.string()), ("role", pa.string()), ("identity", pa.string())])
)
FINDING = ("finding", "category", "severity", "where", "confidence")
STRENGTH = ("strength", "confidence")
_TEXT, _INT = pa.string(), pa.int32()


def _entries(names: tuple[str, ...]) -> pa.DataType:
    return pa.list_(pa.struct([(name, pa.string()) for name in names]))


_REQUEST = [
    ("prompt", _TEXT, "what to draw"),
    ("negative_prompt", _TEXT, "what to avoid"),
    ("model", _TEXT, "asked for"),
    ("size", _TEXT, "as in the prompt table"),
    ("count", _INT, "images"),
    ("inputs", INPUTS_TYPE, "`url` or file, `role`, and what stands for the content: `identity`"),
    ("output_format", _TEXT, "`png`, `jpg` or `webp`"),
    ("output_quality", pa.int16(), "up to 100"),
    ("enhance", _TEXT, "`magic` or `native`; null: as Mynth does"),
    ("destination", _TEXT, "slug of your own storage at Mynth"),
    ("metadata", _TEXT, "compact JSON object"),
]
ANSWERS = {
    FollowUpKind.RATE: [
        ("level", _TEXT, "of the scale that was asked for"),
    ],
    FollowUpKind.ALT: [
        ("alt", _TEXT, "a description for those who do not see the image"),
    ],
    FollowUpKind.REVIEW: [
        ("score", pa.float64(), "1 to 4, higher is better: the median of the panel"),
        ("summary", _TEXT, "in words"),
        ("findings", _entries(FINDING), "`finding`, `category`, `severity`, `where`, `confidence`"),
        ("strengths", _entries(STRENGTH), "`strength`, `confidence`"),
    ],
}
"""The columns of an answer about an image, by what was asked; the first is indispensable."""

_ABOUT_IMAGE = [
    ("prompt_id", _TEXT, "the row's name"),
    ("request_key", _TEXT, "as in `images`"),
    ("image_index", _INT, "as in `images`"),
    ("image_id", _TEXT, "as in `images`"),
    ("image_intent_id", _TEXT, "`intent_id` in `images`"),
    ("url", _TEXT, "of the image that was asked about"),
    ("status", _TEXT, "a state of the follow-up, `stalled` or `not_submitted`"),
]
_ABOUT_FOLLOW_UP = [
    ("cost_usd", USD, "of the follow-up; null until known"),
    ("task_id", _TEXT, "of the follow-up; null until known"),
    ("intent_id", _TEXT, "of the follow-up"),
    ("request_hash", _TEXT, "what was asked, `<version>:<hex>`"),
    ("generation", _INT, "1-based"),
    ("attempts", _INT, "how often delivery was tried"),
    ("submitted_at", UTC_US, "when acceptance was seen"),
    ("completed_at", UTC_US, "when Mynth finished it"),
    ("error_code", _TEXT, "lower snake case; null where there is an answer"),
    ("error_message", _TEXT, "in words"),
    (
        "money",
        _TEXT,
        "`not charged`, `charged`, `refunded` or `unknown`; null where there is an answer",
    ),
    ("next_step", _TEXT, "one sentence to act on"),
]

COLUMNS = {
    "prompts": [
        ("row_index", pa.int64(), "0-based row of the source"),
        ("prompt_id", _TEXT, "the row's name"),
        ("request_key", _TEXT, "the prompt id, then `@` and the model asked of"),
        (
            "request_hash",
            _TEXT,
            "hash of what the row asks for, `<version>:<hex>`; null where the row cannot be read",
        ),
        *_REQUEST,
        ("problem_code", _TEXT, "null where the row is fine"),
        ("problem_field", _TEXT, "our name of the column at fault"),
        ("problem_message", _TEXT, "in words"),
    ],
    "tasks": [
        ("prompt_id", _TEXT, "the row's name"),
        ("request_key", _TEXT, "as in `prompts`"),
        ("shard", _TEXT, "key of the fan-out, a shard or a model; empty without one"),
        ("intent_id", _TEXT, "`int_…`"),
        ("generation", _INT, "1-based"),
        ("attempt", _INT, "1-based"),
        ("current", pa.bool_(), "the generation that counts now"),
        ("status", _TEXT, "a state, or `stalled`"),
        ("task_id", _TEXT, "Mynth's id; null until known"),
        ("model", _TEXT, "as asked for"),
        ("quoted_usd", USD, "expected before sending; null where no price is known"),
        ("reserved_usd", USD, "held by Mynth, or the quote where Mynth does not report it"),
        ("charged_usd", USD, "null until known"),
        ("submitted_at", UTC_US, "when acceptance was seen"),
        (
            "completed_at",
            UTC_US,
            "when Mynth finished it; to the second, by a webhook before 2026-10",
        ),
        ("error_code", _TEXT, "lower snake case"),
        ("error_message", _TEXT, "in words"),
        (
            "public_access_token",
            _TEXT,
            "a secret that opens this task; null unless the batch asks for it",
        ),
        ("token_expires_at", UTC_US, "by the lifetime that the revision documents"),
    ],
    "images": [
        ("prompt_id", _TEXT, "the row's name"),
        ("request_key", _TEXT, "as in `prompts`"),
        ("image_index", _INT, "0-based within the request"),
        ("image_id", _TEXT, "Mynth's id"),
        ("url", _TEXT, "null where the image went to your own storage only"),
        ("mynth_url", _TEXT, "Mynth's own copy, where given"),
        ("model_requested", _TEXT, "as asked for, perhaps `auto`"),
        ("model", _TEXT, "what `auto` was resolved to"),
        ("width", _INT, "pixels"),
        ("height", _INT, "pixels"),
        ("format", _TEXT, "`png`, `jpg` or `webp`"),
        ("cost_usd", USD, "the image's own, else its share of the task's; null until known"),
        (
            "cost_basis",
            _TEXT,
            "`image`: as Mynth reports it; `allocated`: a share of the task's cost",
        ),
        ("rating_level", _TEXT, "where a rating was asked for"),
        ("rating_error", _TEXT, "code of a rating that failed; the image was made all the same"),
        ("destination", _TEXT, "your own storage that it was sent to"),
        ("destination_status", _TEXT, "`success` or `failed`, as Mynth reports"),
        ("destination_error", _TEXT, "code of a delivery to your storage that failed"),
        ("metadata", _TEXT, "yours, as Mynth returned it: a JSON object"),
        ("prompt", _TEXT, "as in `prompts`"),
        ("prompt_sent", _TEXT, "after enhancement"),
        ("task_id", _TEXT, "Mynth's id"),
        ("intent_id", _TEXT, "as in `tasks`"),
        ("submitted_at", UTC_US, "when acceptance was seen"),
        ("completed_at", UTC_US, "when Mynth finished it"),
        (
            "url_expires_at",
            UTC_US,
            "7 days after completion; null before `2026-10` without `url_lifetime_s`",
        ),
        ("file_path", _TEXT, "path or URL of the file; null where none is kept"),
        ("file_bytes", pa.int64(), "its size"),
        ("file_sha256", _TEXT, "of its bytes, in hex"),
    ],
    "failures": [
        ("prompt_id", _TEXT, "the row's name"),
        ("request_key", _TEXT, "as in `prompts`"),
        ("image_index", _INT, "0-based; null means the whole request"),
        (
            "stage",
            _TEXT,
            "`validation`, `submission`, `generation`, `delivery`, `collection` or `download`",
        ),
        ("status", _TEXT, "a state, `stalled`, `rejected_input` or `not_submitted`"),
        ("error_code", _TEXT, "lower snake case; ours below, else Mynth's"),
        ("error_message", _TEXT, "in words"),
        ("field", _TEXT, "column or request field at fault, where known"),
        ("http_status", _INT, "of the response, where there was one"),
        ("money", _TEXT, "`not charged`, `charged`, `refunded` or `unknown`"),
        ("retryable", pa.bool_(), "another try may end otherwise and pays for nothing twice"),
        ("attempts", _INT, "how often delivery was tried; 0 where nobody tried"),
        ("task_id", _TEXT, "Mynth's id; null where there is no task"),
        ("intent_id", _TEXT, "as in `tasks`; null where nothing was sent"),
        ("next_step", _TEXT, "one sentence to act on"),
    ],
    **{kind.table: [*_ABOUT_IMAGE, *answer, *_ABOUT_FOLLOW_UP] for kind, answer in ANSWERS.items()},
}
"""Each table's own columns; `docs/tables.md` and Dagster's UI show the same."""

REQUEST_TYPES: dict[str, pa.DataType] = {name: kind for name, kind, _ in _REQUEST}
"""What a row asks for."""

OUR_COLUMNS = tuple(name for name, *_ in COLUMNS["prompts"])
RESULT_COLUMNS = frozenset(
    name for table in ("tasks", "images", "failures") for name, *_ in COLUMNS[table]
)
"""Names that a carried column cannot keep."""

NONE_CARRIED = pa.schema([])


def schema_of(table: str, carried: pa.Schema = NONE_CARRIED) -> pa.Schema:
    """A table's own columns, and the carried ones at the end."""
    return pa.schema([*((name, kind) for name, kind, _ in COLUMNS[table]), *carried])


_FOLDER_COLUMNS = frozenset({"date", "file", "key", "partition", "fan_out"})
"""What readers of hive-style folders call their columns; equal names in the files would clash."""

RESERVED_COLUMNS = RESULT_COLUMNS.union(OUR_COLUMNS, _FOLDER_COLUMNS)


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
