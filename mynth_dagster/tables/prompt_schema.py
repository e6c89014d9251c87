"""
The normalised prompt table: one row per request, checked, with the batch's defaults filled in.

`row_index` is the 0-based row of the source that a request comes from.
The three `problem_` columns are null where a row is fine; a row with a problem is never asked for.
`request_hash` is null where a row does not say what it asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa

from mynth_dagster.tables.result_schemas import RESULT_COLUMNS

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
