"""
Arrow types of prompt tables: which hold the same, which our tables can keep, and what two files of
one table have in common.

Writers choose between types that mean the same to every user: `string` and `large_string`, int32
and int64, microseconds and nanoseconds. Values are never changed to make types fit: a cast that
would lose anything is an error.
"""

from __future__ import annotations

from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types as pat

from mynth_dagster.tables.arrow_errors import FOREIGN_ERRORS

_UNITS = ("s", "ms", "us")  # nanoseconds end in the year 2262
_DECIMAL_DIGITS_MAX = 38
_INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without dictionary encoding or an extension's name."""
    while isinstance(kind, pa.BaseExtensionType) or pat.is_dictionary(kind):
        kind = kind.value_type if pat.is_dictionary(kind) else kind.storage_type
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings, however they are stored."""
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or _is_view(kind, "string"))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes of any length, which some writers make of text."""
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind) or _is_view(kind, "binary"))


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, of a fixed size or not."""
    return bool(pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind))


def kept_type(kind: pa.DataType) -> pa.DataType:
    """The type in which our tables keep a column; views become what every reader knows."""
    if _is_view(kind, "string") or _is_view(kind, "binary"):
        return pa.string() if is_text(kind) else pa.binary()
    if pat.is_dictionary(kind):
        return pa.dictionary(kind.index_type, kept_type(kind.value_type), kind.ordered)
    if pat.is_struct(kind):
        return pa.struct([part.with_type(kept_type(part.type)) for part in kind])
    if pat.is_map(kind):
        return pa.map_(kept_type(kind.key_type), kept_type(kind.item_type), kind.keys_sorted)
    if pat.is_list(kind) or pat.is_large_list(kind):
        item = kind.value_field.with_type(kept_type(kind.value_type))
        return pa.list_(item) if pat.is_list(kind) else pa.large_list(item)
    return kind


def why_not_kept(kind: pa.DataType) -> str | None:
    """Why our tables cannot keep a column of a type; None where they can."""
    try:
        empty = pa.table([pa.nulls(1, kind)], ["x"]).take([0])
        pq.write_table(empty, BytesIO())
    except FOREIGN_ERRORS:
        return f"has type {kind}, which Parquet cannot keep: convert it, or leave it out"
    return None


def common_type(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both, None where there is none."""
    if ours == theirs or pat.is_null(theirs):
        return ours
    if pat.is_null(ours):
        return theirs
    if pat.is_dictionary(ours) or pat.is_dictionary(theirs):
        return common_type(plain_type(ours), plain_type(theirs))
    for rule in (_common_text, _common_number, _common_time, _common_nested):
        found = rule(ours, theirs)
        if found is not None:
            return found
    return None


def says_nothing(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column has no value at all: null, or what pandas makes of it, NaN."""
    if column.null_count == len(column):
        return True
    if not pat.is_floating(column.type):
        return False
    return bool(pc.all(pc.is_null(column, nan_is_null=True)).as_py())


def converted(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """
    A column in a type of the whole table.

    Raises:
        ArrowInvalid: A value would not be the same.
    """
    if column.type == kind:
        return column
    is_odd = pat.is_null(kind) or common_type(column.type, kind) is None
    if (is_odd or not pat.is_floating(kind)) and says_nothing(column):
        return pa.nulls(len(column), kind)
    if is_odd:
        raise pa.ArrowInvalid(f"{column.type} is no {kind}")
    if isinstance(column, pa.DictionaryArray) and not pat.is_dictionary(kind):
        column = column.dictionary_decode()
    return column.cast(kind)


def _is_view(kind: pa.DataType, of: str) -> bool:
    is_view = getattr(pat, f"is_{of}_view", None)  # newer than the oldest Arrow that we take
    return bool(is_view and is_view(kind))


def _common_text(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    if is_text(ours) and is_text(theirs):
        return pa.string()
    return pa.binary() if is_bytes(ours) and is_bytes(theirs) else None


def _common_number(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    both = (ours, theirs)
    if all(map(pat.is_integer, both)):
        return _common_integer(ours, theirs)
    if any(map(pat.is_decimal, both)):
        return _common_decimal(ours, theirs)
    if all(pat.is_floating(kind) or pat.is_integer(kind) for kind in both):
        small = all(pat.is_floating(kind) and kind.bit_width <= 32 for kind in both)
        return pa.float32() if small else pa.float64()
    return None


def _common_integer(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType:
    wide, narrow = sorted((ours, theirs), key=lambda kind: kind.bit_width, reverse=True)
    if pat.is_signed_integer(wide) == pat.is_signed_integer(narrow):
        return wide
    is_roomy = pat.is_signed_integer(wide) and wide.bit_width > narrow.bit_width
    return wide if is_roomy else pa.int64()


def _common_decimal(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    digits, scale = 0, 0
    for kind in (ours, theirs):
        if pat.is_integer(kind):
            digits = max(digits, _INTEGER_DIGITS[kind.bit_width])
        elif pat.is_decimal(kind):
            digits, scale = max(digits, kind.precision - kind.scale), max(scale, kind.scale)
        else:
            return None
    return pa.decimal128(digits + scale, scale) if digits + scale <= _DECIMAL_DIGITS_MAX else None


def _common_time(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    both = (ours, theirs)
    if all(map(pat.is_date, both)):
        return pa.date32()
    if all(map(pat.is_timestamp, both)) and (ours.tz is None) == (theirs.tz is None):
        zone = ours.tz if ours.tz == theirs.tz else "UTC"
        return pa.timestamp(_common_unit(ours, theirs), zone)
    if all(map(pat.is_duration, both)):
        return pa.duration(_common_unit(ours, theirs))
    return pa.time64("us") if all(map(pat.is_time, both)) else None


def _common_unit(ours: pa.DataType, theirs: pa.DataType) -> str:
    """The finer of two units, but not finer than the years of everybody's tables allow."""
    return max(
        (kind.unit if kind.unit in _UNITS else "us" for kind in (ours, theirs)), key=_UNITS.index
    )


def _common_nested(ours: pa.DataType, theirs: pa.DataType) -> pa.DataType | None:
    if is_list(ours) and is_list(theirs):
        item = common_type(ours.value_type, theirs.value_type)
        return None if item is None else pa.list_(item)
    if pat.is_map(ours) and pat.is_map(theirs):
        key = common_type(ours.key_type, theirs.key_type)
        item = common_type(ours.item_type, theirs.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if not (pat.is_struct(ours) and pat.is_struct(theirs)):
        return None
    parts = {part.name: part.type for part in ours}
    for part in theirs:
        kind = common_type(parts.get(part.name, pa.null()), part.type)
        if kind is None:
            return None
        parts[part.name] = kind
    return pa.struct(list(parts.items()))
