"""Tutorial and how-tos: what readers are told to write loads and runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mynth_dagster import MynthResource
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.tables.columns import find_columns
from mynth_dagster.tables.source import source_from_arrow
from tests.docs.loaded import definitions_of, partitions_by_key
from tests.docs.markdown import DOCS, blocks, code_in, execute, read, rows

TUTORIAL, HOWTO, PROJECTS = (DOCS / f"{page}.md" for page in ("tutorial", "howto", "projects"))
LISTED = DOCS / "integrations" / "mynth.md"
SIMULATOR_URL = "http://127.0.0.1:8787"
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
    execute(prompts, names)
    execute(definitions.replace(SIMULATOR_URL, mynth.url), names)

    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            job = names["defs"].resolve_job_def("teas_all")
            assert job.execute_in_process(instance=instance).success

    execute(reading, names)
    assert names["images"].num_rows == mynth.log()["totals"]["accepted"] == 8


def test_a_batch_joins_a_project_that_exists():
    """What the page merges has the project's own asset and both batches."""
    (merging,) = blocks(PROJECTS, "python")
    names: dict[str, Any] = {}
    execute(merging, names)

    keys = {key.to_user_string() for key in names["defs"].resolve_all_asset_keys()}
    assert {"sales", "packaging/images", "banners/images"} <= keys


def test_the_page_for_dagsters_lists_has_one_batch_in_yaml_and_python():
    """Both of its examples load, and make the same assets."""
    (written,), (python,) = blocks(LISTED, "yaml"), blocks(LISTED, "python")
    names: dict[str, Any] = {}
    execute(python, names)
    assert partitions_by_key(definitions_of(yaml.safe_load(written))) == partitions_by_key(
        names["defs"]
    )


@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=",".join)
def test_yaml_of_the_howtos_loads(attributes: dict[str, Any]):
    """Each snippet is a part of a `defs.yaml` that Dagster accepts."""
    contents = {
        "type": "mynth_dagster.MynthImagesComponent",
        "attributes": {"name": "shots", "prompts": "prompts.parquet", **attributes},
    }
    files = "files" in attributes.get("delivery", {})
    n_more = files + len(attributes.get("request", {}).get("follow_ups", ()))
    assert len(list(definitions_of(contents).assets)) == 3 + n_more


@pytest.fixture
def howtos() -> dict[str, Any]:
    """What all Python of the how-tos defines, in their order."""
    names: dict[str, Any] = {}
    for block in blocks(HOWTO, "python"):
        execute(block, names)
    return names


def test_python_of_the_howtos_loads(howtos: dict[str, Any]):
    """The table's inputs are of a type that is taken; the asset downstream has its condition."""
    table = pa.Table.from_pandas(howtos["rows"])
    assert find_columns(source_from_arrow(table, "rows"), {}).ours["inputs"] == "inputs"

    (spec,) = howtos["contact_sheet"].specs
    assert spec.automation_condition.label == "eager_any_date"

    specs = [spec for assets in howtos["banners"].assets for spec in assets.specs]
    assert {tuple(spec.key.path[:2]) for spec in specs} == {("studio", "banners")}
    assert {spec.metadata["models"] for spec in specs} == {"auto"}


@pytest.fixture
def studio(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulator: Callable[..., SimulatorServer],
    howtos: dict[str, Any],
) -> Callable[..., dg.ExecuteInProcessResult]:
    """Runs a job of a how-to, where its prompts are, with the resources that it names."""
    monkeypatch.chdir(tmp_path)
    for name in ("prompts", "drafts"):
        pq.write_table(pa.table({"prompt": ["a kite"]}), f"{name}.parquet")
    mynth = simulator()

    def run(
        job: str, channel: str = "#open", scenario: Mapping[str, Any] = MappingProxyType({})
    ) -> dg.ExecuteInProcessResult:
        mynth.set_scenario(progress="immediate", **scenario)
        resource = MynthResource(api_key="mak_simulator", root="tables", base_url=mynth.url)
        resources = {"mynth": resource, "chat": howtos["Chat"](channel=channel)}
        batch = howtos[job.partition("_")[0]].definitions
        defs = dg.Definitions.merge(batch, dg.Definitions(resources=resources))
        return defs.resolve_job_def(job).execute_in_process(raise_on_error=False)

    return run


def test_body_of_the_howto_adds_to_the_metadata(studio: Callable[..., Any]):
    """Of each table, beside the figures of the work."""
    result = studio("shots_all")

    assert result.success
    events = result.get_asset_materialization_events()
    shown = [event.materialization.metadata for event in events]
    assert len(shown) == 4
    assert {metadata["studio/campaign"].value for metadata in shown} == {"autumn"}
    assert all("dagster/row_count" in metadata for metadata in shown)


def test_body_of_the_howto_posts_why_a_step_failed(
    studio: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    """In the words of the work; the run fails all the same."""
    refusal = {"route": "POST /image/generate", "kind": "status", "status": 402}

    assert not studio("shots_all", "#shots", {"faults": [refusal]}).success

    posted = capsys.readouterr().out
    assert posted.count("#shots") == 1
    assert "Money: " in posted
    assert "Next: " in posted


def test_body_of_the_howto_skips_a_step(studio: Callable[..., Any]):
    """Only where it says so: what is downstream is skipped, and the run succeeds."""
    tables = {}
    for channel in ("#closed", "#open"):
        result = studio("drafts_all", channel)
        assert result.success
        events = result.get_asset_materialization_events()
        tables[channel] = [event.asset_key.path[-1] for event in events]

    assert tables["#closed"] == ["prompts"]
    assert tables["#open"] == ["prompts", "tasks", "images", "failures"]


def test_asset_of_the_howto_sends_its_table(
    howtos: dict[str, Any],
    tmp_path: Path,
    simulator: Callable[..., SimulatorServer],
):
    """With nothing but the resource: two rows, two images, paid for once however often it runs."""
    server = simulator()
    mynth = MynthResource(api_key="mak_simulator", root=str(tmp_path), base_url=server.url)

    for _ in range(2):
        result = dg.materialize([howtos["postcards"]], resources={"mynth": mynth})

    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["images"].value == 2
    assert server.log()["totals"]["accepted"] == 2


def test_prompts_that_are_kept_feed_the_batch_of_the_howto(
    howtos: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulator: Callable[..., SimulatorServer],
):
    """The asset is materialized, then the batch reads what was kept."""
    monkeypatch.chdir(tmp_path)
    server = simulator()
    mynth = MynthResource(api_key="mak_simulator", root="tables", base_url=server.url)
    resources = dg.Definitions(resources={"mynth": mynth})
    defs = dg.Definitions.merge(howtos["chairs"], howtos["kept"], resources)

    with dg.DagsterInstance.ephemeral() as instance:
        everything = defs.resolve_implicit_global_asset_job_def()
        made = everything.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("catalogue")]
        )
        assert made.success
        assert defs.resolve_job_def("chairs_all").execute_in_process(instance=instance).success
    assert server.log()["totals"]["accepted"] == 1


def test_howto_has_each_method_of_the_resource():
    """Those that take a batch, in the order in which they are called."""
    told = [code_in(name)[0] for name, *_ in rows(read(HOWTO), "method")]
    methods = {
        name
        for name, method in inspect.getmembers(MynthResource, inspect.isfunction)
        if not name.startswith("_") and "batch" in inspect.signature(method).parameters
    }
    assert told == ["quote", "submit", "wait", "collect", "status"]
    assert methods == set(told)


def test_the_sensor_that_requests_assets_is_off_at_first(howtos: dict[str, Any]):
    """As the page says where an asset is requested by itself."""
    told = "`default_automation_condition_sensor` does this; it is off until you switch it on."
    assert told in read(HOWTO)
    defs = dg.Definitions(assets=[howtos["contact_sheet"]])
    sensor = defs.get_repository_def().get_sensor_def("default_automation_condition_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
