"""Input files: judged before anything is spent, uploaded once, each row on its own."""

from __future__ import annotations

import asyncio
import os
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from mynth_dagster.engine import uploads as module
from mynth_dagster.engine.run import RunProgress, run_table
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.tables.source import open_source
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import KEY, MODEL, WITH_INPUTS, draw_input, write_parquet

DAY_S = 86_400.0


def uploads(bench: Bench) -> tuple[int, int]:
    """Requests that uploaded, and files that they brought, as the simulator counts."""
    return bench.log["requests"].get("POST /image/upload", 0), bench.log["uploaded_files"]


def rows_with(files: list[Any], n_rows: int, **more: Any) -> list[dict[str, Any]]:
    """Rows that start from these files in turn."""
    return [
        {"prompt_id": f"p{n:03d}", "prompt": f"variation {n}", "inputs": [str(f)], **more}
        for n, f in zip(range(n_rows), files * n_rows, strict=False)
    ]


def inputs_at_mynth(bench: Bench) -> list[list[Any]]:
    """The inputs of each accepted request, in the order of the simulator's log."""
    found = []
    with httpx.Client(base_url=bench.server.url) as http:
        for entry in bench.log["accepted"]:
            headers = {"authorization": f"Bearer {KEY}"}
            body = http.get(f"/tasks/{entry['task_id']}", headers=headers).json()
            found.append(body.get("data", body)["request"]["inputs"])
    return found


def url_of(entry: Any) -> str:
    return entry if isinstance(entry, str) else entry["source"]["url"]


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return [draw_input(tmp_path / "inputs", n) for n in range(40)]


def test_forty_files_of_five_hundred_rows_are_uploaded_once_in_four_requests(new_bench, files):
    """And a second run, of other rows too, uploads none."""
    work = new_bench()

    report = work.run(rows_with(files, 500), models=(WITH_INPUTS,))
    assert report.images == 500
    assert uploads(work) == (4, 40)

    again = work.run([*rows_with(files, 500), *rows_with(files, 520)[500:]], models=(WITH_INPUTS,))
    assert (again.posts_sent, uploads(work)) == (20, (4, 40))


def test_mynth_can_read_what_a_row_starts_from(bench, files):
    """Each request carries the URL under which the bytes of its own file are served."""
    work = bench()
    work.run(rows_with(files[:3], 6), models=(WITH_INPUTS,))

    by_prompt = {entry["prompt"]: n for n, entry in enumerate(work.log["accepted"])}
    inputs = inputs_at_mynth(work)
    for n in range(6):
        (entry,) = inputs[by_prompt[f"variation {n}"]]
        assert httpx.get(url_of(entry)).content == files[n % 3].read_bytes()


def test_roles_travel_with_their_files(new_bench, files):
    """A role is said beside the uploaded URL, in the revision's words."""
    work = new_bench()
    roles = ["source", "reference"]
    inputs = [{"url": str(file), "role": role} for file, role in zip(files, roles, strict=False)]
    work.run([{"prompt_id": "a", "prompt": "worn", "inputs": inputs}], models=(WITH_INPUTS,))

    (sent,) = inputs_at_mynth(work)
    assert [entry["as"] for entry in sent] == roles


def test_a_file_is_uploaded_again_when_its_url_may_have_died(new_bench, files):
    """After the lifetime that the settings give it, and not before."""
    work = new_bench()
    work.run(rows_with(files[:10], 10), models=(WITH_INPUTS,))
    work.clock.advance(DAY_S / 4)
    work.run(rows_with(files[:10], 11), models=(WITH_INPUTS,))
    assert uploads(work) == (1, 10)

    work.clock.advance(DAY_S)
    work.run(rows_with(files[:10], 12), models=(WITH_INPUTS,))
    assert uploads(work) == (2, 11)


def test_a_moved_or_renamed_file_is_the_same_request(new_bench, files, tmp_path):
    """What counts is the content; an edited file is a new wish."""
    work = new_bench()
    work.run(rows_with(files[:2], 2), models=(WITH_INPUTS,))
    moved = files[0].rename(tmp_path / "elsewhere.png")
    assert work.run(rows_with([moved, files[1]], 2), models=(WITH_INPUTS,)).posts_sent == 0

    moved.write_bytes(files[5].read_bytes())
    assert work.run(rows_with([moved, files[1]], 2), models=(WITH_INPUTS,)).posts_sent == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "input_not_found"),
        (b"GIF89a" + b"x" * 2000, "input_not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 2000, "input_not_an_image"),
        (b"RIFF\x00\x00\x00\x00AVI " + b"\x00" * 2000, "input_not_an_image"),
        (b"\x89PNG\r\n\x1a\n", "input_size"),
        (b"\xff\xd8\xff" + b"x" * (10 * 1024 * 1024), "input_size"),
    ],
    ids=["missing", "gif", "broken", "avi", "small", "large"],
)
def test_a_row_whose_file_is_missing_or_wrong_fails_alone(
    new_bench, files, tmp_path, content, code
):
    """Before anything is spent; its neighbours are delivered."""
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    work = new_bench()
    report = work.run(rows_with([files[0], bad, files[1]], 3), models=(WITH_INPUTS,))

    assert (report.images, report.posts_sent, report.failures) == (2, 2, {code: 1})
    (failure,) = work.table("failures")
    assert (failure["prompt_id"], failure["field"], failure["money"]) == (
        *("p001", "inputs", "not charged"),
    )
    assert str(bad) in failure["error_message"]


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_file_that_changes_after_the_check_keeps_its_row_back(new_bench, files, how, monkeypatch):
    """Not charged, and sent by a later run when the file is what was checked."""
    work = new_bench()
    original = files[1].read_bytes()
    real = module.read_input

    def spoil(path, *rest):
        if path == str(files[1]):
            files[1].unlink(missing_ok=True) if how == "gone" else files[1].write_bytes(
                files[9].read_bytes()
            )
        return real(path, *rest)

    monkeypatch.setattr(module, "read_input", spoil)
    report = work.run(rows_with(files[:3], 3), models=(WITH_INPUTS,))
    code = "input_not_found" if how == "gone" else "input_changed"
    assert (report.images, report.failures, report.withheld) == (2, {code: 1}, 1)

    monkeypatch.undo()
    files[1].write_bytes(original)
    report = work.run(rows_with(files[:3], 3), models=(WITH_INPUTS,))
    assert (report.images, report.posts_sent, report.failures) == (3, 1, {})
    work.require_sound(3)


def test_a_file_that_mynth_refuses_keeps_its_own_row_back(new_bench, files):
    """The request that brought it is divided; the others are uploaded."""
    work = new_bench()
    fault = {"kind": "status", "route": "POST /image/upload", "status": 422, "first": 1}
    work.server.set_scenario(faults=[fault])
    report = work.run(rows_with(files[:10], 10), models=(WITH_INPUTS,))
    assert (report.images, uploads(work)[1]) == (10, 10)


def test_an_upload_that_fails_costs_nothing_and_is_made_up_for(new_bench, files):
    """Rows wait with the reason, and the next run sends them."""
    work = new_bench()
    work.server.set_scenario(faults=[{"kind": "status", "route": "POST /image/upload"}])
    report = work.run(rows_with(files[:12], 12), models=(WITH_INPUTS,))
    assert (report.posts_sent, report.failures) == (0, {"upload_failed": 12})

    work.server.set_scenario(faults=())
    assert work.run(rows_with(files[:12], 12), models=(WITH_INPUTS,)).images == 12
    work.require_sound(12)


def test_a_model_that_takes_no_inputs_is_refused_before_anything_is_spent(bench, files):
    """By what the revision is known to offer; the check can be switched off."""
    work = bench()
    lacking = "recraft/recraft-v4"
    report = work.run(rows_with(files[:2], 2), models=(lacking,))
    assert (report.posts_sent, report.failures) == (0, {"capability_not_supported": 2})
    assert uploads(work) == (0, 0)

    report = work.run(rows_with(files[:2], 2), models=(lacking,), check_capabilities=False)
    assert work.n_posts == 2


def test_the_quote_tells_mynth_no_path(new_bench, files):
    """An estimate is asked with a placeholder; the folder's name never leaves."""
    work = new_bench()
    seen: list[bytes] = []

    class Spy(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self.inner = AiohttpTransport()

        async def handle_async_request(self, request):
            seen.append(b"" if request.url.path == "/image/upload" else await request.aread())
            return await self.inner.handle_async_request(request)

        async def aclose(self):
            await self.inner.aclose()

    report = work.run(rows_with(files[:2], 2), models=(WITH_INPUTS,), transport=Spy())
    assert report.images == 2
    assert not any(str(files[0].parent).encode() in body for body in seen)


def test_paths_start_at_the_folder_of_the_table(new_bench, files):
    """So a table and its pictures may be moved together."""
    work = new_bench()
    rows = rows_with([f.name for f in files[:2]], 2)
    table = write_parquet(files[0].parent / "p.parquet", rows)
    batch = make_batch("b", models=(WITH_INPUTS,))

    async def once():
        async with work.session() as session:
            source = open_source(table)
            return await run_table(
                *(session, batch, source), window="", stop=CancelToken(), progress=RunProgress()
            )

    assert asyncio.run(once()).images == 2


def test_nothing_is_read_outside_of_the_inputs_root(new_bench, files, tmp_path):
    """Neither by an absolute path, nor upwards, nor through a link."""
    work = new_bench()
    fenced = tmp_path / "fenced"
    inside = draw_input(fenced, 1)
    (fenced / "link.png").symlink_to(files[0])
    paths = [inside.name, str(files[0]), "../inputs/" + files[0].name, "link.png"]
    report = work.run(rows_with(paths, 4), models=(WITH_INPUTS,), inputs_root=str(fenced))

    assert (report.images, report.failures) == (1, {"input_outside_root": 3})


def test_files_may_lie_on_any_file_system(new_bench, files):
    """Such as fsspec's own in memory; a missing one there fails alone too."""
    work = new_bench()
    with fsspec.open("memory://pics/a.png", "wb") as remote:
        remote.write(files[0].read_bytes())
    paths = ["memory://pics/a.png", "memory://pics/none.png", "nowhere://x/a.png"]
    report = work.run(rows_with(paths, 3), models=(WITH_INPUTS,))
    assert (report.images, report.failures) == (1, {"input_not_found": 1, "input_unreadable": 1})


def test_an_input_key_stands_for_urls_that_change(new_bench):
    """Signed URLs of the same picture are the same wish as long as the key is."""
    work = new_bench()

    def row(token: str, key: str) -> list[dict[str, Any]]:
        inputs = [f"https://example.com/a.png?signature={token}"]
        return [{"prompt_id": "a", "prompt": "x", "inputs": inputs, "input_key": key}]

    sent = [
        work.run(row(*given), models=(WITH_INPUTS,)).posts_sent
        for given in [("1", "cat"), ("2", "cat"), ("3", "dog")]
    ]
    assert sent == [1, 0, 1]


def test_rows_without_files_ask_for_no_upload(new_bench):
    """The common case pays for none of this."""
    work = new_bench()
    work.run(5, models=(MODEL,))
    assert uploads(work) == (0, 0)


def test_a_missing_file_gives_no_other_row_its_name(new_bench, files):
    """Rows without ids: a row whose file is gone keeps its own, and nothing is paid again."""
    work = new_bench()
    rows = [{"prompt": "p", "inputs": [str(files[0])]}, {"prompt": "p", "inputs": None}]
    assert work.run(rows, models=(WITH_INPUTS,)).posts_sent == 2
    names = [row["prompt_id"] for row in work.table("images")]

    files[0].unlink()
    report = work.run(rows, models=(WITH_INPUTS,))

    assert report.posts_sent == 0
    assert [row["prompt_id"] for row in work.table("images")] == names


def test_images_stay_when_the_files_that_they_started_from_are_gone(new_bench, files):
    """They were paid for; the row is rejected for what is to come, and says so in `prompts`."""
    work = new_bench()
    rows = rows_with(files[:3], 3)
    work.run(rows, models=(WITH_INPUTS,))
    before = work.bytes_of_tables()
    for file in files[:3]:
        file.unlink()
    report = work.run(rows, models=(WITH_INPUTS,))

    assert (report.images, report.failures, report.posts_sent) == (3, {}, 0)
    assert work.bytes_of_tables().keys() == before.keys()
    assert {row["problem_code"] for row in work.table("prompts")} == {"input_not_found"}
    work.require_sound(3)


@pytest.mark.parametrize(
    "path", ["zip://a.png::{outside}", "memory://x/a.png", "simplecache::file://{outside}"]
)
def test_with_a_fence_nothing_outside_is_even_looked_at(new_bench, files, tmp_path, path):
    """No other file system, no chain of them: whether something is there is not told."""
    work = new_bench()
    inside = draw_input(tmp_path / "fenced", 1)
    spelled = [path.format(outside=files[0]), path.format(outside="/nowhere/at/all"), inside.name]
    report = work.run(rows_with(spelled, 3), models=(WITH_INPUTS,), inputs_root=str(inside.parent))

    assert (report.images, report.failures) == (1, {"input_outside_root": 2})


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(new_bench, files, tmp_path):
    """It is no regular file; its row fails alone."""
    work = new_bench()
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    report = work.run(rows_with([pipe, files[0]], 2), models=(WITH_INPUTS,))
    assert (report.images, report.failures) == (1, {"input_unreadable": 1})


def test_a_file_within_an_archive_is_read_at_both_times(new_bench, files, tmp_path):
    """Chained file systems of fsspec, when prompts are checked and when files are uploaded."""
    work = new_bench()
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(files[0], "a.png")
    report = work.run(rows_with([f"zip://a.png::{archive}"], 1), models=(WITH_INPUTS,))
    assert (report.images, report.failures) == (1, {})
