"""
Which rows of a batch break a rule, found by whole columns.

It may name a good row, `explain` decides; it must never miss a bad one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.limits import (
    AUTO_MODEL,
    INTENT_TAG_KEY,
    INTENT_TAG_MAX_BYTES,
    OUTPUT_FORMATS,
    SIZES,
)
from mynth_dagster.tables.explain import DESTINATION_PATTERN, MODEL_PATTERN, RowRules

_TAG_SPACE = INTENT_TAG_MAX_BYTES + len(f',"{INTENT_TAG_KEY}":""')


def suspicious_rows(columns: Mapping[str, pa.Array], rules: RowRules) -> list[int]:
    """Indices of the rows that may break a rule, ascending."""
    masks = [
        _bad_prompts(columns["prompt"], rules),
        *_bad_texts(columns, rules),
        _bad_models(columns["model"], rules),
        _outside(columns["count"], rules.limits.count_min, rules.limits.count_max),
        _outside(columns["output_quality"], rules.limits.quality_min, rules.limits.quality_max),
        _bad_metadata(columns["metadata"], rules),
    ]
    if _may_have_bad_inputs(columns["inputs"], rules):
        masks.append(pc.is_valid(columns["inputs"]))  # nested: then each is looked at alone
    broken = reduce(pc.or_, masks)
    return list(pc.indices_nonzero(broken).to_pylist())


def _bad_prompts(prompts: pa.Array, rules: RowRules) -> pa.Array:
    blank = pc.equal(pc.utf8_trim_whitespace(prompts), "")
    too_long = pc.greater(pc.utf8_length(prompts), rules.limits.prompt_max_chars)
    return pc.or_(blank, too_long).fill_null(fill_value=True)


def _bad_texts(columns: Mapping[str, pa.Array], rules: RowRules) -> list[pa.Array]:
    limits = rules.limits
    negative = pc.utf8_length(columns["negative_prompt"])
    destination = columns["destination"]
    bad_slug = pc.or_(
        pc.greater(pc.utf8_length(destination), limits.destination_max_chars),
        pc.invert(pc.match_substring_regex(destination, DESTINATION_PATTERN)),
    )
    return [
        pc.greater(negative, limits.negative_prompt_max_chars).fill_null(fill_value=False),
        _not_in(columns["size"], SIZES),
        _not_in(columns["output_format"], OUTPUT_FORMATS),
        _not_in(columns["enhance"], rules.enhance_words),
        bad_slug.fill_null(fill_value=False),
    ]


def _bad_models(models: pa.Array, rules: RowRules) -> pa.Array:
    unlike_an_id = pc.invert(pc.match_substring_regex(models, MODEL_PATTERN))
    bad = unlike_an_id.fill_null(fill_value=True)
    if rules.known_models is not None:
        bad = pc.or_(bad, _not_in(models, (AUTO_MODEL, *sorted(rules.known_models))))
    if rules.fan_out_models is not None:
        bad = pc.or_(bad, _not_in(models, rules.fan_out_models))
    return bad


def _bad_metadata(metadata: pa.Array, rules: RowRules) -> pa.Array:
    too_large = pc.greater(pc.binary_length(metadata), rules.limits.metadata_max_bytes - _TAG_SPACE)
    reserved = pc.match_substring(metadata, INTENT_TAG_KEY)
    return pc.or_(too_large, reserved).fill_null(fill_value=False)


def _may_have_bad_inputs(inputs: pa.Array, rules: RowRules) -> bool:
    """Whether any row of the batch has an input that may be bad."""
    most, longest = rules.limits.inputs_max, rules.limits.input_url_max_chars
    urls = pc.struct_field(pc.list_flatten(inputs), "url")
    if len(urls) == 0:
        return False
    blank = pc.any(pc.equal(pc.utf8_trim_whitespace(urls), "").fill_null(fill_value=True)).as_py()
    too_long = longest is not None and (pc.max(pc.utf8_length(urls)).as_py() or 0) > longest
    too_many = most is not None and pc.max(pc.list_value_length(inputs)).as_py() > most
    return bool(blank or too_long or too_many)


def _outside(numbers: pa.Array, low: int, high: int) -> pa.Array:
    return pc.or_(pc.less(numbers, low), pc.greater(numbers, high)).fill_null(fill_value=False)


def _not_in(texts: pa.Array, allowed: tuple[str, ...]) -> pa.Array:
    if texts.null_count == len(texts):
        return pa.repeat(pa.scalar(value=False), len(texts))
    known = pc.is_in(texts, value_set=pa.array(allowed, pa.string()), skip_nulls=False)
    return pc.and_(pc.invert(known), pc.is_valid(texts))
