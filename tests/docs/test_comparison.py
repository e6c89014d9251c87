"""The page beside other integrations: our side of it runs, and our figures are counted here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mynth_dagster import (
    Checks,
    Delivery,
    Execution,
    ImageRequest,
    MynthImagesComponent,
    MynthTranslator,
    Prompts,
    Spending,
    build_image_batch,
    mynth_assets,
)
from mynth_dagster.plugin.scaffolder import MynthImagesParams
from tests.docs.markdown import DOCS, blocks, execute, read, rows, section

PAGE = DOCS / "comparison.md"
FIGURES = {name: cells for name, *cells in rows(section(PAGE, "In figures"), "figure")}
SETTINGS = (Prompts, ImageRequest, Spending, Delivery, Checks, Execution)


@pytest.mark.parametrize(
    ("figure", "language"),
    [("lines of Python above", "python"), ("lines of YAML above", "yaml")],
)
def test_lines_are_those_of_the_snippets(figure: str, language: str):
    """Of all five, in the order of the columns, without blank lines."""
    counted = [sum(1 for line in block.splitlines() if line) for block in blocks(PAGE, language)]
    assert FIGURES[figure] == [str(count) for count in counted]


def test_our_figures_are_those_of_the_code():
    """Parameters, fields and options, and how many of them are required."""
    parameters = inspect.signature(mynth_assets).parameters
    fields = MynthImagesComponent.model().model_fields
    counted = {
        "parameters of the decorator": len(parameters),
        "of these parameters, required": sum(
            one.default is inspect.Parameter.empty for one in parameters.values()
        ),
        "top-level fields of the component": len(fields),
        "of these fields, required": sum(one.is_required() for one in fields.values()),
        "options of `dg scaffold defs`": len(MynthImagesParams.model_fields),
    }
    assert {name: int(FIGURES[name][0]) for name in counted} == counted
    assert list(inspect.signature(build_image_batch).parameters) == list(parameters)


def test_our_settings_have_as_many_fields_as_told():
    """Six values, none of whose fields is required."""
    fields = [field for settings in SETTINGS for field in settings.model_fields.values()]
    assert f"Our six settings have {len(fields)} fields together" in read(PAGE)
    assert not any(field.is_required() for field in fields)


def test_our_snippets_make_the_same_assets():
    """The decorator in Python and the component in YAML, with the resource."""
    names: dict[str, Any] = {}
    execute(blocks(PAGE, "python")[0], names)
    written = yaml.safe_load(blocks(PAGE, "yaml")[0])
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=MynthImagesComponent, defs_yaml_contents=written
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            in_yaml = {spec.key for spec in defs.resolve_all_asset_specs()}
    assert {spec.key for spec in names["defs"].resolve_all_asset_specs()} == in_yaml


def test_what_can_be_overridden_is_there():
    """The methods that the page names, with the parameters that it names."""
    (cells,) = (row for row in rows(read(PAGE), "what") if row[0] == "its method")
    told = list(inspect.signature(MynthTranslator.get_asset_spec).parameters)
    assert cells[1] == f"`get_asset_spec({', '.join(told[1:])})`"
    assert list(inspect.signature(MynthImagesComponent.execute).parameters)[1:] == [
        "context",
        "mynth",
    ]
