"""Files of images: each fetched once, looked at, kept under a name of ours, and told of."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from PIL import Image

from mynth_dagster.engine.download import keep_files
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.batch_settings import Files
from mynth_dagster.tables.audit import audit_slice
from mynth_dagster.tables.store import TableStore
from tests.batches import make_batch

CDN = "GET /cdn/:file"
FILES = Files()


def keep(bench, *, stop=None, settings=None, session=None, **fields):
    """What a run does for the files of the one partition."""
    batch = make_batch("b", files=Files(**(settings or {})), **fields)

    async def kept():
        async with bench.session(**(session or {})) as opened:
            return await keep_files(opened, batch, Slice(), stop=stop or CancelToken())

    return asyncio.run(kept())


def n_fetched(bench) -> int:
    return int(bench.log["requests"].get(CDN, 0))


def failed(bench) -> dict[str, int]:
    """Failed downloads by code."""
    rows = [row for row in bench.table("failures") if row["stage"] == "download"]
    return dict(Counter(row["error_code"] for row in rows))


def files_of(bench) -> list[Path]:
    return sorted(path for path in (bench.root / "b" / "files").rglob("*") if path.is_file())


def require_files(bench, n_images: int) -> None:
    """Each image has its file, under its own name, and is what its row says."""
    rows = bench.table("images")
    assert len(rows) == n_images
    for row in rows:
        path = Path(row["file_path"])
        content = path.read_bytes()
        assert path.name == f"{row['intent_id']}-{row['image_index']}.{row['format']}"
        assert row["file_bytes"] == len(content)
        assert row["file_sha256"] == hashlib.sha256(content).hexdigest()
        with Image.open(path) as picture:
            assert picture.size == (row["width"], row["height"])
    assert len(files_of(bench)) == n_images


@pytest.mark.parametrize(
    ("revision", "output_format"), [("2026-04", "png"), ("2026-08", "jpg"), ("2026-10", "webp")]
)
def test_each_image_is_fetched_once_and_kept(bench, output_format):
    """In every format and revision; a second run finds everything done and asks for nothing."""
    work = bench()
    rows = [{"prompt_id": f"p{n}", "prompt": f"p {n}", "count": 2} for n in range(3)]
    rows = [{**row, "output_format": output_format} for row in rows]

    report = work.run(rows, files=FILES)
    before = work.bytes_of_tables()
    again = work.run(rows, files=FILES)

    require_files(work, 6)
    assert n_fetched(work) == 6
    assert (report.files, again.files, report.images) == (6, 6, 6)
    assert work.bytes_of_tables() == before
    assert audit_slice(TableStore(str(work.root), "b"), Slice()).passed


def test_files_may_be_kept_later(new_bench):
    """A batch that was collected without files gets them when it asks; tables tell of them."""
    work = new_bench()
    work.run(5)
    assert {row["file_path"] for row in work.table("images")} == {None}

    report = keep(work)

    require_files(work, 5)
    assert (report.counts.n_fetched, report.summary.n_files, report.summary.n_missing) == (5, 5, 0)
    assert report.summary.n_bytes == sum(path.stat().st_size for path in files_of(work))
    assert report.uri == str(work.root / "b" / "files")
    work.run(5)
    require_files(work, 5)
    assert n_fetched(work) == 5


def test_tables_of_an_earlier_release_are_written_anew(new_bench):
    """They have no columns for files yet."""
    work = new_bench()
    work.run(3)
    (path,) = (work.root / "b" / "images").rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["file_path", "file_bytes", "file_sha256"]), path)

    keep(work)

    require_files(work, 3)


def test_files_may_lie_elsewhere(new_bench):
    """In a store of their own, while the tables stay."""
    work = new_bench()
    elsewhere = work.folder / "pictures"

    work.run(3, files=Files(store=str(elsewhere)))

    paths = {Path(row["file_path"]).parent for row in work.table("images")}
    assert paths == {elsewhere / "b" / "files"}
    assert not (work.root / "b" / "files").exists()


def test_a_dead_url_is_asked_for_again_once(new_bench):
    """The task is read anew, and the image comes from the URL that it tells now."""
    work = new_bench()
    work.server.set_scenario(public_url=f"{work.server.url}/moved")
    work.run(4)
    work.server.set_scenario(public_url=None)

    keep(work)

    require_files(work, 4)
    assert failed(work) == {}


def test_an_image_that_is_gone_was_paid_for_and_is_reported_so(bench):
    """Asked for again once, then `url_expired`; it stays an image, and its money is charged."""
    work = bench(faults=[{"route": CDN, "kind": "status", "status": 404}])

    report = work.run(3, files=FILES)

    assert failed(work) == {"url_expired": 3}
    assert (report.images, report.files) == (3, 0)
    assert n_fetched(work) == 6
    for row in (row for row in work.table("failures") if row["stage"] == "download"):
        assert (row["money"], row["http_status"], row["retryable"]) == ("charged", 404, False)
        assert row["task_id"]
        assert "paid for" in row["next_step"]
    assert audit_slice(TableStore(str(work.root), "b"), Slice()).passed
    assert files_of(work) == []


def test_what_failed_is_tried_again_by_the_next_run(new_bench):
    """And its failure leaves the tables when the file is there."""
    work = new_bench(faults=[{"route": CDN, "kind": "status", "status": 404}])
    work.run(3, files=FILES)
    work.server.set_scenario(faults=())

    work.run(3, files=FILES)

    require_files(work, 3)
    assert failed(work) == {}


def test_the_same_failure_twice_writes_the_same_bytes(new_bench):
    """Nothing to tell, nothing to write."""
    work = new_bench(faults=[{"route": CDN, "kind": "status", "status": 404}])
    work.run(3, files=FILES)
    before = work.bytes_of_tables()

    keep(work)

    assert work.bytes_of_tables() == before


@pytest.mark.parametrize("kind", ["server_error", "reset", "truncated", "rate_limited"])
def test_what_may_pass_is_tried_again_at_once(new_bench, kind):
    """Nothing of the first try is kept."""
    work = new_bench(faults=[{"route": CDN, "kind": kind, "first": 4}])

    work.run(8, files=FILES)

    require_files(work, 8)


def test_what_does_not_pass_is_given_up(new_bench):
    """After three tries, with the reason; no part of a file stays."""
    work = new_bench(faults=[{"route": CDN, "kind": "truncated"}])

    work.run(2, files=FILES)

    assert failed(work) == {"truncated": 2}
    assert n_fetched(work) == 6
    assert files_of(work) == []
    assert all(row["retryable"] for row in work.table("failures"))


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"max_bytes": 100}, "too_large"), ({"max_pixels": 100}, "too_many_pixels")],
)
def test_files_beyond_the_limits_are_refused(new_bench, settings, code):
    """By announced length and by their own header."""
    work = new_bench()

    work.run(2, files=Files(**settings))

    assert failed(work) == {code: 2}
    assert files_of(work) == []


def test_what_is_no_picture_is_refused(new_bench):
    """By its first bytes, whatever the answer calls it."""
    work = new_bench(
        faults=[{"route": CDN, "kind": "html_error", "status": 200, "with_task": True}]
    )

    work.run(2, files=FILES)

    assert failed(work) == {"wrong_type": 2}
    assert files_of(work) == []


def test_an_image_in_ones_own_storage_without_a_url_comes_from_mynths_copy(new_bench):
    """A null URL is no failure where Mynth keeps a copy."""
    work = new_bench(private_destinations=["shop"])
    rows = [{"prompt_id": "p", "prompt": "p", "destination": "shop"}]

    work.run(rows, files=FILES)

    assert {row["url"] for row in work.table("images")} == {None}
    require_files(work, 1)


def test_a_file_that_has_its_name_already_is_taken_in(new_bench):
    """The ledger was lost or came too late: it is looked at, and not fetched again."""
    work = new_bench()
    work.run(4, files=FILES)
    work_ids = {row["file_path"] for row in work.table("images")}
    forget(work)

    report = keep(work)

    assert (report.counts.n_taken_in, report.counts.n_fetched) == (4, 0)
    assert n_fetched(work) == 4
    assert {row["file_path"] for row in work.table("images")} == work_ids


def test_a_file_that_is_damaged_is_not_taken_in(new_bench):
    """It is fetched anew and replaced."""
    work = new_bench()
    work.run(2, files=FILES)
    first, second = files_of(work)
    first.write_bytes(first.read_bytes()[:100])
    second.write_bytes(b"")
    forget(work)

    report = keep(work)

    assert report.counts.n_fetched == 2
    require_files(work, 2)


def forget(work) -> None:
    """As if the ledger had never heard of the files."""
    engine = sa.create_engine(work.ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM downloads"))
        connection.execute(sa.text("UPDATE partitions SET version = version + 1"))
    engine.dispose()


def test_a_cancelled_run_leaves_the_rest_to_the_next(new_bench):
    """Nothing is marked as done that is not."""
    work = new_bench()
    work.run(6)
    stop = CancelToken()
    stop.set(CANCELLED)

    report = keep(work, stop=stop)

    assert (report.counts.n_fetched, report.summary.n_missing) == (0, 6)
    assert work.query("SELECT downloaded FROM partitions") == [(0,)]
    keep(work)
    require_files(work, 6)
    assert work.query("SELECT downloaded - version FROM partitions") == [(0,)]


def test_a_store_that_cannot_be_written_stops_the_run_and_not_the_images(new_bench):
    """The tables stay as they are, no image is blamed, and the next run goes on."""
    work = new_bench()
    work.run(4)
    before = work.bytes_of_tables()
    (work.root / "b" / "files").write_text("a file where a folder should be")

    with pytest.raises(TableError):
        keep(work)

    assert work.bytes_of_tables() == before
    assert work.query("SELECT count(*) FROM downloads") == [(0,)]
    (work.root / "b" / "files").unlink()
    keep(work)
    require_files(work, 4)


def test_urls_are_dated_where_somebody_says_so(bench):
    """The batch's own word, else that of the revision: seven days in 2026-10, before it nothing."""

    def days() -> set[int | None]:
        rows = work.table("images")
        dates = [(row["url_expires_at"], row["completed_at"]) for row in rows]
        return {(end and (end - begin).days) for end, begin in dates}

    work = bench()
    work.run(2)
    assert days() == ({7} if work.server.scenario.revision == "2026-10" else {None})

    work.run(2, url_lifetime_s=3 * 86_400.0)

    assert days() == {3}


def test_memory_is_bounded_by_the_workers(new_bench):
    """No more pictures are under way than were asked for."""
    work = new_bench(faults=[{"route": CDN, "kind": "slow", "delay_s": 0.01}])
    work.run(30)
    work.server.app.counts.restart()

    keep(work, settings={"concurrency": 3})

    assert 1 <= work.log["peak_in_flight"] <= 3


@pytest.mark.parametrize("place", ["nowhere://shop", "hdfs://shop/x"])
def test_a_store_that_is_no_place_is_reported_before_anything_is_fetched(new_bench, place):
    """The setting is named."""
    work = new_bench()
    work.run(2)

    with pytest.raises(ConfigError, match=r"files\.store"):
        keep(work, settings={"store": place})

    assert n_fetched(work) == 0
