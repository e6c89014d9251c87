"""
A batch of source rows in our own types, before any rule is applied.

A cell that cannot be read at all (bytes that are no UTF-8, metadata that is no JSON), or that the
ledger could not keep (NUL characters, a name of thousands of bytes), becomes null here and is
remembered, so that its row, and no other, is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pat

from mynth_dagster.errors import cut
from mynth_dagster.limits import PROMPT_ID_MAX_BYTES
from mynth_dagster.tables.arrow_types import is_text
from mynth_dagster.tables.columns import FoundColumns
from mynth_dagster.tables.metadata_json import has_nul, metadata_reader
from mynth_dagster.tables.prompt_schema import INPUTS_TYPE, REQUEST_TYPES

_UUID_BYTES = 16
_DIGITS_MAX = 76  # as the longest decimals have
_FLOAT_EXACT_MAX = 2**53

OFF = "off"
"""Said by a row that wants no enhancement where the batch's default does."""


@dataclass(frozen=True)
class Unreadable:
    """Why a cell cannot be read."""

    code: str
    message: str


@dataclass
class SourceRows:
    """
    One batch of source rows.

    Args:
        n_rows: How many.
        columns: Our column name -> values, for the columns that the source has.
        unreadable: `(row in this batch, our column)` -> why the cell cannot be read.
    """

    n_rows: int
    columns: dict[str, pa.Array] = field(default_factory=dict)
    unreadable: dict[tuple[int, str], Unreadable] = field(default_factory=dict)


def is_blank(texts: pa.Array) -> pa.Array:
    """Which texts have no character that can be seen; null stays null."""
    return pc.invert(pc.match_substring_regex(texts, _VISIBLE))


def is_blank_text(text: str) -> bool:
    """The same of one text."""
    return not any(map(_is_visible, text))


def _is_visible(char: str) -> bool:
    category = unicodedata.category(char)
    is_hidden = category[0] in "ZM" or category in ("Cc", "Cf")
    return not is_hidden and char not in _INVISIBLE_LETTERS


_INVISIBLE_LETTERS = "\u2800\u3164\u115f\u1160\uffa0"
"""Blank Braille and the fillers of Hangul: letters and symbols by name, and nothing to be seen."""
_VISIBLE = rf"[^\p{{Z}}\p{{M}}\p{{Cc}}\p{{Cf}}{_INVISIBLE_LETTERS}]"


def normalise(batch: pa.RecordBatch, found: FoundColumns) -> SourceRows:
    """Our columns of a batch in our types; blank text in an optional column says nothing."""
    rows = SourceRows(batch.num_rows)
    for name, theirs in found.ours.items():
        ours = "enhance" if name == "magic_prompt" else name
        column = _plain_array(batch.column(theirs))
        read = _READERS.get(ours, _read_text)
        rows.columns[ours] = read(column, ours, rows)
    return rows


def _plain_array(column: pa.Array) -> pa.Array:
    """The values themselves, without dictionary encoding or an extension's name."""
    while isinstance(column, (pa.ExtensionArray, pa.DictionaryArray)):
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        else:
            column = column.dictionary_decode()
    return column


def _read_prompt(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    return _valid_text(column, name, rows)


def _read_text(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    text = _valid_text(column, name, rows)
    blank = is_blank(text)
    if not pc.any(blank).as_py():
        return text
    return pc.if_else(blank, pa.scalar(None, pa.string()), text)


def _read_id(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    if pat.is_integer(column.type):
        return column.cast(pa.string())
    if is_text(column.type) or pat.is_null(column.type):
        ids = _read_text(column, name, rows)
    else:
        ids = pa.array(_python_values(column, name, rows, _as_name), pa.string())
    if name != "prompt_id":
        return ids
    too_long = pc.greater(pc.binary_length(ids), PROMPT_ID_MAX_BYTES).fill_null(fill_value=False)
    for row in pc.indices_nonzero(too_long).to_pylist():
        text = ids[row].as_py()
        message = (
            f"{cut(text, 40)!r} has {len(text.encode())} bytes, up to {PROMPT_ID_MAX_BYTES} fit"
        )
        rows.unreadable[row, name] = Unreadable("prompt_id_too_long", message)
    return _without(ids, too_long)


def _read_integer(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    """Numbers too large for the column become unreadable cells of their rows."""
    kind = REQUEST_TYPES[name]
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if not pat.is_integer(column.type):
        return pa.array(_python_values(column, name, rows, _whole_number_within(kind)), kind)
    if not _is_wider(column.type, kind):
        return column.cast(kind)
    limit = 2 ** (kind.bit_width - 1) - 1
    lowest = pa.scalar(0 if pat.is_unsigned_integer(column.type) else -limit).cast(column.type)
    highest = pa.scalar(limit).cast(column.type)
    outside = pc.or_(pc.less(column, lowest), pc.greater(column, highest)).fill_null(
        fill_value=False
    )
    for row in pc.indices_nonzero(outside).to_pylist():
        number = column[row].as_py()
        rows.unreadable[row, name] = Unreadable(f"invalid_{name}", f"{number} is out of range")
    return pc.if_else(outside, pa.scalar(None, column.type), column).cast(kind)


def _as_name(value: bytes | float | Decimal) -> str | None:
    """What stands for a row's name in engines that write it otherwise than as text."""
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == _UUID_BYTES else value.hex()
    number = _whole_number(value)
    return None if number is None else str(number)


def _whole_number_within(kind: pa.DataType) -> Callable[[Any], int | None]:
    limit = 2 ** (kind.bit_width - 1) - 1

    def read(value: str | float | Decimal) -> int | None:
        number = _whole_number(value)
        if number is not None and abs(number) > limit:
            raise ValueError(f"{number} is out of range")
        return number

    return read


def _whole_number(value: str | float | Decimal) -> int | None:
    """A whole number however it is written; NaN and blank text are none."""
    text = str(value).strip()
    if not text or text.lower() == "nan":
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{cut(text, 40)!r} is no whole number") from None
    if not number.is_finite() or number.adjusted() > _DIGITS_MAX or number != int(number):
        raise ValueError(f"{cut(text, 40)} is no whole number")
    if isinstance(value, float) and abs(number) > _FLOAT_EXACT_MAX:
        raise ValueError(f"{cut(text, 40)} is more than floats can tell apart: use integers")
    return int(number)


def _is_wider(theirs: pa.DataType, ours: pa.DataType) -> bool:
    """Whether a type has numbers that the other has not."""
    return bool(theirs.bit_width + pat.is_unsigned_integer(theirs) > ours.bit_width)


def _read_enhance(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    if pat.is_boolean(column.type):
        return pc.if_else(column, "magic", OFF)
    words = _read_text(column, name, rows)
    lower = pc.utf8_lower(words)
    words = pc.if_else(pc.equal(lower, "true"), "magic", words)
    return pc.if_else(pc.equal(lower, "false"), OFF, words)


def _read_inputs(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    values = _python_values(column, name, rows, _as_input_list)
    return pa.array(values, INPUTS_TYPE)


def _read_metadata(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    if is_text(column.type):
        column = _read_text(column, name, rows)
    return pa.array(
        _python_values(column, name, rows, _metadata_without_nul(column.type)), pa.string()
    )


def _as_input_list(value: list[Any]) -> list[dict[str, str | None]] | None:
    """One row's inputs in our shape; an empty list says nothing."""
    items = [item if isinstance(item, dict) else {"url": item} for item in value]
    for item in items:
        _require_no_nul((item["url"] or "") + (item.get("role") or ""))
    return [
        {"url": item["url"], "role": item.get("role") or None, "identity": None} for item in items
    ] or None


def _python_values(
    column: pa.Array, name: str, rows: SourceRows, read: Callable[[Any], Any]
) -> list[Any]:
    """Each value as ``read`` has it; a cell that cannot be read becomes None."""
    return [_python_value(scalar, (row, name), rows, read) for row, scalar in enumerate(column)]


def _python_value(
    scalar: pa.Scalar, place: tuple[int, str], rows: SourceRows, read: Callable[[Any], Any]
) -> Any:
    try:
        value = scalar.as_py()
        return None if value is None else read(value)
    except UnicodeDecodeError:
        rows.unreadable[place] = _NOT_UTF8
    except _NulError:
        rows.unreadable[place] = _HAS_NUL
    except ValueError as exc:
        rows.unreadable[place] = Unreadable(f"invalid_{place[1]}", str(exc))
    return None


_NOT_UTF8 = Unreadable("invalid_text", "the text is not valid UTF-8")
_HAS_NUL = Unreadable(
    "invalid_text", "the text has a NUL character (U+0000), which no database keeps"
)


class _NulError(ValueError):
    """A text has a NUL character."""


def _require_no_nul(text: str) -> None:
    if "\0" in text:
        raise _NulError


def _metadata_without_nul(kind: pa.DataType) -> Callable[[Any], str]:
    read = metadata_reader(kind)

    def read_value(value: Any) -> str:
        text = read(value)
        if has_nul(text):
            raise _NulError
        return text

    return read_value


def _valid_text(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    """Strings; what is no UTF-8, or has a NUL, becomes null and is remembered."""
    if pat.is_null(column.type):
        return column.cast(pa.string())
    try:
        column.validate(full=True)
        texts = column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array(_python_values(column, name, rows, str), pa.string())
    has_nul = pc.match_substring(texts, "\0").fill_null(fill_value=False)
    for row in pc.indices_nonzero(has_nul).to_pylist():
        rows.unreadable[row, name] = _HAS_NUL
    return _without(texts, has_nul)


def unreadable_place(column: pa.Array) -> int | None:
    """The first row of a column whose value, or a part of it, cannot be read."""
    return next((row for row, scalar in enumerate(column) if not _is_readable(scalar)), None)


def _is_readable(scalar: pa.Scalar) -> bool:
    try:
        scalar.as_py()
    except ValueError:
        return False
    return True


def _without(texts: pa.Array, unreadable: pa.Array) -> pa.Array:
    """The texts, null where they cannot be read."""
    if not unreadable.true_count:
        return texts
    return pc.if_else(unreadable, pa.scalar(None, pa.string()), texts)


_READERS: dict[str, Callable[[pa.Array, str, SourceRows], pa.Array]] = {
    "prompt": _read_prompt,
    "prompt_id": _read_id,
    "input_key": _read_id,
    "count": _read_integer,
    "output_quality": _read_integer,
    "enhance": _read_enhance,
    "inputs": _read_inputs,
    "metadata": _read_metadata,
}
