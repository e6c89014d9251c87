"""Each example runs as it stands, from its own folder, against a simulated Mynth."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import dagster as dg
import pyarrow.dataset as ds
import pytest

from mynth_dagster.simulator import SimulatorServer
from tests.docs.markdown import ROOT, links, read

EXAMPLES = ROOT / "examples"
DAY = "2026-11-20"


@pytest.fixture
def mynth(simulator, monkeypatch: pytest.MonkeyPatch) -> SimulatorServer:
    """A simulated Mynth, named in the environment as the examples expect."""
    server: SimulatorServer = simulator()
    monkeypatch.setenv("MYNTH_BASE_URL", server.url)
    monkeypatch.setenv("MYNTH_API_KEY", "mak_simulator")
    return server


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Goes into a copy of an example; returns what it defines."""

    def enter(name: str, *arguments: str) -> dg.Definitions:
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.chdir(folder)
        if (folder / "make_prompts.py").exists():
            monkeypatch.setattr(sys, "argv", ["make_prompts.py", *arguments])
            runpy.run_path("make_prompts.py", run_name="__main__")
        if (folder / "definitions.py").exists():
            return runpy.run_path("definitions.py")["defs"]
        for module in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            monkeypatch.delitem(sys.modules, module)  # another project's, of an earlier test
        monkeypatch.syspath_prepend(folder)
        return import_module("shop.definitions").defs()

    return enter


def _run(defs: dg.Definitions, job: str, instance: dg.DagsterInstance, **kwargs):
    result = defs.resolve_job_def(job).execute_in_process(instance=instance, **kwargs)
    assert result.success
    return result


def _range(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def _images(batch: str):
    return ds.dataset(Path("tables", batch, "images"), partitioning="hive").to_table()


def test_nightly_shots(mynth, copy, instance):
    """YAML alone: yesterday's table over eight shards in one run, asked for by the schedule."""
    defs = copy("nightly_shots", DAY)

    _run(defs, "shots_all", instance, tags=_range(f"{DAY}|000", f"{DAY}|007"))

    images = _images("shots")
    assert images.num_rows == mynth.log()["totals"]["accepted"] == 24
    assert len(set(images.column("fan_out").to_pylist())) > 4
    assert {schedule.name for schedule in defs.schedules} == {"shots_nightly"}


def test_compare_models(mynth, copy, instance):
    """Four partitions of one table, and a ranking over all of them by cost per success."""
    defs = copy("compare_models")
    job = defs.resolve_job_def("heroes_all")
    models = job.partitions_def.get_partition_keys()

    _run(defs, "heroes_all", instance, tags=_range(models[0], models[-1]))
    everything = defs.resolve_implicit_global_asset_job_def()
    ranked = everything.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("ranking")]
    )

    assert mynth.log()["totals"]["accepted"] == 3 * 4
    (event,) = ranked.asset_materializations_for_node("ranking")
    table = event.metadata["ranking"].value.splitlines()[2:]
    prices = [float(row.split("|")[3]) for row in table]
    assert len(prices) == 4
    assert prices == sorted(prices)
    assert event.metadata["cheapest"].value == table[0].split("|")[1].strip()


def test_from_an_asset(mynth, copy, instance):
    """A frame becomes prompts, its other columns reach the images and the daily report."""
    defs = copy("from_an_asset")
    everything = defs.resolve_implicit_global_asset_job_def()

    def materialize(*key: str, partition: str):
        return everything.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(key)], partition_key=partition
        )

    materialize("catalogue", "products", partition=DAY)
    _run(defs, "jams_all", instance, tags=_range(f"{DAY}|000", f"{DAY}|001"))
    report = materialize("report", partition=DAY)

    (event,) = report.asset_materializations_for_node("report")
    assert event.metadata["jars"].value == 6
    assert mynth.log()["totals"]["accepted"] == 6


def test_dropped_files(mynth, copy, instance):
    """The sensor finds both files, adds their partitions, and each run lands its images."""
    defs = copy("dropped_files")
    sensor = defs.resolve_sensor_def("drops_new_files")
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        tick = sensor(context)
    for request in tick.dynamic_partitions_requests:
        instance.add_dynamic_partitions("drops", request.partition_keys)

    for request in tick.run_requests:
        _run(defs, "drops_all", instance, partition_key=request.partition_key)

    assert set(_images("drops").column("file").to_pylist()) == {"spring%2C final", "autumn v2"}
    assert mynth.log()["totals"]["accepted"] == 6


def test_python_only(mynth, copy, instance):
    """One unpartitioned run from prompts to images."""
    defs = copy("python_only")

    _run(defs, "postcards_all", instance)

    assert _images("postcards").num_rows == 4
    assert mynth.log()["totals"]["accepted"] == 2


def test_page_names_each_example():
    """The list of examples is complete."""
    page = EXAMPLES / "README.md"
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}

    assert {link.split("/")[0] for link in links(page)} == folders
    assert all(f"({name}/" in read(page) for name in folders)
