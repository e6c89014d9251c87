"""`docs/reference.md`, written from the code: `python -m tests.docs.reference`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from mynth_dagster import (
    Batch,
    BatchQuote,
    BatchResults,
    BatchStatus,
    Checks,
    Delivery,
    Execution,
    Files,
    FollowUp,
    Freshness,
    ImageRequest,
    MynthAssets,
    MynthImagesComponent,
    MynthResource,
    MynthTableProps,
    MynthTables,
    MynthTranslator,
    Prompts,
    Rating,
    RatingLevel,
    Spending,
    build_image_batch,
    mynth_assets,
)
from mynth_dagster.plugin import settings
from mynth_dagster.plugin.assets import _PAID
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.checks import check_specs
from mynth_dagster.plugin.jobs import SETTLE_CONFIG, STOP_CONFIG, build_jobs, build_operations
from mynth_dagster.plugin.partitions import BatchPartitions
from mynth_dagster.plugin.run_options import RUN_OPTIONS_CONFIG
from mynth_dagster.plugin.settings import PHASES
from mynth_dagster.tables.source import open_source
from tests.docs.markdown import DOCS

PAGE = DOCS / "reference.md"
HEAD = """\
# Reference

Every field, job and check, written from the code by `make reference`.
Defaults are as Python spells them; units are in names (`_s` are seconds, `_usd` US dollars).
"""
FIELDS = ("field", "default", "meaning")
ARGUMENTS = ("argument", "default", "meaning")
TABLES_WORDS = (
    "Hands the tables to assets downstream; [how](tables.md#where-they-lie), with the metadata "
    "`columns` and `allow_missing_partitions` of an input."
)
SETTINGS: Mapping[type, str] = {
    Prompts: "The value of `prompts`, where a path alone stands for its `location`.",
    ImageRequest: "The value of `request`.",
    Spending: "The value of `spending`.",
    Delivery: "The value of `delivery`.",
    Checks: "The value of `checks`.",
    Execution: "The value of `execution`.",
    FollowUp: "Each entry of `request.follow_ups`.",
    Files: "The value of `delivery.files`.",
    Freshness: "The value of `checks.freshness`.",
}
"""The settings of a batch, in Python and in YAML."""
VALUES: Mapping[type, str] = {
    Rating: "The value of `request.rating`, where `true` stands for Mynth's own levels.",
    RatingLevel: "One of the `levels` of a `Rating` or a `FollowUp`.",
    Batch: "What the methods of a `MynthResource` take, and what a translator reads.",
    BatchQuote: "What `MynthResource.quote` returns.",
    BatchStatus: "What `MynthResource.status` returns.",
    BatchResults: "What `MynthResource.collect` returns.",
    MynthTableProps: "What a `MynthTranslator` is given.",
}
METHODS = ("quote", "submit", "wait", "collect", "status", "run")


def render() -> str:
    """The whole page."""
    parts = [
        HEAD,
        "## `build_image_batch`\n",
        _summary(build_image_batch),
        "These are the arguments of `mynth_assets`, too, and the fields of a `defs.yaml`.\n",
        _table(ARGUMENTS, _arguments(build_image_batch)),
        *(
            part
            for kind, words in SETTINGS.items()
            for part in (_section(f"`{kind.__name__}`", kind, f"{_summary(kind)}\n{words}"),)
        ),
        f"## `mynth_assets`\n\n{_summary(mynth_assets)}\n",
        _table(ARGUMENTS, _arguments(build_image_batch)),
        f"## `MynthAssets`\n\n{_summary(MynthAssets)}\n",
        f"## `MynthTranslator`\n\n{_summary(MynthTranslator)}\n",
        _section("`MynthResource`", MynthResource, "One for all batches."),
        _table(("method", "what it does"), map(_method, METHODS)),
        *(
            part
            for kind, words in VALUES.items()
            for part in (
                _section(f"`{kind.__name__}`", None, words),
                _table(ARGUMENTS, _arguments(kind)),
            )
        ),
        _section("`MynthTables`", MynthTables, TABLES_WORDS),
        _section(
            "`MynthImagesComponent`", MynthImagesComponent, "The attributes of a `defs.yaml`."
        ),
        _section(
            "`partitions_def`", settings.Partitions, "In YAML; each type has its own.", level=3
        ),
        "## Jobs\n",
        _table(("job", "what it does"), _jobs()),
        f"## Launchpad\n\nOf {_paid_ops()}, and of `<batch>__quote`:\n",
        _table(FIELDS, _config(RUN_OPTIONS_CONFIG)),
        "Of `<batch>__resolve`:\n",
        _table(FIELDS, _config(SETTLE_CONFIG)),
        "Of `<batch>__stop`:\n",
        _table(FIELDS, _config(STOP_CONFIG)),
        "## Checks\n",
        _table(("check", "asset", "blocking", "what it says"), _checks()),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _summary(value: Any) -> str:
    """The first paragraph of a docstring."""
    return re.sub(r"\s+", " ", (inspect.getdoc(value) or "").split("\n\n")[0])


def _method(name: str) -> tuple[str, str]:
    method = getattr(MynthResource, name)
    names = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    return f"`{name}({', '.join(names)})`", _summary(method)


def _section(title: str, model: Any, words: str, level: int = 2) -> str:
    sentences = re.sub(r"(?<=[a-z0-9`]\.) (?=[A-Z`])", "\n", words)
    lines = [f"{'#' * level} {title}", *(["", sentences] if words else []), ""]
    return "\n".join(lines) + ("" if model is None else "\n" + _table(FIELDS, _fields(model)))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _fields(model: Any) -> list[tuple[str, str, str]]:
    """Each field with its default; what is said of it in YAML counts where there is no other."""
    in_yaml = model.model().model_fields if issubclass(model, dg.Component) else {}
    return [
        (f"`{name}`", _default(field), field.description or in_yaml[name].description or "")
        for name, field in model.model_fields.items()
    ]


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    return _spelled(field.default_factory() if field.default_factory else field.default)


def _arguments(function: Callable[..., Any]) -> list[tuple[str, str, str]]:
    told = _told_arguments(inspect.getdoc(function) or "")
    made = _made_defaults(function)
    return [
        (f"`{name}`", _spelled(made.get(name, argument.default)), told[name])
        for name, argument in inspect.signature(function).parameters.items()
    ]


def _made_defaults(function: Any) -> dict[str, Any]:
    """The defaults of a dataclass that are made anew for each object."""
    fields = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    return {
        field.name: field.default_factory()
        for field in fields
        if field.default_factory is not dataclasses.MISSING
    }


def _spelled(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, Mapping):
        return f"`{dict(default)!r}`"
    if isinstance(default, Decimal):
        return f"`{default}`"
    if isinstance(default, dg.BackfillPolicy):
        return "`single_run`"
    if isinstance(default, dg.ExecutorDefinition):
        return f"`{default.name}`"
    is_plain = default is None or isinstance(default, str | int | float | tuple | list)
    return f"`{default!r}`" if is_plain else f"`{type(default).__name__}()`"


def _told_arguments(doc: str) -> dict[str, str]:
    text = doc.split("Args:\n")[1].split("\n\n", maxsplit=1)[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words) for name, words in found}


def _config(fields: dict[str, dg.Field]) -> list[tuple[str, str, str]]:
    return [
        (f"`{name}`", f"`{field.default_value!r}`", field.description or "")
        for name, field in fields.items()
    ]


def _assets() -> BatchAssets:
    batch = Batch("b", request=ImageRequest(follow_ups=[FollowUp(table="ratings")]))
    return BatchAssets(
        batch, BatchPartitions(batch, None), open_source, checks=Checks(), execution=Execution()
    )


def _paid_ops() -> str:
    """The steps that pay, and so take what is asked; those of follow-ups are in other jobs."""
    follow_ups = [f"`<batch>__{phase}`" for phase in PHASES if phase in _PAID - {"submit"}]
    return (
        f"`<batch>__submit` (in submit, all, retry), of {', '.join(follow_ups)} (in follow_up, all)"
    )


def _jobs() -> list[tuple[str, str]]:
    assets = _assets()
    jobs = [*build_jobs(assets), *build_operations(assets)]
    return [(f"`<batch>_{job.name.removeprefix('b_')}`", job.description) for job in jobs]


def _checks() -> list[tuple[str, ...]]:
    limits = Checks(
        budget_usd_per_window=Decimal(25),
        forbidden_levels=("`forbidden_levels`",),
    )
    return [
        (
            f"`{spec.name}`",
            f"`{spec.asset_key.path[-1]}`",
            "yes" if spec.blocking else "no",
            (spec.description or "").replace("$25.00", "`budget_usd_per_window`"),
        )
        for spec in check_specs(dg.AssetKey, limits, rated=True)
    ]


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
