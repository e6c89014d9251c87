"""What Dagster makes of a `defs.yaml` on a page."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster.components.testing import create_defs_folder_sandbox

from mynth_dagster import MynthImagesComponent


def definitions_of(contents: dict[str, Any]) -> dg.Definitions:
    """The definitions of a component, by what its file says."""
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=MynthImagesComponent, defs_yaml_contents=contents
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, MynthImagesComponent)
            return defs


def partitions_by_key(defs: dg.Definitions) -> dict[dg.AssetKey, Any]:
    """Each asset with its partitions: equal for equal batches."""
    return {spec.key: spec.partitions_def for spec in defs.resolve_all_asset_specs()}
