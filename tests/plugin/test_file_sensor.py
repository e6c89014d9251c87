"""One partition for each file that appears: keys, the sensor that adds them, and whole runs."""

from __future__ import annotations

import os

import dagster as dg
import fsspec
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.plugin import file_sensor
from mynth_dagster.plugin.file_sensor import PromptFolder, key_of, name_of
from tests.plugin.conftest import range_tags

FILES = dg.DynamicPartitionsDefinition(name="shots_files")


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1))
def test_every_name_has_a_safe_key_of_its_own(name):
    """No separator, comma, bracket, ellipsis or control character; and back again."""
    key = key_of(name)

    assert not set(key) & set("|,[]")
    assert "..." not in key
    assert not any(ord(char) < 32 or ord(char) == 127 for char in key)
    assert name_of(key) == name


def test_usual_names_stay_as_they_are():
    """A plain name is its own key."""
    assert key_of("spring-2026 v1.2") == "spring-2026 v1.2"
    assert key_of("a|b,c...d%") == "a%7Cb%2Cc%2E%2E%2Ed%25"


@pytest.fixture
def dropped(project):
    """A batch of files in a folder, two shards each, and a way to look at the folder."""
    folder = project.folder / "inbox"
    folder.mkdir()
    project.simulator.set_scenario(progress="immediate")
    settings = {"prompts": str(folder / "drop_{window}.parquet"), "partitions_def": FILES}
    defs = project.definitions(**settings, wait="run")

    def tick(cursor=None):
        sensor = defs.resolve_sensor_def("shots_new_files")
        with dg.build_sensor_context(
            instance=project.instance, definitions=defs, cursor=cursor
        ) as context:
            found = sensor.evaluate_tick(context)
        for request in found.dynamic_partitions_requests or []:
            project.instance.add_dynamic_partitions(FILES.name, request.partition_keys)
        return found

    def drop(name, n_rows=4):
        return project.write_prompts(
            [f"kite {n} of {name}" for n in range(n_rows)], f"inbox/{name}"
        )

    return project, defs, drop, tick


def _run(project, defs, request):
    return project.execute("all", defs=defs, **request.tags)


def test_new_file_becomes_a_partition_and_a_run(dropped):
    """Its key is added, its run covers all its shards, and its images land under its name."""
    project, defs, drop, tick = dropped
    drop("drop_a,b|c.parquet")

    found = tick()

    (request,) = found.run_requests
    assert project.instance.get_dynamic_partitions(FILES.name) == ["a%2Cb%7Cc"]
    assert _run(project, defs, request).success
    assert sorted(project.recorded("images")) == ["a%2Cb%7Cc|000", "a%2Cb%7Cc|001"]
    images = ds.dataset(project.folder / "data" / "shots" / "images", partitioning="hive")
    assert images.count_rows() == 4
    assert set(images.to_table().column("file").to_pylist()) == {"a%2Cb%7Cc"}


def test_same_file_is_launched_once(dropped):
    """The next tick is quiet and says what it saw."""
    _, _, drop, tick = dropped
    drop("drop_a.parquet")

    again = tick(tick().cursor)

    assert not again.run_requests
    assert again.skip_message == "1 files, 0 new or changed"


def test_changed_file_is_launched_again(dropped):
    """A file that is written anew is run again under a key of its own; only new rows are paid."""
    project, defs, drop, tick = dropped
    path = drop("drop_a.parquet")
    first = tick()
    _run(project, defs, first.run_requests[0])
    drop("drop_a.parquet", n_rows=6)
    os.utime(path, (2_000_000_000, 2_000_000_000))

    second = tick(first.cursor)

    (request,) = second.run_requests
    assert request.run_key != first.run_requests[0].run_key
    assert not second.dynamic_partitions_requests
    assert _run(project, defs, request).success
    assert project.n_accepted == 6


def test_many_files_are_launched_over_several_ticks(dropped, monkeypatch):
    """A tick takes so many, the next one goes on where it ended."""
    _, _, drop, tick = dropped
    monkeypatch.setattr(file_sensor, "NEW_FILES_MAX", 2)
    for name in "abc":
        drop(f"drop_{name}.parquet", n_rows=1)

    first = tick()
    second = tick(first.cursor)
    third = tick(second.cursor)

    counts = [len(t.run_requests or []) for t in (first, second, third)]
    assert counts == [2, 1, 0]


def test_other_files_are_left_alone(dropped):
    """Hidden names, other names, folders and half-written copies are no prompts."""
    project, _, drop, tick = dropped
    for name in (".drop_x.parquet", "_drop_x.parquet", "other.parquet", "drop_x.parquet.tmp"):
        drop(name)
    (project.folder / "inbox" / "drop_folder.parquet").mkdir()

    assert not tick().run_requests


def test_lost_cursor_loses_nothing(dropped):
    """Without a readable cursor all files are asked for again, under the same run keys."""
    _, _, drop, tick = dropped
    drop("drop_a.parquet")
    first = tick()

    again = tick("not json")

    assert [r.run_key for r in again.run_requests] == [r.run_key for r in first.run_requests]


def test_missing_folder_is_no_failure():
    """Nothing was dropped yet."""
    assert PromptFolder.of("/no/such/folder/{window}.parquet").files() == {}


def test_object_stores_work_alike():
    """Any fsspec URL can be an folder."""
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/drops/a.parquet", b"x")
    found = PromptFolder.of("memory://drops/{window}.parquet")

    assert list(found.files()) == ["a"]
    assert found.location("a") == "memory://drops/a.parquet"
    assert found.files()["a"]


def test_completion_sensor_knows_the_files(dropped):
    """What a run submitted for a file is asked for when it is settled."""
    project, defs, drop, tick = dropped
    drop("drop_a.parquet")
    (request,) = tick().run_requests
    project.execute("submit", defs=defs, **request.tags)

    (collect,) = project.tick(defs).run_requests

    wanted = range_tags("a|000", "a|001")
    assert wanted.items() <= collect.tags.items()


def test_a_name_that_no_folder_can_have_stands_in_nobodys_way(dropped):
    """A name whose key is too long for a partition's folder is left out; the others are run."""
    _, _, drop, tick = dropped
    drop("drop_good.parquet")
    drop(f"drop_{'я' * 60}.parquet")

    found = tick()

    assert [keys.partition_keys for keys in found.dynamic_partitions_requests] == [["good"]]
