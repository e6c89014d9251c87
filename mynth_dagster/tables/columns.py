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


@dataclass(frozen=True)
class FoundColumns:
    """
    The columns of one source.

    Args:
        ours: Our name -> the source's.
        carried: The source's other columns -> what they are called in our tables.
        carried_schema: These columns under their new names.
    """

    ours: Mapping[str, str]
    carried: Mapping[str, str]
    carried_schema: pa.Schema

    @property
    def renamed(self) -> dict[str, str]:
        """The carried columns that had to change their name."""
        return {theirs: new for theirs, new in self.carried.items() if theirs != new}


def find_columns(schema: pa.Schema, mapping: Mapping[str, str], location: str) -> FoundColumns:
    """
    Find our columns in a source's.

    Raises:
        TableError: `prompt` or a mapped column is not there, one name is given to two columns,
            or a column's type cannot mean what its name says.
    """
    _require_distinct(schema, location)
    ours = _match_names(schema, mapping, location)
    problems = [
        TableProblem(complaint, column=theirs)
        for name, theirs in ours.items()
        if (complaint := _type_complaint(name, schema.field(theirs).type))
    ]
    if problems:
        raise TableError(location, problems)
    used = set(ours.values())
    carried = carried_names(name for name in schema.names if name not in used)
    fields = [schema.field(theirs).with_name(new) for theirs, new in carried.items()]
    lost = [(column.name, why_not_kept(column.type)) for column in fields]
    if any(why for _, why in lost):
        raise TableError(location, [TableProblem(why, column=name) for name, why in lost if why])
    return FoundColumns(ours, carried, pa.schema(fields))


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The most similar of some names, regardless of case, or None."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def _match_names(schema: pa.Schema, mapping: Mapping[str, str], location: str) -> dict[str, str]:
    names = set(schema.names)
    spoken_for = set(mapping.values())
    ours = {}
    for name in PROMPT_COLUMNS:
        if name in mapping:
            _require_present(name, mapping[name], schema, location)
            ours[name] = mapping[name]
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
    hint = _hint(name, kind)
    return f"has type {declared}, {name} needs {allowed}{hint}"


def _hint(name: str, kind: pa.DataType) -> str:
    if name == "inputs" and is_text(kind):
        return " (put the single URL into a list)"
    if pat.is_floating(kind) and name in ("count", "output_quality", "prompt_id"):
        return " (pandas makes whole numbers floats where a value is missing: use its Int64)"
    return ""


def _is_text_or_integer(kind: pa.DataType) -> bool:
    return is_text(kind) or pat.is_integer(kind)


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
    "prompt_id": (_is_text_or_integer, "string or integer"),
    "input_key": (_is_text_or_integer, "string or integer"),
    "count": (pat.is_integer, "integer"),
    "output_quality": (pat.is_integer, "integer"),
    "inputs": (_is_inputs, "list of string, or list of struct with url and role"),
    "enhance": (_is_text_or_boolean, "string ('magic', 'native' or 'off') or boolean"),
    "magic_prompt": (_is_text_or_boolean, "boolean"),
    "metadata": (_is_metadata, "struct, map with string keys, or JSON string"),
}
