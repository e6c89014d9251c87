"""
Which rows of a batch break a rule, found by whole columns.

It may name a good row, `explain` decides; it must never miss a bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.capabilities import FOUR_K, INPUTS
from mynth_dagster.limits import (
    INTENT_TAG_KEY,
    INTENT_TAG_MAX_BYTES,
    OUTPUT_FORMATS,
    SIZE_4K_SUFFIX,
)
from mynth_dagster.tables.explain import (
    DESTINATION_PATTERN,
    RowRules,
    is_good_model,
    wrong_number_of_inputs,
)
from mynth_dagster.tables.normalise import is_blank

_TAG_SPACE = INTENT_TAG_MAX_BYTES + len(f',"{INTENT_TAG_KEY}":""')


def suspicious_rows(
    columns: Mapping[str, pa.Array], rules: RowRules, *, same: Collection[str] = ()
) -> list[int]:
    """
    Indices of the rows that may break a rule, ascending.

    Args:
        same: Columns with one value in all rows: the batch's default, which is looked at once.
    """
    own = {name: column for name, column in columns.items() if name not in same}
    defaults = {name: columns[name].slice(0, 1) for name in same}
    masks = [_bad_prompts(columns["prompt"], rules), *_bad_values(own, rules)]
    if _may_have_bad_inputs(columns["inputs"], columns["model"], rules):
        masks.append(pc.is_valid(columns["inputs"]))  # nested: then each is looked at alone
    masks += _wrong_numbers_of_inputs(columns["inputs"], columns["model"], rules)
    of_all = [*_bad_values(defaults, rules)]
    sized, of_model = columns["size"], columns["model"]
    if {"size", "model"} <= defaults.keys():
        of_all.append(_may_lack_4k(defaults["size"], defaults["model"], rules))
    elif sized.null_count < len(sized):
        masks.append(_may_lack_4k(sized, of_model, rules))
    if any(mask.true_count for mask in of_all):
        return list(range(len(columns["prompt"])))
    broken = reduce(pc.or_, masks)
    return list(pc.indices_nonzero(broken).to_pylist())


def _bad_values(columns: Mapping[str, pa.Array], rules: RowRules) -> Iterator[pa.Array]:
    for name, column in columns.items():
        if name in _CHECKS and column.null_count < len(column):
            yield _CHECKS[name](column, rules).fill_null(fill_value=False)


def _bad_prompts(prompts: pa.Array, rules: RowRules) -> pa.Array:
    too_long = pc.greater(pc.utf8_length(prompts), rules.limits.prompt_max_chars)
    return pc.or_(is_blank(prompts), too_long).fill_null(fill_value=True)


def _bad_negatives(texts: pa.Array, rules: RowRules) -> pa.Array:
    return pc.greater(pc.utf8_length(texts), rules.limits.negative_prompt_max_chars)


def _bad_models(models: pa.Array, rules: RowRules) -> pa.Array:
    """Few models are named again and again: each is looked at once."""
    named = pc.unique(models).drop_null().to_pylist()
    bad = [name for name in named if not is_good_model(name, rules)]
    return _named(models, bad)


def _bad_sizes(sizes: pa.Array, rules: RowRules) -> pa.Array:
    return pc.invert(_named(sizes, rules.limits.sizes))


def _bad_formats(formats: pa.Array, _rules: RowRules) -> pa.Array:
    return pc.invert(_named(formats, OUTPUT_FORMATS))


def _bad_enhances(words: pa.Array, rules: RowRules) -> pa.Array:
    return pc.invert(_named(words, rules.limits.enhancements))


def _bad_counts(numbers: pa.Array, rules: RowRules) -> pa.Array:
    return _outside(numbers, rules.limits.count_min, rules.limits.count_max)


def _bad_qualities(numbers: pa.Array, rules: RowRules) -> pa.Array:
    low = rules.limits.quality_min
    return pc.is_valid(numbers) if low is None else _outside(numbers, low, rules.limits.quality_max)


def _bad_destinations(slugs: pa.Array, rules: RowRules) -> pa.Array:
    most = rules.limits.destination_max_chars
    if most is None:
        return pc.is_valid(slugs)
    too_long = pc.greater(pc.utf8_length(slugs), most)
    bad = pc.or_(too_long, pc.invert(pc.match_substring_regex(slugs, DESTINATION_PATTERN)))
    known = rules.offers.destinations
    return bad if known is None else pc.or_(bad, pc.invert(_named(slugs, sorted(known))))


def _bad_metadata(metadata: pa.Array, rules: RowRules) -> pa.Array:
    too_large = pc.greater(pc.binary_length(metadata), rules.limits.metadata_max_bytes - _TAG_SPACE)
    return pc.or_(too_large, pc.match_substring(metadata, INTENT_TAG_KEY))


_CHECKS: dict[str, Callable[[pa.Array, RowRules], pa.Array]] = {
    "negative_prompt": _bad_negatives,
    "model": _bad_models,
    "size": _bad_sizes,
    "count": _bad_counts,
    "output_format": _bad_formats,
    "output_quality": _bad_qualities,
    "enhance": _bad_enhances,
    "destination": _bad_destinations,
    "metadata": _bad_metadata,
}
"""What makes a value suspicious; null answers mean that it is not."""


def _may_lack_4k(sizes: pa.Array, models: pa.Array, rules: RowRules) -> pa.Array:
    """Rows that ask for 4k of a model that has none."""
    lacking = _lacking(models, FOUR_K, rules)
    return pc.and_(pc.ends_with(sizes, SIZE_4K_SUFFIX).fill_null(fill_value=False), lacking)


def _lacking(models: pa.Array, capability: str, rules: RowRules) -> pa.Array:
    named = pc.unique(models).drop_null().to_pylist()
    lacking = [name for name in named if rules.lacks(name, capability)]
    return _named(models, lacking).fill_null(fill_value=False)


def _wrong_numbers_of_inputs(
    inputs: pa.Array, models: pa.Array, rules: RowRules
) -> Iterator[pa.Array]:
    """By model, the rows with more or fewer inputs than it takes; few numbers occur."""
    numbers = pc.list_value_length(inputs).fill_null(0)
    occurring = pc.unique(numbers).to_pylist()
    for name in pc.unique(models).drop_null().to_pylist():
        wrong = [n for n in occurring if wrong_number_of_inputs(name, n, rules)]
        if wrong:
            is_wrong = pc.is_in(numbers, value_set=pa.array(wrong, numbers.type))
            yield pc.and_(pc.equal(models, name), is_wrong).fill_null(fill_value=False)


def _may_have_bad_inputs(inputs: pa.Array, models: pa.Array, rules: RowRules) -> bool:
    """Whether any row of the batch has an input that may be bad."""
    if inputs.null_count == len(inputs):
        return False
    most, longest = rules.limits.inputs_max, rules.limits.input_url_max_chars
    urls = pc.struct_field(pc.list_flatten(inputs), "url")
    if len(urls) == 0:
        return False
    blank = pc.any(is_blank(urls).fill_null(fill_value=True)).as_py()
    too_long = longest is not None and (pc.max(pc.utf8_length(urls)).as_py() or 0) > longest
    too_many = most is not None and pc.max(pc.list_value_length(inputs)).as_py() > most
    is_data = pc.match_substring_regex(urls, "^[dD][aA][tT][aA]:").fill_null(fill_value=False)
    has_data = not rules.limits.takes_data_uris and pc.any(is_data).as_py()
    roles = pc.unique(pc.struct_field(pc.list_flatten(inputs), "role")).drop_null().to_pylist()
    bad_role = not set(roles) <= set(rules.limits.input_roles)
    lacking = pc.any(_lacking(models, INPUTS, rules)).as_py()
    return bool(blank or too_long or too_many or has_data or bad_role or lacking)


def _outside(numbers: pa.Array, low: int, high: int) -> pa.Array:
    return pc.or_(pc.less(numbers, low), pc.greater(numbers, high))


def _named(texts: pa.Array, words: Sequence[str]) -> pa.Array:
    """Which texts are one of the words; null stays null."""
    found = pc.is_in(texts, value_set=pa.array(words, pa.string()))
    return pc.if_else(pc.is_valid(texts), found, pa.scalar(None, pa.bool_()))
