"""A project as Dagster's own tool makes it, with one scaffolded component, materializes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mynth_dagster.simulator import SimulatorServer

DAY = "2026-11-20"
SIMULATED = "base_url: http://127.0.0.1:8787"


def _tool(name: str) -> str:
    """A command beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def _type(folder: Path, *command: str, fails: bool = False) -> str:
    """What a user would type there; its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": "src", "MYNTH_API_KEY": "mak_simulator"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = found.stdout + found.stderr
    assert (found.returncode != 0) is fails, said
    return said


@pytest.mark.skipif(
    shutil.which(_tool("create-dagster")) is None, reason="create-dagster is not installed"
)
@pytest.mark.timeout(180)
def test_new_project_materializes_a_scaffolded_batch(
    tmp_path: Path, simulator, monkeypatch: pytest.MonkeyPatch
):
    """`create-dagster`, `dg scaffold defs`, a prompt table, a key: nothing else is needed."""
    mynth: SimulatorServer = simulator()
    _type(tmp_path, _tool("create-dagster"), "project", "shop", "--no-uv-sync")
    project = tmp_path / "shop"
    assert "MynthImagesComponent" in _type(project, _tool("dg"), "list", "components")
    _type(project, _tool("dg"), "scaffold", "defs", "mynth_dagster.MynthImagesComponent", "shots")
    written = project / "src" / "shop" / "defs" / "shots" / "defs.yaml"
    text = written.read_text("utf-8")
    assert f"# {SIMULATED}" in text
    written.write_text(text.replace(f"# {SIMULATED}", f"base_url: {mynth.url}"), "utf-8")
    pq.write_table(pa.table({"prompt": ["a kite", "a boat"]}), project / "prompts.parquet")
    _type(project, _tool("dg"), "check", "defs")
    good = written.read_text("utf-8")
    written.write_text(good.replace("fan_out: 4", "fan_out: 4000"), "utf-8")
    said = _type(project, _tool("dg"), "check", "defs", fails=True)
    assert "fan_out: 4000 is neither 1 to 1000 shards" in said
    written.write_text(good, "utf-8")

    monkeypatch.chdir(project)
    monkeypatch.setenv("MYNTH_API_KEY", "mak_simulator")
    monkeypatch.syspath_prepend(project / "src")
    defs = dg.load_from_defs_folder(path_within_project=project / "src" / "shop")
    tags = {
        "dagster/asset_partition_range_start": f"{DAY}|000",
        "dagster/asset_partition_range_end": f"{DAY}|003",
    }
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("shots_all")
        assert job.execute_in_process(instance=instance, tags=tags).success

    images = ds.dataset(project / "data" / "shots" / "images", partitioning="hive")
    assert images.count_rows() == mynth.log()["totals"]["accepted"] == 2
