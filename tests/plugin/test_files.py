"""The asset `files`: there when wanted, with what is collected, and asked for until it is done."""

from __future__ import annotations

import dagster as dg
import pyarrow.dataset as ds

from mynth_dagster import Checks, Files
from mynth_dagster.plugin.batch_assets import TABLES
from tests.plugin.test_sensor import FIRST, LAST

CDN = "GET /cdn/:file"
FOUR = ["2026-11-19|000", "2026-11-19|001", "2026-11-20|000", "2026-11-20|001"]
KEY = dg.AssetKey(["shots", "files"])


def _with_files(project, **changes):
    return project.definitions(**{"files": Files(), **changes})


def _n_fetched(project) -> int:
    return int(project.simulator.log()["requests"].get(CDN, 0))


def _images(project):
    table = ds.dataset(project.folder / "data" / "shots" / "images", partitioning="hive")
    return table.to_table().to_pylist()


def _check(result):
    (found,) = [e for e in result.get_asset_check_evaluations() if e.asset_key == KEY]
    return found


def test_a_batch_without_files_has_no_such_asset(project):
    """Neither asset nor check, and the jobs make the tables alone."""
    keys = project.definitions().resolve_all_asset_keys()

    assert {key.path[-1] for key in keys} == set(TABLES)


def test_files_stand_downstream_of_images(project):
    """In the same partitions, in the jobs that collect, with a key that can be moved."""
    graph = _with_files(project).resolve_asset_graph()

    node = graph.get(KEY)
    assert node.parent_keys == {dg.AssetKey(["shots", "images"])}
    assert node.partitions_def == graph.get(dg.AssetKey(["shots", "images"])).partitions_def
    for doing, is_there in {"collect": True, "all": True, "submit": False}.items():
        job = _with_files(project).resolve_job_def(f"shots_{doing}")
        assert (KEY in job.asset_layer.selected_asset_keys) is is_there


def test_all_in_one_run_keeps_the_files_too(project):
    """Each partition is recorded once, with figures; nothing is fetched twice."""
    project.simulator.set_scenario(progress="immediate")
    defs = _with_files(project)

    result = project.execute("all", FIRST, LAST, defs=defs)

    assert result.success
    assert sorted(project.recorded("files")) == FOUR
    assert _n_fetched(project) == len(_images(project)) == 24
    assert all(row["file_sha256"] for row in _images(project))
    assert _check(result).passed
    (record, *_) = project.instance.fetch_materializations(KEY, limit=1).records
    metadata = record.asset_materialization.metadata
    assert metadata["mynth/files"].value == metadata["mynth/downloaded"].value > 0
    assert metadata["mynth/files_missing"].value == 0
    assert metadata["dagster/uri"].value.endswith(f"fan_out={record.partition_key[-3:]}")


def test_files_that_are_missing_are_reported_and_do_not_stop_a_run(project):
    """The check warns; `failures` tells; a threshold makes it an error."""
    gone = [{"route": CDN, "kind": "status", "status": 404}]
    project.simulator.set_scenario(progress="immediate", faults=gone)

    warned = project.execute("all", FOUR[0], defs=_with_files(project))
    strict = Checks(missing_file_rate_error=0.0)
    failed = project.execute("all", FOUR[0], defs=_with_files(project, checks=strict))

    assert warned.success
    assert failed.success
    assert (_check(warned).passed, _check(warned).severity) == (False, dg.AssetCheckSeverity.WARN)
    assert _check(failed).severity is dg.AssetCheckSeverity.ERROR
    failures = ds.dataset(project.folder / "data" / "shots" / "failures").to_table().to_pylist()
    assert {row["stage"] for row in failures} == {"download"}


def test_the_sensor_asks_until_files_are_kept(project):
    """A store that fails fails the run, not the images; the next tick asks again."""
    defs = _with_files(project)
    project.execute("submit", FIRST, LAST, defs=defs)
    project.simulator.complete()
    in_the_way = project.folder / "data" / "shots" / "files"
    in_the_way.write_text("a file where a folder should be")

    first = [_run(project, defs, request) for request in project.tick(defs).run_requests]
    again = project.tick(defs).run_requests
    in_the_way.unlink()
    second = [_run(project, defs, request) for request in again]

    assert [result.success for result in first + second] == [False, False, True, True]
    assert sorted(project.recorded("files")) == FOUR
    assert project.tick(defs).run_requests == []
    assert _n_fetched(project) == 24


def test_files_that_are_wanted_later_are_asked_for(project):
    """What was collected before is downloaded then; without `files` nobody asks."""
    project.execute("submit", FIRST, LAST)
    project.simulator.complete()
    for request in project.tick().run_requests:
        _run(project, project.definitions(), request)
    assert project.tick().run_requests == []

    defs = _with_files(project)
    results = [_run(project, defs, request) for request in project.tick(defs).run_requests]

    assert [result.success for result in results] == [True, True]
    assert _n_fetched(project) == 24
    assert project.tick(defs).run_requests == []


def test_files_alone_may_be_materialized(project):
    """Downstream of images that are there, as often as wanted."""
    project.simulator.set_scenario(progress="immediate")
    project.execute("all", FOUR[0])
    defs = _with_files(project)

    for _ in range(2):
        result = dg.materialize(
            [asset for asset in defs.assets if KEY in asset.keys],
            instance=project.instance,
            partition_key=FOUR[0],
            resources={"mynth": project.resource},
        )
        assert result.success

    assert _n_fetched(project) == len(_images(project))


def _run(project, defs, request):
    job = defs.resolve_job_def("shots_collect")
    return job.execute_in_process(
        instance=project.instance,
        partition_key=request.partition_key,
        tags={k: v for k, v in request.tags.items() if not k.startswith("dagster/partition")},
        raise_on_error=False,
    )
