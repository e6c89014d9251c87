"""
The columns of the result tables.

Money is `decimal128(18, 8)` in USD, times are UTC microseconds.
All three tables are ordered by the rows of the prompt table.
"""

from __future__ import annotations

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
