"""
Tolerant reading of single values: what is not there, or is something else, is missing.

Nothing here guesses, and nothing raises for what a server sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from mynth_dagster.clock import us_from_utc
from mynth_dagster.errors import UnexpectedPayloadError
from mynth_dagster.limits import COST_MAX_USD
from mynth_dagster.models.money import units_from_usd

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}")
_COST_MAX_UNITS = units_from_usd(COST_MAX_USD)
_PIXELS = re.compile(r"(\d{1,6})x(\d{1,6})")
_HAS_ODD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def parse_json(raw: bytes) -> Any:
    """
    The parsed body, or None for anything that is not strict UTF-8 JSON.

    An object that names a field twice is none: readers differ in which of the two counts.

    Escaped characters that no database keeps (NUL, lone surrogates) become U+FFFD:
    a text must not stand in the way of the task id beside it.
    """
    try:
        body = _STRICT.decode(raw.decode("utf-8"))
        return _storable(body) if _HAS_ODD_ESCAPE.search(raw) else body
    except (ValueError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(entry) for key, entry in value.items()}
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _no_doubled_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


_STRICT = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_no_doubled_names
)


def unwrapped(body: Any) -> Any:
    """The payload, in an envelope or not."""
    if isinstance(body, dict) and "data" in body:
        return body["data"]
    return body


def first(holder: Any, *names: str) -> Any:
    """The first of these names that holds something; None where none does."""
    if isinstance(holder, dict):
        for name in names:
            if holder.get(name) is not None:
                return holder[name]
    return None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def entries_of(value: Any) -> list[Any]:
    """A list, or an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str | None:
    """A text that says something."""
    return value if isinstance(value, str) and value else None


def task_id_of(value: Any) -> str | None:
    """
    A task's id; None for what cannot be one.

    Ids are opaque. They become part of addresses, so what could lead elsewhere is no id.
    """
    is_id = isinstance(value, str) and _TASK_ID.fullmatch(value) is not None
    return value if is_id else None


def cost_of(value: Any) -> int | None:
    """
    What something costs, in units of 10⁻⁸ USD; None for what is no price of one request.

    A negative amount, or an absurd one, is unknown: what is held for the request stays held.
    """
    units = money_of(value)
    return units if units is not None and 0 <= units <= _COST_MAX_UNITS else None


def money_of(value: Any) -> int | None:
    """An amount of USD in units of 10⁻⁸; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    return _units_of(value)


@lru_cache(maxsize=1024)
def _units_of(amount: str | int | Decimal) -> int | None:
    """Kept: the answers of a whole table name a few prices."""
    try:
        return units_from_usd(amount)
    except ValueError:
        return None


def time_of(value: Any) -> int | None:
    """A moment in UTC microseconds; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return us_from_utc(moment)
    except ValueError:
        return None


def pixels_of(size: Any) -> tuple[int | None, int | None]:
    """Width and height, of `"1024x768"` or of an object."""
    if isinstance(size, Mapping):
        width, height = size.get("width"), size.get("height")
        both = isinstance(width, int) and isinstance(height, int)
        return (width, height) if both else (None, None)
    match = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    return (int(match[1]), int(match[2])) if match else (None, None)


def plain(value: Any) -> Any:
    """The user's own JSON, with floats where money would be decimal."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def missing(operation: str, path: str, body: Any, revision: str) -> UnexpectedPayloadError:
    """What is indispensable is not there; the error shows the shape, never a value."""
    return UnexpectedPayloadError(operation, revision=revision, path=path, excerpt=_shape(body))


def _shape(body: Any, depth: int = 2) -> str:
    """The keys and types of a body, never its values: an answer may hold tokens."""
    if isinstance(body, Mapping):
        if depth == 0:
            return "{…}"
        shown = ", ".join(f"{key}: {_shape(body[key], depth - 1)}" for key in list(body)[:8])
        return f"{{{shown}}}"
    if isinstance(body, list):
        return f"[{len(body)} entries]"
    return type(body).__name__
