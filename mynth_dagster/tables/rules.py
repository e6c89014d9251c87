"""
What a row may ask for: each rule once, as a column, a mask, a code and a message.

Masks are computed over whole columns; a row is looked at alone only where it breaks a rule, to
tell its message. Where several rules are broken, the first in the order of `RULES` is told.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.capabilities import FOUR_K, INPUTS, is_known_to_lack
from mynth_dagster.limits import (
    AUTO_MODEL,
    EXCERPT_MAX_CHARS,
    INTENT_TAG_KEY,
    INTENT_TAG_MAX_BYTES,
    OUTPUT_FORMATS,
    SIZE_4K_SUFFIX,
    RevisionLimits,
)
from mynth_dagster.models.task import NOTHING_LISTED, CatalogModel, ModelInputs, Offers

Columns: TypeAlias = Mapping[str, pa.Array]


@dataclass(frozen=True)
class RowProblem:
    """Why one row cannot be asked for; `field` is our name of the column."""

    code: str
    field: str
    message: str


@dataclass(frozen=True)
class Allowed:
    """
    What rows are judged by.

    Args:
        limits: Of the API revision in use.
        offers: What the server lists of its models and of the account's own storage.
        fan_out_models: The models that have a partition, where the fan-out is by model.
        with_capabilities: Whether a row may not ask of a model what it is known to lack.
    """

    limits: RevisionLimits
    offers: Offers = NOTHING_LISTED
    fan_out_models: tuple[str, ...] | None = None
    with_capabilities: bool = True

    def lacks(self, model: str, capability: str) -> bool:
        """
        Whether the model is known not to have the capability, and would fail for it.

        The catalogue knows best; where it never tells, the official client's list does.
        """
        if not self.with_capabilities:
            return False
        is_4k = capability == FOUR_K
        if is_4k and self.limits.falls_back_from_4k:
            return False
        if model == AUTO_MODEL:
            return not (self.limits.auto_takes_4k if is_4k else self.limits.auto_takes_inputs)
        has, listed = None, self.offers.model(model)
        if listed is not None and is_4k:
            has = listed.has_4k
        elif listed is not None and listed.inputs is not None:
            has = listed.inputs.at_most != 0
        if has is not None or self.limits.catalog_tells_modes:
            return has is False
        return is_known_to_lack(model, capability, self.limits.revision)

    def inputs_of(self, model: str) -> ModelInputs | None:
        """How many input images the model takes; None where that is not told or not asked."""
        listed = self._listed(model)
        return listed.inputs if listed is not None else None

    def needs_inputs(self, model: str) -> bool:
        """Whether the catalogue says that a prompt alone is not enough."""
        listed = self._listed(model)
        return listed is not None and listed.takes_text is False

    def _listed(self, model: str) -> CatalogModel | None:
        return self.offers.model(model) if self.with_capabilities else None


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, list)) else 0


@dataclass(frozen=True)
class Rule:
    """
    One reason to refuse a row.

    Args:
        column: Our name of the column at fault.
        code: Of the problem; `docs/tables.md` lists it.
        message: What is wrong and what is allowed. A template over the cell's `value` and its
            size `n`, the row's `model` and what it `takes`, the revision's `limits`, the `known`
            words and a `hint` at the nearest of them.
        breaks: Which cells break the rule; null: no. None: the rule does not apply.
        known: The words that are allowed.
        size: Measures a value.
        beside: Further columns that the rule looks at.
        of_null: Whether a cell without a value may break it.
        of_items: `url` or `role` where the rule is about this part of each item of a list:
            `breaks` gets the parts of all items, and the message `index` and `value` of the first
            one that breaks it.
    """

    column: str
    code: str
    message: str
    breaks: Callable[[Columns, Allowed], pa.Array | None]
    known: Callable[[Allowed], Iterable[str]] = lambda _: ()
    size: Callable[[Any], int] = _size
    beside: tuple[str, ...] = ()
    of_null: bool = False
    of_items: str = ""

    def broken_by(
        self, columns: Columns, allowed: Allowed, constant: Collection[str] = ()
    ) -> Sequence[int]:
        """The rows that break the rule, ascending; ``constant`` columns are looked at once."""
        column, names = columns.get(self.column), (self.column, *self.beside)
        if column is None or (not self.of_null and column.null_count == len(column)):
            return ()
        if any(name not in columns for name in self.beside):
            return ()
        n_rows, cells = len(column), {name: columns[name] for name in names}
        is_constant = all(name in constant for name in names)
        if is_constant:
            cells = {name: column.slice(0, 1) for name, column in cells.items()}
        mask = self._mask(cells, allowed)
        if mask is None or not mask.true_count:
            return ()
        return range(n_rows) if is_constant else pc.indices_nonzero(mask).to_pylist()

    def problem_of(self, columns: Columns, row: int, allowed: Allowed) -> RowProblem:
        """What is told of a row that breaks the rule."""
        column, model = columns[self.column].slice(row, 1), columns["model"][row].as_py()
        index, (value,) = 0, column.to_pylist()
        if self.of_items:
            broken = self.breaks(_parts(column), allowed)
            assert broken is not None
            index = broken.index(pa.scalar(value=True)).as_py()
            value = value[index][self.of_items]
        is_long = isinstance(value, str) and len(value) > EXCERPT_MAX_CHARS
        known = tuple(self.known(allowed))
        message = self.message.format(
            value=f"{value[:EXCERPT_MAX_CHARS]}…" if is_long else value,
            n=self.size(value),
            index=index,
            model=model,
            takes=allowed.inputs_of(model),
            limits=allowed.limits,
            known=", ".join(known),
            hint=_hint(value, known) if "{hint}" in self.message else "",
        )
        return RowProblem(self.code, self.column, message)

    def _mask(self, cells: Columns, allowed: Allowed) -> pa.Array | None:
        if not self.of_items:
            return self.breaks(cells, allowed)
        broken = self.breaks(_parts(cells[self.column]), allowed)
        if broken is None or not broken.true_count:
            return None
        rows = pc.list_parent_indices(cells[self.column]).filter(broken.fill_null(fill_value=False))
        mask = np.zeros(len(cells[self.column]), bool)
        mask[rows.to_numpy()] = True
        return pa.array(mask)


HAS_NUL = "the text has a NUL character (U+0000), which no database keeps"

_KNOWN_SHOWN = 12  # of allowed words, where none of them is near
_MODEL = re.compile(r"[^\s@]{1,200}")
_TAG_BYTES = len(f',"{INTENT_TAG_KEY}":""') + INTENT_TAG_MAX_BYTES
_TAKES = "API revision {limits.revision} takes"


def n_bytes_with_tag(metadata: str) -> int:
    """UTF-8 bytes of compact metadata once our own key is added, at its longest."""
    return len(metadata.encode("utf-8")) + _TAG_BYTES


def _models(allowed: Allowed) -> list[str]:
    return sorted({AUTO_MODEL, *(allowed.offers.catalog or ())})


RULES: tuple[Rule, ...] = (
    Rule(
        "prompt_id",
        "missing_prompt_id",
        "the row has no prompt id, and others have one: give each row its own",
        lambda c, _: pc.is_null(c["prompt_id"]),
        of_null=True,
    ),
    Rule(
        "prompt",
        "empty_prompt",
        "the prompt has no character that can be seen",
        lambda c, _: is_blank(c["prompt"]).fill_null(fill_value=True),
        of_null=True,
    ),
    Rule(
        "prompt",
        "prompt_too_long",
        f"{{n}} characters, {_TAKES} up to {{limits.prompt_max_chars}}",
        lambda c, a: _above(pc.utf8_length(c["prompt"]), a.limits.prompt_max_chars),
    ),
    Rule(
        "negative_prompt",
        "invalid_text",
        HAS_NUL,
        lambda c, _: has_nul(c["negative_prompt"]),
    ),
    Rule(
        "negative_prompt",
        "negative_prompt_too_long",
        f"{{n}} characters, {_TAKES} up to {{limits.negative_prompt_max_chars}}",
        lambda c, a: _above(
            pc.utf8_length(c["negative_prompt"]), a.limits.negative_prompt_max_chars
        ),
    ),
    Rule("model", "invalid_text", HAS_NUL, lambda c, _: has_nul(c["model"])),
    Rule(
        "model",
        "invalid_model",
        "{value!r} is no model id: 1 to 200 characters, none of them a space or an @",
        lambda c, _: _where(c["model"], lambda name: not _MODEL.fullmatch(name)),
    ),
    Rule(
        "model",
        "unknown_model",
        "Mynth lists no model {value!r}; {hint}",
        lambda c, a: None if a.offers.catalog is None else _not_among(c["model"], _models(a)),
        known=_models,
    ),
    Rule(
        "model",
        "model_not_in_fan_out",
        "{value!r} has no partition; the batch's models are {known}",
        lambda c, a: _not_among(c["model"], a.fan_out_models),
        known=lambda a: a.fan_out_models or (),
    ),
    Rule(
        "size",
        "unknown_size",
        "{value!r} is no size of API revision {limits.revision}; {hint}",
        lambda c, a: _not_among(c["size"], a.limits.sizes),
        known=lambda a: a.limits.sizes,
    ),
    Rule(
        "count",
        "invalid_count",
        f"{{value}} images, {_TAKES} {{limits.count_min}} to {{limits.count_max}}",
        lambda c, a: _outside(c["count"], a.limits.count_min, a.limits.count_max),
    ),
    Rule(
        "inputs",
        "too_many_inputs",
        f"{{n}} inputs, {_TAKES} up to {{limits.inputs_max}}",
        lambda c, a: _above(pc.list_value_length(c["inputs"]), a.limits.inputs_max),
    ),
    Rule(
        "inputs",
        "empty_input",
        "input {index} has no URL",
        lambda c, _: is_blank(c["url"]).fill_null(fill_value=True),
        of_items="url",
    ),
    Rule(
        "inputs",
        "input_data_uri",
        f"input {{index}} is a data URI, {_TAKES} none; give the file, which is then uploaded",
        lambda c, a: None if a.limits.takes_data_uris else is_data_uri(c["url"]),
        of_items="url",
    ),
    Rule(
        "inputs",
        "invalid_input_role",
        f"input {{index}} has role {{value!r}}, {_TAKES} {{known}}",
        lambda c, a: _not_among(c["role"], a.limits.input_roles),
        known=lambda a: a.limits.input_roles,
        of_items="role",
    ),
    Rule(
        "inputs",
        "input_url_too_long",
        "the URL of input {index} has {n} characters, "
        f"{_TAKES} up to {{limits.input_url_max_chars}}",
        lambda c, a: _above(
            pc.if_else(is_url(c["url"]), pc.utf8_length(c["url"]), 0), a.limits.input_url_max_chars
        ),
        of_items="url",
    ),
    Rule(
        "output_format",
        "invalid_output_format",
        "{value!r} is none of {known}",
        lambda c, _: _not_among(c["output_format"], OUTPUT_FORMATS),
        known=lambda _: OUTPUT_FORMATS,
    ),
    Rule(
        "output_quality",
        "invalid_output_quality",
        "API revision {limits.revision} has no output quality: leave it out",
        lambda c, a: pc.is_valid(c["output_quality"]) if a.limits.quality_min is None else None,
    ),
    Rule(
        "output_quality",
        "invalid_output_quality",
        f"{{value}}, {_TAKES} {{limits.quality_min}} to {{limits.quality_max}}",
        lambda c, a: _outside(c["output_quality"], a.limits.quality_min, a.limits.quality_max),
    ),
    Rule(
        "enhance",
        "invalid_enhance",
        f"{{value!r}}, {_TAKES} {{known}}, or off",
        lambda c, a: _not_among(c["enhance"], a.limits.enhancements),
        known=lambda a: a.limits.enhancements,
    ),
    Rule(
        "destination",
        "invalid_destination",
        "API revision {limits.revision} has no destinations: leave it out",
        lambda c, a: (
            pc.is_valid(c["destination"]) if a.limits.destination_max_chars is None else None
        ),
    ),
    Rule(
        "destination",
        "invalid_destination",
        "{value!r} is not 1 to {limits.destination_max_chars} small letters, digits and hyphens",
        lambda c, a: _no_slug(c["destination"], a.limits.destination_max_chars),
    ),
    Rule(
        "destination",
        "unknown_destination",
        "the account has no {value!r}; {hint}",
        lambda c, a: _not_among(c["destination"], a.offers.destinations),
        known=lambda a: sorted(a.offers.destinations or ()),
    ),
    Rule(
        "metadata",
        "reserved_metadata_key",
        f"the key {INTENT_TAG_KEY!r} is reserved: rename it",
        lambda c, _: _with_our_key(c["metadata"]),
    ),
    Rule(
        "metadata",
        "metadata_too_large",
        "{n} bytes as compact JSON with our own key, the limit is {limits.metadata_max_bytes}",
        lambda c, a: pc.greater(
            pc.binary_length(c["metadata"]), a.limits.metadata_max_bytes - _TAG_BYTES
        ),
        size=n_bytes_with_tag,
    ),
    Rule(
        "inputs",
        "capability_not_supported",
        "{model!r} takes no input images, as far as API revision {limits.revision} told; "
        "name a model that does",
        lambda c, a: _lacking(c, a, INPUTS),
        beside=("model",),
    ),
    Rule(
        "size",
        "capability_not_supported",
        "{model!r} takes no 4k sizes, as far as API revision {limits.revision} told; "
        "name a model that does",
        lambda c, a: _lacking(c, a, FOUR_K),
        beside=("model",),
    ),
    Rule(
        "inputs",
        "capability_not_supported",
        "{model!r} needs an input image",
        lambda c, a: _wrong_number(c, lambda n, name: not n and a.needs_inputs(name)),
        beside=("model",),
        of_null=True,
    ),
    Rule(
        "inputs",
        "capability_not_supported",
        "{n} inputs, {model!r} takes up to {takes.at_most}",
        lambda c, a: _wrong_number(c, lambda n, name: n > _most(a.inputs_of(name))),
        beside=("model",),
    ),
    Rule(
        "inputs",
        "capability_not_supported",
        "{n} inputs, {model!r} takes at least {takes.at_least}",
        lambda c, a: _wrong_number(c, lambda n, name: 0 < n < _least(a.inputs_of(name))),
        beside=("model",),
    ),
)
"""In the order of columns; what a model is known to lack comes last."""


def find_problems(
    columns: Columns,
    allowed: Allowed,
    *,
    constant: Collection[str] = (),
    unreadable: Collection[tuple[int, RowProblem]] = (),
) -> dict[int, RowProblem]:
    """
    The first problem of each row that has one, by the row's place.

    Args:
        columns: Of the requests; a rule about one that is not there does not apply.
        constant: Columns with one value in all rows.
        unreadable: Rows with cells that could not be read.
    """
    problems: dict[int, RowProblem] = {}
    of_column: dict[str, list[tuple[int, RowProblem]]] = {}
    for row, problem in unreadable:
        of_column.setdefault(problem.field, []).append((row, problem))
    for rule in RULES:
        for row, problem in of_column.pop(rule.column, ()):
            problems.setdefault(row, problem)
        for row in rule.broken_by(columns, allowed, constant):
            if row not in problems:
                problems[row] = rule.problem_of(columns, row, allowed)
    for row, problem in (pair for pairs in of_column.values() for pair in pairs):
        problems.setdefault(row, problem)
    return problems


@lru_cache(maxsize=1024)
def nearest(name: str, known: tuple[str, ...]) -> str | None:
    """The most similar of some names, regardless of case, or None."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def is_blank(texts: pa.Array) -> pa.Array:
    """Which texts have no character that can be seen; null stays null."""
    return pc.invert(pc.match_substring_regex(texts, _VISIBLE))


def is_url(texts: pa.Array) -> pa.Array:
    """Which inputs are URLs that Mynth reads itself; all others are files to be uploaded."""
    return pc.match_substring_regex(texts, r"(?i)^[\x00-\x20]*(https?|data):")


def is_data_uri(texts: pa.Array) -> pa.Array:
    """Which inputs carry their bytes themselves."""
    return pc.starts_with(pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, 5)), "data:")


def has_nul(texts: pa.Array) -> pa.Array:
    """Which texts have a NUL character, which no database keeps."""
    return pc.match_substring(texts, "\0")


# Blank Braille and the fillers of Hangul: letters and symbols by name, and nothing to be seen.
_VISIBLE = r"[^\p{Z}\p{M}\p{Cc}\p{Cf}" + "\u2800\u3164\u115f\u1160\uffa0]"


def _hint(value: Any, known: tuple[str, ...]) -> str:
    similar = nearest(value, known) if isinstance(value, str) else None
    if similar:
        return f"did you mean {similar!r}?"
    more = f" and {len(known) - _KNOWN_SHOWN} more" if len(known) > _KNOWN_SHOWN else ""
    return f"known: {', '.join(known[:_KNOWN_SHOWN]) or 'none'}{more}"


def _parts(lists: pa.Array) -> Columns:
    """The parts of all items of a column of lists."""
    items = pc.list_flatten(lists)
    return {part.name: pc.struct_field(items, part.name) for part in items.type}


def _above(numbers: pa.Array, most: int | None) -> pa.Array | None:
    return None if most is None else pc.greater(numbers, most)


def _outside(numbers: pa.Array, low: int | None, high: int) -> pa.Array | None:
    return None if low is None else pc.or_(pc.less(numbers, low), pc.greater(numbers, high))


def _no_slug(names: pa.Array, most: int | None) -> pa.Array | None:
    if most is None:
        return None
    return pc.invert(pc.match_substring_regex(names, rf"^[a-z0-9-]{{1,{most}}}\z"))


def _among(texts: pa.Array, words: Iterable[str]) -> pa.Array:
    """Which texts are one of the words; null stays null."""
    is_one = pc.is_in(texts, value_set=pa.array(list(words), pa.string()))
    return pc.if_else(pc.is_valid(texts), is_one, pa.scalar(None, pa.bool_()))


def _not_among(texts: pa.Array, words: Iterable[str] | None) -> pa.Array | None:
    return None if words is None else pc.invert(_among(texts, words))


def _where(names: pa.Array, is_bad: Callable[[str], bool]) -> pa.Array | None:
    """Which names are bad; few are named again and again, and each is looked at once."""
    bad = [name for name in pc.unique(names).drop_null().to_pylist() if is_bad(name)]
    return _among(names, bad) if bad else None


def _lacking(columns: Columns, allowed: Allowed, capability: str) -> pa.Array | None:
    """The rows that want what their model lacks."""
    lacking = _where(columns["model"], lambda name: allowed.lacks(name, capability))
    if lacking is None:
        return None
    if capability == FOUR_K:
        return pc.and_(lacking, pc.ends_with(columns["size"], SIZE_4K_SUFFIX))
    return pc.and_(lacking, pc.greater(pc.list_value_length(columns["inputs"]), 0))


def _most(takes: ModelInputs | None) -> float:
    return math.inf if takes is None or takes.at_most is None else takes.at_most


def _least(takes: ModelInputs | None) -> int:
    return 0 if takes is None else takes.at_least


def _wrong_number(columns: Columns, is_wrong: Callable[[int, str], bool]) -> pa.Array | None:
    """The rows with a number of inputs that their model does not take; few numbers occur."""
    numbers, mask = pc.list_value_length(columns["inputs"]).fill_null(0), None
    occurring = pc.unique(numbers).to_pylist()
    for name in pc.unique(columns["model"]).drop_null().to_pylist():
        wrong = [n for n in occurring if is_wrong(n, name)]
        if wrong:
            is_in = pc.is_in(numbers, value_set=pa.array(wrong, numbers.type))
            of_model = pc.and_(is_in, pc.equal(columns["model"], name))
            mask = of_model if mask is None else pc.or_(mask, of_model)
    return mask


def _with_our_key(metadata: pa.Array) -> pa.Array:
    """Which objects have the key that we keep for ourselves; deeper in it is the user's own."""
    may = pc.match_substring(metadata, f'"{INTENT_TAG_KEY}"').fill_null(fill_value=False)
    mask = np.zeros(len(metadata), bool)
    for row in pc.indices_nonzero(may).to_pylist():
        mask[row] = INTENT_TAG_KEY in json.loads(metadata[row].as_py())
    return pa.array(mask)
