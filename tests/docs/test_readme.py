"""The README: its tables are those of the code, and its examples run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.tables.schemas import schema_of
from tests.docs.loaded import definitions_of, partitions_by_key
from tests.docs.markdown import (
    DOCS,
    README,
    blocks,
    code_in,
    commands,
    execute,
    read,
    rows,
    section,
)

SIMULATOR_URL = "http://127.0.0.1:8787"
START_TAG = "dagster/asset_partition_range_start"
END_TAG = "dagster/asset_partition_range_end"


def test_result_tables_have_the_columns_listed():
    """The columns of each table, in their order."""
    told = {
        code_in(name)[0]: code_in(columns)
        for name, _, columns in rows(section(README, "The tables it writes"), "table")
    }
    assert told == {
        "tasks": schema_of("tasks").names,
        "images": schema_of("images").names,
        "failures": schema_of("failures").names,
    }


def test_readme_is_short():
    """At most 200 lines."""
    assert len(read(README).splitlines()) <= 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader would be: a folder with a prompt table."""
    pq.write_table(
        pa.table({"prompt": ["a red kite", "a blue kite"]}), tmp_path / "prompts.parquet"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_quick_start_runs(
    folder: Path,
    simulator: Callable[..., SimulatorServer],
    monkeypatch: pytest.MonkeyPatch,
):
    """The quick start loads, submits and collects one day; readers read it as the pages say."""
    mynth = simulator()
    monkeypatch.setenv("MYNTH_API_KEY", "mak_simulator")
    names: dict[str, Any] = {}
    execute(blocks(README, "python")[0].replace(SIMULATOR_URL, mynth.url), names)
    assert sum(isinstance(value, dg.Definitions) for value in names.values()) == 1
    defs = names["defs"]
    partitions = defs.resolve_job_def("packaging_all").partitions_def
    day = partitions.primary_dimension.partitions_def.get_last_partition_key()
    tags = {START_TAG: f"{day}|000", END_TAG: f"{day}|003"}
    by_folder, by_asset = blocks(DOCS / "tables.md", "python")

    with dg.DagsterInstance.ephemeral() as instance:
        for phase in ("submit", "collect"):
            job = defs.resolve_job_def(f"packaging_{phase}")
            assert job.execute_in_process(tags=tags, instance=instance).success
        assert mynth.log()["totals"]["accepted"] == 2

        execute(by_folder.replace("2026-11-21", day), names)
        assert names["one_day"].num_rows == 2
        execute(by_asset, names)
        everything = dg.Definitions.merge(defs, names["downstream"])
        reading = everything.resolve_implicit_global_asset_job_def()
        assert reading.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("report")], partition_key=day
        ).success


def test_quick_start_is_the_same_batch_in_yaml():
    """In at most 15 lines of Python and 10 of YAML: the same assets, and a schedule besides."""
    (python, _), (written,) = blocks(README, "python"), blocks(README, "yaml")
    assert len(python.splitlines()) <= 15
    assert len(written.splitlines()) <= 10
    names: dict[str, Any] = {}
    execute(python, names)
    defs = definitions_of(yaml.safe_load(written))
    assert [schedule.name for schedule in defs.schedules] == ["packaging_nightly"]
    assert partitions_by_key(defs) == partitions_by_key(names["defs"])


def test_command_line_runs(folder: Path, simulator: Callable[..., SimulatorServer]):
    """The commands under "Without Dagster" work as told, and twice cost nothing more."""
    mynth = simulator()
    environment = {"MYNTH_API_KEY": "mak_simulator", "MYNTH_BASE_URL": mynth.url}
    typed = [line for line in commands(README) if line.startswith("mynth-dagster run")]
    assert typed
    for line in typed * 2:
        run = CliRunner().invoke(app, shlex.split(line)[1:], env=environment)
        assert run.exit_code == 0, run.output
    assert mynth.log()["totals"]["accepted"] == 2


def test_example_test_passes(tmp_path: Path):
    """The test that users are told to write passes."""
    names: dict[str, Any] = {}
    execute(blocks(README, "python")[1], names)
    names["test_every_prompt_becomes_one_image"](tmp_path)
