"""Files in S3: a real server of its protocol, and kills half-way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO

import pytest
import s3fs
from PIL import Image

from mynth_dagster.errors import TableError
from mynth_dagster.limits import UPLOAD_PART_BYTES
from mynth_dagster.models.batch_settings import Files
from tests.crash.job import Job
from tests.faults.front import Front
from tests.faults.invariants import Scene
from tests.faults.s3 import BUCKET, objects_in, running_s3, unfinished_in

CDN = "GET /cdn/:file"
CONCURRENCY = 3
STORE = Files(store=f"s3://{BUCKET}/pictures", concurrency=CONCURRENCY)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A server of its own; clients of this process and of its children find it."""
    with running_s3() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield environment
        s3fs.S3FileSystem.clear_instance_cache()


def require_files(work, s3, n_images: int) -> None:
    """Each object is what its row says, under its own name, and there is no other."""
    objects, rows = objects_in(s3), work.table("images")
    assert len(objects) == len(rows) == n_images
    for row in rows:
        content = objects[row["file_path"].removeprefix(f"s3://{BUCKET}/")]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            row["file_bytes"],
            row["file_sha256"],
        )
    assert unfinished_in(s3) == 0


def test_files_lie_in_a_bucket_as_their_rows_say(new_stage, s3):
    """Fetched once, put in one piece, found again by the next run."""
    work = new_stage()

    work.run(8, files=STORE)
    again = work.run(8, files=STORE)

    require_files(work, s3, 8)
    assert again.files == 8
    assert work.log["requests"][CDN] == 8


def test_a_large_file_is_uploaded_in_parts_and_seen_whole(new_stage, s3):
    """Above the least part size of S3; nothing of the upload stays behind."""
    work, buffer = new_stage(), BytesIO()
    Image.effect_noise((2600, 2600), 80).save(buffer, "PNG")
    with Front(work.server, lambda visit: visit.say("200 OK", buffer.getvalue())) as front:
        work.run(1, files=STORE, settings={"base_url": front.url})

    require_files(work, s3, 1)
    assert work.table("images")[0]["file_bytes"] > UPLOAD_PART_BYTES


def test_a_bucket_that_is_not_there_is_reported(new_stage, s3):
    """In words, and no image is blamed."""
    work = new_stage()

    with pytest.raises(TableError, match=r"nowhere|bucket"):
        work.run(2, files=Files(store="s3://nowhere"))

    assert work.query("SELECT count(*) FROM downloads") == [(0,)]


def test_a_kill_half_way_repeats_at_most_what_was_under_way(simulator, tmp_path, s3):
    """SIGKILL while files are fetched; the next run has all of them, each object whole."""
    n_rows = 40
    server = simulator(revision="2026-10")
    job = Job(
        server.url,
        str(tmp_path / "root"),
        f"sqlite:///{tmp_path / 'ledger.db'}",
        n_rows,
        keeps_files=True,
        store=STORE.store,
    )
    process = _start(job)
    deadline_s = time.monotonic() + 60
    while server.log()["requests"].get(CDN, 0) < n_rows // 2:
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)

    assert _start(job).wait(100) == 0

    require_files(Scene({}, tmp_path / "root", ""), s3, n_rows)
    assert n_rows <= server.log()["requests"][CDN] <= n_rows + CONCURRENCY


def _start(job: Job) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.job", json.dumps(asdict(job))]
    return subprocess.Popen(command, env=dict(os.environ))
