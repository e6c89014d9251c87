"""Which columns of a source mean what to us, and whether their types can."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pat

from mynth_dagster.errors import TableError, TableProblem, cut
from mynth_dagster.limits import INTENT_TAG_KEY, INTENT_TAG_MAX_BYTES, PROMPT_ID_MAX_BYTES
from mynth_dagster.models.batch import PROMPT_COLUMNS
from mynth_dagster.tables.parquet import is_list, is_text, plain_type, why_not_kept
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
    _require_distinct(schema, location)
    ours = _match_names(schema, mapping, location)
    used = set(ours.values())
    complaints = {name: _type_complaint(name, schema.field(ours[name]).type) for name in ours}
    silent = {
        name
        for name, complaint in complaints.items()
        if name != "prompt"
        and (complaint or name in _NAMES_OF_ROWS)
        and not source.has_values(ours[name])
    }
    problems = [
        TableProblem(complaint, column=ours[name])
        for name, complaint in complaints.items()
        if complaint and name not in silent
    ]
    if problems:
        raise TableError(location, problems)
    ours = {name: theirs for name, theirs in ours.items() if name not in silent}
    carried = carried_names(name for name in schema.names if name not in used)
    fields = [schema.field(theirs).with_name(new) for theirs, new in carried.items()]
    lost = [(column.name, why_not_kept(column.type)) for column in fields]
    if any(why for _, why in lost):
        raise TableError(location, [TableProblem(why, column=name) for name, why in lost if why])
    notes = _notes_of_case(carried, ours, mapping)
    return FoundColumns(ours, carried, pa.schema(fields), notes)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The most similar of some names, regardless of case, or None."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def _notes_of_case(
    carried: Mapping[str, str], ours: Mapping[str, str], mapping: Mapping[str, str | None]
) -> tuple[str, ...]:
    """Columns that are called as ours but for their case, so that nobody takes them for ours."""
    notes = []
    for theirs in carried:
        name = theirs.lower()
        if name in PROMPT_COLUMNS and name != theirs and name not in mapping:
            use = "" if name in ours else f"; to use it, map {name} to {theirs}"
            notes.append(f"column {theirs!r} is carried and not used as {name!r}{use}")
    return tuple(notes)


def _match_names(
    schema: pa.Schema, mapping: Mapping[str, str | None], location: str
) -> dict[str, str]:
    names = set(schema.names)
    spoken_for = set(mapping.values())
    ours = {}
    for name in PROMPT_COLUMNS:
        if name in mapping:
            theirs = mapping[name]
            if theirs is not None:
                _require_present(name, theirs, schema, location)
                ours[name] = theirs
        elif name in names and name not in spoken_for:
            ours[name] = name
    if "prompt" not in ours:
        _require_present("prompt", "prompt", schema, location)
    if "enhance" in ours and "magic_prompt" in ours:
        reason = "says the same as 'magic_prompt': keep one of the two"
        raise TableError(location, [TableProblem(reason, column=ours["enhance"])])
    return ours


def _require_present(name: str, theirs: str, schema: pa.Schema, location: str) -> None:
    if theirs in schema.names:
        return
    found = ", ".join(map(repr, schema.names)) or "none"
    similar = nearest(theirs, schema.names)
    guess = f"; did you mean {similar!r}? (columns: {{{name}: {similar}}})" if similar else ""
    reason = f"there is no such column{guess}; the table has {found}"
    raise TableError(location, [TableProblem(reason, column=theirs)])


def _require_distinct(schema: pa.Schema, location: str) -> None:
    for name in schema.names:
        if schema.names.count(name) > 1:
            reason = "this name is given to two columns"
            raise TableError(location, [TableProblem(reason, column=name)])


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


_NAMES_OF_ROWS = ("prompt_id", "input_key")
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


# A row's metadata, however its column spells it, as one compact JSON object.


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


# A batch of source rows in our own types, before any rule is applied.
#
# A cell that cannot be read at all (bytes that are no UTF-8, metadata that is no JSON), or that the
# ledger could not keep (NUL characters, a name of thousands of bytes), becomes null here and is
# remembered, so that its row, and no other, is refused.


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
