"""Which columns of a source mean what to us, and whether their types can."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types as pat

from mynth_dagster.errors import TableError, TableProblem
from mynth_dagster.models.batch import PROMPT_COLUMNS
from mynth_dagster.tables.arrow_types import is_list, is_text, plain_type, why_not_kept
from mynth_dagster.tables.prompt_schema import carried_names
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
