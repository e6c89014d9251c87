"""
The rules of one row, in words.

`checks` finds suspicious rows by whole columns; only those are looked at here, one by one.
This is the authority: a row without a complaint here is fine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mynth_dagster.capabilities import FOUR_K, INPUTS, is_known_to_lack
from mynth_dagster.limits import (
    AUTO_MODEL,
    INTENT_TAG_KEY,
    INTENT_TAG_MAX_BYTES,
    OUTPUT_FORMATS,
    SIZE_4K_SUFFIX,
    RevisionLimits,
)
from mynth_dagster.models.request import is_data_uri
from mynth_dagster.models.task import NOTHING_LISTED, CatalogModel, ModelInputs, Offers
from mynth_dagster.tables.columns import (
    Unreadable,
    has_reserved_key,
    is_blank,
    is_blank_text,
    n_bytes_with_tag,
    nearest,
)
from mynth_dagster.tables.inputs import is_file

DESTINATION_PATTERN = r"^[a-z0-9-]+\z"
_MODEL = re.compile(r"[^\s@]{1,200}")
_DESTINATION = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True)
class RowRules:
    """
    What a row may ask for.

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
        if capability == FOUR_K and self.limits.falls_back_from_4k:
            return False
        if model == AUTO_MODEL:
            takes_4k, takes_inputs = self.limits.auto_takes_4k, self.limits.auto_takes_inputs
            return not (takes_4k if capability == FOUR_K else takes_inputs)
        has = _listed_capability(self.offers.model(model), capability)
        if has is not None or self.limits.catalog_tells_modes:
            return has is False
        return is_known_to_lack(model, capability, self.limits.revision)

    def _judged_by(self, model: str) -> CatalogModel | None:
        """What the catalogue says of a model, where rows are judged by it."""
        return self.offers.model(model) if self.with_capabilities else None

    def inputs_of(self, model: str) -> ModelInputs | None:
        """How many input images the model takes; None where that is not told or not asked."""
        listed = self._judged_by(model)
        return listed.inputs if listed is not None else None

    def needs_inputs(self, model: str) -> bool:
        """Whether the catalogue says that a prompt alone is not enough."""
        listed = self._judged_by(model)
        return listed is not None and listed.takes_text is False

    def is_known_model(self, model: str) -> bool:
        catalog = self.offers.catalog
        return catalog is None or model == AUTO_MODEL or model in catalog

    def is_known_destination(self, name: str) -> bool:
        return self.offers.destinations is None or name in self.offers.destinations


def _listed_capability(listed: CatalogModel | None, capability: str) -> bool | None:
    if listed is None:
        return None
    if capability == FOUR_K:
        return listed.has_4k
    return None if listed.inputs is None else listed.inputs.at_most != 0


@dataclass(frozen=True)
class RowProblem:
    """
    Why one row cannot be asked for; `field` is our name of the column.

    `is_unreadable`: some cell of the row does not say what it asks for.
    """

    code: str
    field: str
    message: str
    is_unreadable: bool = False


def explain_row(row: Mapping[str, Any], rules: RowRules) -> RowProblem | None:
    """The first complaint about a row, in the order of columns; None for a good row."""
    try:
        _PromptRowRules.model_validate(row, context=rules)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        is_unreadable = any(isinstance(cell, Unreadable) for cell in row.values())
        return RowProblem(first["type"], str(first["loc"][0]), first["msg"], is_unreadable)
    return _missing_capability(row, rules)


def _missing_capability(row: Mapping[str, Any], rules: RowRules) -> RowProblem | None:
    model = row["model"]
    for field, capability, is_wanted in (
        ("inputs", INPUTS, bool(row.get("inputs"))),
        ("size", FOUR_K, (row.get("size") or "").endswith(SIZE_4K_SUFFIX)),
    ):
        if is_wanted and rules.lacks(model, capability):
            what = "input images" if capability == INPUTS else "4k sizes"
            said = f"{model!r} takes no {what}, as far as API revision {rules.limits.revision} told"
            if model == AUTO_MODEL:
                said += "; name a model that does"
            return RowProblem("capability_not_supported", field, said)
    if "inputs" in row:
        said = wrong_number_of_inputs(model, len(row["inputs"] or ()), rules)
        return RowProblem("capability_not_supported", "inputs", said) if said else None
    return None


def wrong_number_of_inputs(model: str, n_inputs: int, rules: RowRules) -> str:
    """What the model says to so many input images; empty where nothing speaks against them."""
    if n_inputs == 0:
        return f"{model!r} needs an input image" if rules.needs_inputs(model) else ""
    takes = rules.inputs_of(model)
    if takes is None:
        return ""
    if takes.at_most is not None and n_inputs > takes.at_most:
        return f"{n_inputs} inputs, {model!r} takes up to {takes.at_most}"
    if n_inputs < takes.at_least:
        return f"{n_inputs} inputs, {model!r} takes at least {takes.at_least}"
    return ""


def is_good_model(model: str, rules: RowRules) -> bool:
    """Whether a row may ask for this model."""
    try:
        _check_model(model, rules)
    except PydanticCustomError:
        return False
    return True


class _PromptRowRules(BaseModel):
    """One row with the batch's defaults filled in."""

    model_config = ConfigDict(extra="ignore", validate_default=False)

    prompt_id: Any = None
    prompt: Any = None
    negative_prompt: Any = None
    model: Any = None
    size: Any = None
    count: Any = None
    inputs: Any = None
    input_key: Any = None  # only where it cannot be read
    output_format: Any = None
    output_quality: Any = None
    enhance: Any = None
    destination: Any = None
    metadata: Any = None

    @field_validator("*", mode="plain")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Unreadable):
            raise _complaint(value.code, value.message)
        if isinstance(value, str) and "\0" in value:
            raise _complaint("invalid_text", "the text has a NUL character (U+0000)")
        name = info.field_name
        assert name is not None
        assert isinstance(info.context, RowRules)
        _CHECKS[name](value, info.context)
        return value


def _check_prompt_id(value: str | None, _rules: RowRules) -> None:
    if value is None:
        raise _complaint("missing_prompt_id", "the row has no prompt id")


def _check_prompt(value: str | None, rules: RowRules) -> None:
    if value is None or is_blank_text(value):
        raise _complaint("empty_prompt", "the prompt has no character that can be seen")
    _require_length("prompt", value, rules.limits.prompt_max_chars, rules)


def _check_negative_prompt(value: str | None, rules: RowRules) -> None:
    limit = rules.limits.negative_prompt_max_chars
    _require_length("negative_prompt", value or "", limit, rules)


def _require_length(name: str, text: str, limit: int, rules: RowRules) -> None:
    if len(text) > limit:
        raise _complaint(
            f"{name}_too_long",
            f"{len(text)} characters, API revision {rules.limits.revision} takes up to {limit}",
        )


def _check_model(value: str, rules: RowRules) -> None:
    if not _MODEL.fullmatch(value):
        raise _complaint("invalid_model", f"{value!r} is no model id")
    if not rules.is_known_model(value):
        similar = nearest(value, sorted(rules.offers.catalog or ()))
        guess = f"; did you mean {similar!r}?" if similar else ""
        raise _complaint("unknown_model", f"Mynth lists no model {value!r}{guess}")
    if rules.fan_out_models is not None and value not in rules.fan_out_models:
        models = ", ".join(rules.fan_out_models)
        raise _complaint(
            "model_not_in_fan_out", f"{value!r} has no partition; the batch's models are {models}"
        )


def _check_size(value: str | None, rules: RowRules) -> None:
    sizes = rules.limits.sizes
    if value is not None and value not in sizes:
        similar = nearest(value, sizes)
        guess = f"; did you mean {similar!r}?" if similar else ""
        said = f"{value!r} is no size of API revision {rules.limits.revision}{guess}"
        raise _complaint("unknown_size", said)


def _check_count(value: int, rules: RowRules) -> None:
    low, high = rules.limits.count_min, rules.limits.count_max
    if not low <= value <= high:
        raise _complaint(
            "invalid_count",
            f"{value} images, API revision {rules.limits.revision} takes {low} to {high}",
        )


def _check_inputs(value: list[dict[str, str | None]] | None, rules: RowRules) -> None:
    most, longest = rules.limits.inputs_max, rules.limits.input_url_max_chars
    if value and most is not None and len(value) > most:
        raise _complaint(
            "too_many_inputs",
            f"{len(value)} inputs, API revision {rules.limits.revision} takes up to {most}",
        )
    for index, item in enumerate(value or ()):
        url = item["url"]
        if url is None or is_blank_text(url):
            raise _complaint("empty_input", f"input {index} has no URL")
        if not rules.limits.takes_data_uris and is_data_uri(url):
            said = f"input {index} is a data URI, API revision {rules.limits.revision} takes none"
            raise _complaint("input_data_uri", f"{said}; give the file, which is then uploaded")
        role, roles = item["role"], rules.limits.input_roles
        if role is not None and role not in roles:
            said = f"input {index} has role {role!r}, API revision {rules.limits.revision} takes "
            raise _complaint("invalid_input_role", said + ", ".join(roles))
        if longest is not None and len(url) > longest and not is_file(url):
            raise _complaint(
                "input_url_too_long",
                f"the URL of input {index} has {len(url)} characters, "
                f"API revision {rules.limits.revision} takes up to {longest}",
            )


def _check_output_format(value: str | None, _rules: RowRules) -> None:
    if value is not None and value not in OUTPUT_FORMATS:
        known = ", ".join(OUTPUT_FORMATS)
        raise _complaint("invalid_output_format", f"{value!r} is none of {known}")


def _check_output_quality(value: int | None, rules: RowRules) -> None:
    low, high = rules.limits.quality_min, rules.limits.quality_max
    if value is not None and low is None:
        raise _complaint(
            "invalid_output_quality",
            f"API revision {rules.limits.revision} has no output quality: leave it out",
        )
    if value is not None and low is not None and not low <= value <= high:
        raise _complaint(
            "invalid_output_quality",
            f"{value}, API revision {rules.limits.revision} takes {low} to {high}",
        )


def _check_enhance(value: str | None, rules: RowRules) -> None:
    if value is not None and value not in rules.limits.enhancements:
        known = " or ".join(map(repr, rules.limits.enhancements))
        raise _complaint(
            "invalid_enhance", f"{value!r}, API revision {rules.limits.revision} takes {known}"
        )


def _check_destination(value: str | None, rules: RowRules) -> None:
    if value is None:
        return
    most = rules.limits.destination_max_chars
    if most is None:
        said = f"API revision {rules.limits.revision} has no destinations"
        raise _complaint("invalid_destination", said)
    if len(value) > most or not _DESTINATION.fullmatch(value):
        raise _complaint(
            "invalid_destination",
            f"{value!r} is not 1 to {most} small letters, digits and hyphens",
        )
    if not rules.is_known_destination(value):
        known = sorted(rules.offers.destinations or ())
        similar = nearest(value, known)
        guess = f"did you mean {similar!r}?" if similar else f"it has {', '.join(known) or 'none'}"
        raise _complaint("unknown_destination", f"the account has no {value!r}; {guess}")


def _check_metadata(value: str | None, rules: RowRules) -> None:
    if value is None:
        return
    if has_reserved_key(value):
        raise _complaint("reserved_metadata_key", f"the key {INTENT_TAG_KEY!r} is reserved")
    size, limit = n_bytes_with_tag(value), rules.limits.metadata_max_bytes
    if size > limit:
        raise _complaint(
            "metadata_too_large",
            f"{size} bytes as compact JSON with our own key, the limit is {limit}",
        )


_CHECKS: dict[str, Callable[[Any, RowRules], None]] = {
    "prompt_id": _check_prompt_id,
    "prompt": _check_prompt,
    "negative_prompt": _check_negative_prompt,
    "model": _check_model,
    "size": _check_size,
    "count": _check_count,
    "inputs": _check_inputs,
    "output_format": _check_output_format,
    "output_quality": _check_output_quality,
    "enhance": _check_enhance,
    "destination": _check_destination,
    "metadata": _check_metadata,
}


def _complaint(code: str, message: str) -> PydanticCustomError:
    # Braces in a message would be taken for the template's own.
    return PydanticCustomError(code, "{message}", {"message": message})


# Which rows of a batch break a rule, found by whole columns.
#
# It may name a good row, `explain` decides; it must never miss a bad one.


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
        if name in _MASKS and column.null_count < len(column):
            yield _MASKS[name](column, rules).fill_null(fill_value=False)


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


_MASKS: dict[str, Callable[[pa.Array, RowRules], pa.Array]] = {
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
