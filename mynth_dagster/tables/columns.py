"""Which columns of a source mean what to us, and whether their types can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pat

from mynth_dagster.errors import TableError, TableProblem, cut
from mynth_dagster.limits import PROMPT_ID_MAX_BYTES
from mynth_dagster.models.batch_settings import PROMPT_COLUMNS
from mynth_dagster.tables.parquet import is_list, is_text, plain_type, why_not_kept
from mynth_dagster.tables.rules import HAS_NUL, RowProblem, has_nul, is_blank, nearest
from mynth_dagster.tables.schemas import INPUTS_TYPE, REQUEST_TYPES, carried_names
from mynth_dagster.tables.source import PromptSource


@dataclass(frozen=True)
class FoundColumns:
    """
    The columns of one source.

    Args:
        ours: Our name -> the source's.
        carried: The source's other columns -> what they are called in our tables.
        carried_schema: These columns under their new names.
        notes: What users should know of it, in words.
    """

    ours: Mapping[str, str]
    carried: Mapping[str, str]
    carried_schema: pa.Schema
    notes: tuple[str, ...] = ()

    @property
    def renamed(self) -> dict[str, str]:
        """The carried columns that had to change their name."""
        return {theirs: new for theirs, new in self.carried.items() if theirs != new}


def find_columns(source: PromptSource, mapping: Mapping[str, str | None]) -> FoundColumns:
    """
    Find our columns in a source's; an optional one without any value is as one that is not there.

    Args:
        mapping: Our name -> the source's, None where the column of our name is the user's own.

    Raises:
        TableError: `prompt` or a mapped column is not there, one name is given to two columns,
            or a column's type cannot mean what its name says.
    """
    schema, location = source.schema, source.name
    ours = _match_names(schema, mapping, location)
    used = set(ours.values())
    complaints = {name: _type_complaint(name, schema.field(ours[name]).type) for name in ours}
    silent = {
        name
        for name, complaint in complaints.items()
        if name != "prompt"
        and (complaint or name in ("prompt_id", "input_key"))
        and not source.has_values(ours[name])
    }
    carried = carried_names(name for name in schema.names if name not in used)
    fields = [schema.field(theirs).with_name(new) for theirs, new in carried.items()]
    of_ours = [(ours[name], why) for name, why in complaints.items() if name not in silent]
    of_carried = [(column.name, why_not_kept(column.type)) for column in fields]
    for complained in (of_ours, of_carried):
        problems = [TableProblem(why, column=name) for name, why in complained if why]
        if problems:
            raise TableError(location, problems)
    ours = {name: theirs for name, theirs in ours.items() if name not in silent}
    notes = []
    for theirs in carried:  # those called as ours but for their case, lest they are taken for ours
        name = theirs.lower()
        if name in PROMPT_COLUMNS and name != theirs and name not in mapping:
            use = "" if name in ours else f"; to use it, map {name} to {theirs}"
            notes.append(f"column {theirs!r} is carried and not used as {name!r}{use}")
    return FoundColumns(ours, carried, pa.schema(fields), tuple(notes))


def _match_names(
    schema: pa.Schema, mapping: Mapping[str, str | None], location: str
) -> dict[str, str]:
    """Our name -> the source's, for the columns that are there."""
    names = set(schema.names)
    ours = {name: name for name in PROMPT_COLUMNS if name in names - set(mapping.values())}
    ours = {name: theirs for name, theirs in {**ours, **mapping}.items() if theirs is not None}
    ours = {name: ours[name] for name in PROMPT_COLUMNS if name in ours}
    for name, theirs in {"prompt": "prompt", **ours}.items():
        if theirs not in names:
            there = ", ".join(map(repr, schema.names)) or "none"
            similar = nearest(theirs, tuple(schema.names))
            guess = f"; did you mean {similar!r}? (columns: {{{name}: {similar}}})"
            reason = f"there is no such column{guess if similar else ''}; the table has {there}"
            raise TableError(location, [TableProblem(reason, column=theirs)])
    if "enhance" in ours and "magic_prompt" in ours:
        reason = "says the same as 'magic_prompt': keep one of the two"
        raise TableError(location, [TableProblem(reason, column=ours["enhance"])])
    return ours


def _type_complaint(name: str, declared: pa.DataType) -> str | None:
    kind = plain_type(declared)
    accepts, allowed = _ACCEPTED.get(name, (is_text, "string"))
    if pat.is_null(kind) or accepts(kind):
        return None
    hint = " (put the single URL into a list)" if name == "inputs" and is_text(kind) else ""
    way_out = f"; if it is a column of your own, map {name} to null" if name != "prompt" else ""
    return f"has type {declared}, {name} needs {allowed}{hint}{way_out}"


def _is_number(kind: pa.DataType) -> bool:
    """Whole numbers as engines write them; whether they are whole is told row by row."""
    is_decimal, is_float = pat.is_decimal(kind), pat.is_floating(kind)
    return bool(is_text(kind) or pat.is_integer(kind) or is_decimal or is_float)


def _is_name(kind: pa.DataType) -> bool:
    return _is_number(kind) or bool(pat.is_fixed_size_binary(kind))


def _is_text_or_boolean(kind: pa.DataType) -> bool:
    return is_text(kind) or pat.is_boolean(kind)


def _is_inputs(kind: pa.DataType) -> bool:
    if not is_list(kind):
        return False
    item = plain_type(kind.value_type)
    if not pat.is_struct(item):
        return is_text(item) or bool(pat.is_null(item))
    parts = {part.name: plain_type(part.type) for part in item}
    known = set(parts) <= {"url", "role"} and "url" in parts
    return known and all(is_text(part) or pat.is_null(part) for part in parts.values())


def _is_metadata(kind: pa.DataType) -> bool:
    if pat.is_map(kind):
        return is_text(plain_type(kind.key_type))
    return is_text(kind) or bool(pat.is_struct(kind))


_ACCEPTED: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "prompt_id": (_is_name, "string, integer or UUID"),
    "input_key": (_is_name, "string, integer or UUID"),
    "count": (_is_number, "integer"),
    "output_quality": (_is_number, "integer"),
    "inputs": (_is_inputs, "list of string, or list of struct with url and role"),
    "enhance": (_is_text_or_boolean, "string ('magic', 'native' or 'off') or boolean"),
    "magic_prompt": (_is_text_or_boolean, "boolean"),
    "metadata": (_is_metadata, "struct, map with string keys, or JSON string"),
}


# A batch of source rows in our own types, before any rule is applied.
#
# A cell that cannot be read at all (bytes that are no UTF-8, metadata that is no JSON), or that the
# ledger could not keep (NUL characters, a name of thousands of bytes), becomes null here and is
# remembered, so that its row, and no other, is refused.


OFF = "off"
"""What a row says that wants no enhancement where the batch's default does."""

_UUID_BYTES = 16
_DIGITS_MAX = 76  # as the longest decimals have
_FLOAT_EXACT_MAX = 2**53
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # a backslash before it may be escaped itself

READING_CODES = frozenset(
    {
        *("invalid_text", "prompt_id_too_long"),
        *(f"invalid_{name}" for name in ("prompt_id", "input_key", "count", "output_quality")),
        *("invalid_inputs", "invalid_metadata"),
    }
)
"""Codes of cells that cannot be read; those of cells that can are in `RULES`."""


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
    unreadable: dict[tuple[int, str], RowProblem] = field(default_factory=dict)

    def refuse(self, row: int, column: str, code: str, message: str) -> None:
        """Remember why a cell cannot be read."""
        self.unreadable[row, column] = RowProblem(code, column, message)


def normalise(batch: pa.RecordBatch, found: FoundColumns) -> SourceRows:
    """Our columns of a batch in our types; blank text in an optional column says nothing."""
    rows = SourceRows(batch.num_rows)
    for name, theirs in found.ours.items():
        ours, column = "enhance" if name == "magic_prompt" else name, batch.column(theirs)
        while isinstance(column, (pa.ExtensionArray, pa.DictionaryArray)):
            is_extension = isinstance(column, pa.ExtensionArray)
            column = column.storage if is_extension else column.dictionary_decode()
        rows.columns[ours] = _READERS.get(ours, _read_text)(column, ours, rows)
    return rows


def unreadable_place(column: pa.Array) -> int | None:
    """The first row of a column whose value, or a part of it, cannot be read."""
    for row, scalar in enumerate(column):
        try:
            scalar.as_py()
        except ValueError:  # noqa: PERF203 - each value fails alone
            return row
    return None


def _read_valid_text(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    """Strings; what is no UTF-8, or has a NUL, becomes null and is remembered."""
    if pat.is_null(column.type):
        return column.cast(pa.string())
    try:
        column.validate(full=True)
        texts = column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = _each_read(column, name, rows, str, pa.string())
    return _without(has_nul(texts), texts, name, rows, "invalid_text", lambda _: HAS_NUL)


def _read_text(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    text = _read_valid_text(column, name, rows)
    blank = is_blank(text)
    return pc.if_else(blank, pa.scalar(None, pa.string()), text) if blank.true_count else text


def _read_id(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    if pat.is_integer(column.type):
        return column.cast(pa.string())
    if is_text(column.type) or pat.is_null(column.type):
        ids = _read_text(column, name, rows)
    else:
        ids = _each_read(column, name, rows, _as_name, pa.string())
    if name != "prompt_id":
        return ids

    def message(text: str) -> str:
        n_bytes = len(text.encode())
        return f"{cut(text, 40)!r} has {n_bytes} bytes, up to {PROMPT_ID_MAX_BYTES} fit"

    too_long = pc.greater(pc.binary_length(ids), PROMPT_ID_MAX_BYTES)
    return _without(too_long, ids, name, rows, "prompt_id_too_long", message)


def _read_integer(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    """Numbers too large for the column become unreadable cells of their rows."""
    kind = REQUEST_TYPES[name]
    limit = 2 ** (kind.bit_width - 1) - 1

    def read(value: str | float | Decimal) -> int | None:
        number = _whole_number(value)
        if number is not None and abs(number) > limit:
            raise ValueError(f"{number} is out of range")
        return number

    is_unsigned = pat.is_unsigned_integer(column.type)
    if not pat.is_integer(column.type):
        return _each_read(column, name, rows, read, kind)
    if column.type.bit_width + is_unsigned > kind.bit_width:
        lowest = pa.scalar(0 if is_unsigned else -limit).cast(column.type)
        highest = pa.scalar(limit).cast(column.type)
        outside = pc.or_(pc.less(column, lowest), pc.greater(column, highest))
        message = "{} is out of range".format
        column = _without(outside, column, name, rows, f"invalid_{name}", message)
    return column.cast(kind)


def _read_enhance(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    if pat.is_boolean(column.type):
        return pc.if_else(column, "magic", OFF)
    words = _read_text(column, name, rows)
    lower = pc.utf8_lower(words)
    words = pc.if_else(pc.equal(lower, "true"), "magic", words)
    return pc.if_else(pc.equal(lower, "false"), OFF, words)


def _read_inputs(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    return _each_read(column, name, rows, _as_input_list, INPUTS_TYPE)


def _read_metadata(column: pa.Array, name: str, rows: SourceRows) -> pa.Array:
    kind = column.type
    if is_text(kind):
        texts = _read_text(column, name, rows)
        return _each_read(texts, name, rows, lambda text: _compact_json(_parsed(text)), pa.string())
    return _each_read(
        column, name, rows, lambda value: _compact_json(_plain(value, kind)), pa.string()
    )


_READERS: dict[str, Callable[[pa.Array, str, SourceRows], pa.Array]] = {
    "prompt": _read_valid_text,
    "prompt_id": _read_id,
    "input_key": _read_id,
    "count": _read_integer,
    "output_quality": _read_integer,
    "enhance": _read_enhance,
    "inputs": _read_inputs,
    "metadata": _read_metadata,
}


class _NulError(ValueError):
    """A text has a NUL character."""


def _each_read(
    column: pa.Array, name: str, rows: SourceRows, read: Callable[[Any], Any], kind: pa.DataType
) -> pa.Array:
    """Each value as ``read`` has it; a cell that cannot be read becomes null."""
    values: list[Any] = []
    for row, scalar in enumerate(column):
        value = None
        try:
            raw = scalar.as_py()
            value = None if raw is None else read(raw)
        except UnicodeDecodeError:
            rows.refuse(row, name, "invalid_text", "the text is not valid UTF-8")
        except _NulError:
            rows.refuse(row, name, "invalid_text", HAS_NUL)
        except ValueError as exc:
            rows.refuse(row, name, f"invalid_{name}", str(exc))
        values.append(value)
    return pa.array(values, kind)


def _without(
    bad: pa.Array,
    column: pa.Array,
    name: str,
    rows: SourceRows,
    code: str,
    message: Callable[[Any], str],
) -> pa.Array:
    """The column, null and remembered where it is bad."""
    if not bad.true_count:
        return column
    for row in pc.indices_nonzero(bad).to_pylist():
        rows.refuse(row, name, code, message(column[row].as_py()))
    return pc.if_else(bad.fill_null(fill_value=False), pa.scalar(None, column.type), column)


def _as_name(value: bytes | float | Decimal) -> str | None:
    """What stands for a row's name in engines that write it otherwise than as text."""
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == _UUID_BYTES else value.hex()
    number = _whole_number(value)
    return None if number is None else str(number)


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


def _as_input_list(value: list[Any]) -> list[dict[str, str | None]] | None:
    """One row's inputs in our shape; an empty list says nothing."""
    items = [item if isinstance(item, dict) else {"url": item} for item in value]
    if any("\0" in (item["url"] or "") + (item.get("role") or "") for item in items):
        raise _NulError
    return [
        {"url": item["url"], "role": item.get("role") or None, "identity": None} for item in items
    ] or None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"it is not JSON ({exc.msg} at character {exc.pos})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is JSON, but not an object")  # noqa: TRY004 - of the cell
    return value


def _compact_json(value: object) -> str:
    try:
        text = _ENCODER.encode(value)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, ValueError) as exc:
        raise ValueError(f"it cannot be written as JSON ({exc})") from None
    if _NUL_IN_JSON.search(text):
        raise _NulError
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
