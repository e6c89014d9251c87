"""A row's metadata, however its column spells it, as one compact JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import types as pat

from mynth_dagster.limits import INTENT_TAG_KEY, INTENT_TAG_MAX_BYTES
from mynth_dagster.tables.arrow_types import is_text, plain_type

_TAG_OVERHEAD = len(f',"{INTENT_TAG_KEY}":""') + INTENT_TAG_MAX_BYTES


def metadata_reader(kind: pa.DataType) -> Callable[[Any], str]:
    """
    What turns one non-null value of a metadata column into compact JSON.

    The returned function raises ValueError, with the reason in words,
    for what is not a JSON object.
    """
    if is_text(plain_type(kind)):
        return compact_json
    return lambda value: _dumped(_plain(value, kind))


def compact_json(text: str) -> str:
    """
    A JSON object in its shortest spelling.

    Raises:
        ValueError: Not JSON, or not an object.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise ValueError(f"it is not JSON ({exc.msg} at character {exc.pos})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it is a JSON {_JSON_WORDS[type(value)]}, not an object")  # noqa: TRY004
    return _dumped(value)


def n_bytes_with_tag(compact: str) -> int:
    """UTF-8 bytes of the object once our own key is added, at its longest."""
    comma_saved = 1 if compact == "{}" else 0
    return len(compact.encode("utf-8")) + _TAG_OVERHEAD - comma_saved


def has_reserved_key(compact: str) -> bool:
    """Whether the object brings the one key that we keep for ourselves."""
    return f'"{INTENT_TAG_KEY}"' in compact and INTENT_TAG_KEY in json.loads(compact)


def has_nul(compact: str) -> bool:
    """Whether a text of the object, or a key, has a NUL character."""
    return _NUL.search(compact) is not None


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""NUL as JSON escapes it; a backslash before it may be escaped itself."""

_JSON_WORDS = {
    list: "list",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON value")


def _dumped(value: object) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, ValueError) as exc:
        raise ValueError(f"it cannot be written as JSON ({exc})") from None
    return text


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value from Arrow as JSON has it: maps become objects, times and decimals text."""
    kind = plain_type(kind)
    if value is None:
        return None
    if pat.is_map(kind):
        return {key: _plain(item, kind.item_type) for key, item in value}
    if pat.is_struct(kind):
        return {part.name: _plain(value[part.name], part.type) for part in kind}
    if isinstance(value, list):
        return [_plain(item, kind.value_type) for item in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
