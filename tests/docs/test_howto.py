"""Tutorial and how-tos: what readers are told to write loads and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mynth_dagster import MynthImagesComponent
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.tables.columns import find_columns
from mynth_dagster.tables.source import source_from_arrow
from tests.docs.markdown import DOCS, blocks, read

TUTORIAL, HOWTO, PROJECTS = (DOCS / f"{page}.md" for page in ("tutorial", "howto", "projects"))
SIMULATOR_URL = "http://127.0.0.1:8787"
DAILY = {"type": "daily", "start_date": "2026-11-01"}
SNIPPETS = [yaml.safe_load(block) for page in (HOWTO, PROJECTS) for block in blocks(page, "yaml")]
ATTRIBUTES = [snippet for snippet in SNIPPETS if "run_monitoring" not in snippet]


def test_tutorial_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator: Callable[..., SimulatorServer]
):
    """Prompts, batch, run and reading, in that order; a second run sends nothing."""
    mynth = simulator()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MYNTH_API_KEY", "mak_simulator")
    prompts, definitions, reading = blocks(TUTORIAL, "python")
    names: dict[str, Any] = {}
    exec(prompts, names)
    exec(definitions.replace(SIMULATOR_URL, mynth.url), names)

    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            job = names["defs"].resolve_job_def("teas_all")
            assert job.execute_in_process(instance=instance).success

    exec(reading, names)
    assert names["images"].num_rows == mynth.log()["totals"]["accepted"] == 8


def test_a_batch_joins_a_project_that_exists():
    """What the page merges has the project's own asset and both batches."""
    (merging,) = blocks(PROJECTS, "python")
    names: dict[str, Any] = {}
    exec(merging, names)

    keys = {key.to_user_string() for key in names["defs"].resolve_all_asset_keys()}
    assert {"sales", "packaging/images", "banners/images"} <= keys


@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=",".join)
def test_yaml_of_the_howtos_loads(attributes: dict[str, Any]):
    """Each snippet is a part of a `defs.yaml` that Dagster accepts."""
    source = {} if "prompts_asset" in attributes else {"prompts": "prompts.parquet"}
    contents = {
        "type": "mynth_dagster.MynthImagesComponent",
        "attributes": {"name": "shots", **source, **attributes},
    }
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=MynthImagesComponent, defs_yaml_contents=contents
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, MynthImagesComponent)
            n_more = ("files" in attributes) + len(attributes.get("follow_ups", ()))
            assert len(list(defs.assets)) == 3 + n_more


def test_python_of_the_howtos_loads():
    """The table's inputs are of a type that is taken; the asset downstream has its condition."""
    names: dict[str, Any] = {}
    for block in blocks(HOWTO, "python"):
        exec(block, names)

    table = pa.Table.from_pandas(names["rows"])
    assert find_columns(source_from_arrow(table, "rows"), {}).ours["inputs"] == "inputs"

    (spec,) = names["contact_sheet"].specs
    assert spec.automation_condition.label == "eager_any_date"


def test_the_sensor_that_requests_assets_is_off_at_first():
    """As the page says where an asset is requested by itself."""
    names: dict[str, Any] = {}
    for block in blocks(HOWTO, "python"):
        exec(block, names)

    told = "`default_automation_condition_sensor` does this; it is off until you switch it on."
    assert told in read(HOWTO)
    defs = dg.Definitions(assets=[names["contact_sheet"]])
    sensor = defs.get_repository_def().get_sensor_def("default_automation_condition_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
