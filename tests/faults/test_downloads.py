"""Downloads: URLs that are hostile, bodies that lie, stores that fail, and files that are gone."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mynth_dagster.engine.download import keep_files
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import TableError
from mynth_dagster.limits import DOWNLOAD_PACE_AFTER_S, REDIRECTS_MAX
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.batch_settings import Files
from tests.engine.post import batch, deliver, events, finish, in_session, outcomes, send_all
from tests.engine.test_download import keep
from tests.faults.front import Front, Visit

CDN = "GET /cdn/:file"
FILES = Files()
CANARY = "s3cr3t_signature_91c2e5"
KEY = "mak_canary_7f3a91c2e5b84d06"

INSIDE = [
    "http://127.0.0.1:1",
    "http://localhost:1",
    "http://10.0.0.1",
    "http://192.168.0.1",
    "http://169.254.169.254",
    "http://100.64.0.1",
    "http://0.0.0.0:1",
    "http://[::1]:1",
    "http://[::ffff:169.254.169.254]",
    "http://[64:ff9b::7f00:1]",
    "http://2130706433:1",
    "http://0x7f.1:1",
    "https://user:pass@127.0.0.1",
    "file:///etc/passwd#",
    "gopher://127.0.0.1",
]


class OneWay(MemoryFileSystem):
    """An object store that has no room for a while."""

    protocol = "oneway"
    store: dict[str, object] = {}  # noqa: RUF012 - as its parent has it
    pseudo_dirs = [""]  # noqa: RUF012 - the same
    has_room = True

    def _open(self, path, mode="rb", **options):
        if "w" in mode and not OneWay.has_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._open(path, mode, **options)


fsspec.register_implementation("oneway", OneWay, clobber=True)


def failed(work) -> dict[str, int]:
    """Failed downloads by code."""
    rows = [row for row in work.table("failures") if row["stage"] == "download"]
    return dict(Counter(row["error_code"] for row in rows))


def files_of(work) -> list[Path]:
    """Whatever lies where files are kept."""
    return [path for path in (work.root / "b" / "files").rglob("*") if path.is_file()]


def through(front: Front, **settings):
    """Settings of a run that speaks to the server in front."""
    return {"base_url": front.url, **settings}


def finish_well(work, front: Front, n_rows: int) -> None:
    """The files are served as they should be: another run has all of them, each paid for once."""
    front.answer = Visit.pass_through
    work.finish(n_rows, files=FILES, settings=through(front))
    assert failed(work) == {}
    assert len(files_of(work)) == n_rows


@pytest.mark.parametrize("any_public_host", [False, True], ids=["listed", "public"])
@pytest.mark.parametrize("base", INSIDE)
def test_urls_that_lead_inside_are_not_fetched(new_stage, base, any_public_host):
    """Loopback, private, link-local, carriers' and odd spellings: nothing is asked, all is told."""
    work = new_stage(public_url=base)

    work.run(3, files=FILES, settings={"any_public_host": any_public_host})

    assert failed(work) == {"unsafe_url": 3}
    assert CDN not in work.log["requests"]
    assert len(work.table("images")) == 3
    assert {row["money"] for row in work.table("failures")} == {"charged"}
    work.server.set_scenario(public_url=None)
    work.finish(3, files=FILES)


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:{port}/cdn/x",
        "http://127.0.0.1:{other}/cdn/x",
        "http://[::ffff:127.0.0.1]:{other}/cdn/x",
        "//2130706433:{other}/cdn/x",
        "file:///etc/passwd",
    ],
)
def test_redirects_that_lead_inside_are_stopped_at_that_hop(new_stage, location):
    """A host that is trusted sends us to one that is not: nobody is asked there."""
    work = new_stage()
    with Front(work.server) as front, Front(work.server) as other:
        place = location.format(port=front.server_port, other=other.server_port)
        front.answer = lambda visit: visit.say(f"302 Found\r\nLocation: {place}")

        work.run(2, files=FILES, settings=through(front, any_public_host=True))

        assert failed(work) == {"unsafe_url": 2}
        assert other.asked == []
        finish_well(work, front, 2)


def test_more_redirects_than_three_are_stopped(new_stage):
    """A circle ends, and three hops are followed."""
    work = new_stage()
    with Front(work.server) as front:
        front.answer = lambda visit: visit.say("302 Found\r\nLocation: /cdn/again")
        work.run(1, files=FILES, settings=through(front))
        n_asked = len(front.asked)

        assert failed(work) == {"too_many_redirects": 1}
        assert n_asked == 1 + REDIRECTS_MAX
        front.answer = _after_three_hops
        finish_well_by_hops(work, front)


def _after_three_hops(visit: Visit) -> None:
    name, _, hops = visit.path.partition("?hop=")
    n_hops = int(hops or 0)
    if n_hops < REDIRECTS_MAX:
        visit.say(f"307 Temporary\r\nLocation: {name}?hop={n_hops + 1}")
    else:
        visit.pass_through(name)


def finish_well_by_hops(work, front: Front) -> None:
    """Three hops within the origin lead to the file."""
    work.finish(1, files=FILES, settings=through(front))
    assert failed(work) == {}


def _too_short(visit: Visit) -> None:
    body = visit.picture()
    visit.say(f"200 OK\r\nContent-Length: {len(body) // 2}", body[: len(body) // 2])


def _too_long(visit: Visit) -> None:
    body = visit.picture()
    visit.say(f"200 OK\r\nContent-Length: {len(body) * 2}", body)


def _absent_and_cut(visit: Visit) -> None:
    body = visit.picture()
    visit.say("200 OK", body[: len(body) // 2])


def _endless(visit: Visit) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    visit.say("200 OK\r\nTransfer-Encoding: chunked", *[chunk] * 100)


def _a_page(visit: Visit) -> None:
    visit.say("200 OK\r\nContent-Type: image/webp", b"<html>please log in</html>")


def _compressed(visit: Visit) -> None:
    visit.say("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4", b"\x1f\x8b\x08\x00")


def _a_bomb(visit: Visit) -> None:
    huge = (65_535).to_bytes(4, "big") * 2
    visit.say("200 OK", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + huge + b"\x08\x02\0\0\0IEND\xaeB`\x82")


LIES = {
    "an announced length that is too small": (_too_short, "truncated", 3),
    "an announced length that is too big": (_too_long, "truncated", 3),
    "no announced length and half a body": (_absent_and_cut, "truncated", 3),
    "a body without an end": (_endless, "too_large", 1),
    "a page instead of a picture": (_a_page, "wrong_type", 1),
    "a body that is compressed": (_compressed, "wrong_type", 1),
    "a header that claims four billion pixels": (_a_bomb, "too_many_pixels", 1),
}


@pytest.mark.parametrize("lie", LIES)
def test_bodies_that_lie_are_not_kept(new_stage, lie):
    """Cut, and tried again where it may pass; no part of a file stays."""
    answer, code, n_tries = LIES[lie]
    work = new_stage()
    with Front(work.server, answer) as front:
        settings = Files(max_bytes=1_000_000)
        work.run(2, files=settings, settings=through(front))

        assert failed(work) == {code: 2}
        assert len(front.asked) == 2 * n_tries
        assert files_of(work) == []
        finish_well(work, front, 2)


def test_a_byte_now_and_then_is_given_up(new_stage):
    """A server that trickles holds no slot for ever."""
    work = new_stage()

    def trickle(visit: Visit) -> None:
        visit.say("200 OK\r\nContent-Length: 100000")
        for _ in range(5000):  # until the client hangs up
            visit.wfile.write(b"x")
            work.clock.advance(DOWNLOAD_PACE_AFTER_S)
            threading.Event().wait(0.005)

    with Front(work.server, trickle) as front:
        work.run(1, files=FILES, settings=through(front))

        assert failed(work) == {"too_slow": 1}
        finish_well(work, front, 1)


def test_the_key_goes_to_no_server_of_files(new_stage):
    """Neither to the API's own origin when it serves a file, nor after a redirect."""
    work = new_stage(api_keys=[{"key": KEY}])
    with Front(work.server, _after_three_hops) as front:
        work.run(3, files=FILES, settings=through(front, api_key=KEY))

        assert len(front.asked) == 3 * (1 + REDIRECTS_MAX)
        for headers in front.asked:
            assert {"authorization", "cookie", "proxy-authorization"}.isdisjoint(headers)
            assert KEY not in repr(headers)


@pytest.mark.parametrize("lie", [*LIES, "an error", "a reset"])
def test_no_secret_is_in_what_is_reported_of_a_download(new_stage, everything_logged, lie):
    """Neither the key nor a signed URL: not in logs, failures, or the ledger's word on files."""
    answers = {
        "an error": lambda visit: visit.say("500 Sorry\r\nContent-Length: 0"),
        "a reset": lambda visit: visit.say("\x00"),
    }
    answer = answers.get(lie) or LIES[lie][0]
    work = new_stage(api_keys=[{"key": KEY}])
    with Front(work.server, answer) as front:
        work.server.set_scenario(public_url=f"{front.url}/cdn/signed?by={CANARY}&of=")

        report = work.run(2, files=FILES, settings=through(front, api_key=KEY))

    assert sum(failed(work).values()) == 2
    told = [*everything_logged.lines, repr(report), repr(work.table("failures"))]
    told.append(repr(work.query("SELECT * FROM downloads")))
    assert CANARY not in "\n".join(told)
    kept = b"\0".join(p.read_bytes() for p in sorted(work.folder.rglob("*")) if p.is_file())
    assert KEY.encode() not in kept
    assert KEY not in "\n".join(told)


def test_names_of_files_are_ours_whatever_rows_are_called(new_stage):
    """SQL and paths in ids are text, in the tables and nowhere else."""
    ids = ["'; DROP TABLE downloads; --", "../../etc/passwd", "a/b\\c:d", "nul", "é" * 200]
    rows = [{"prompt_id": name, "prompt": f"prompt {n}"} for n, name in enumerate(ids)]
    work = new_stage()
    work.run(rows, files=FILES)

    work.finish(rows, files=FILES)

    assert sorted(row["prompt_id"] for row in work.table("images")) == sorted(ids)
    names = {f"{row['intent_id']}-0.{row['format']}" for row in work.table("images")}
    assert {path.name for path in files_of(work)} == names
    assert work.query("SELECT count(*) FROM downloads") == [(len(ids),)]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_dead_url_is_asked_for_again_and_else_reported_as_paid_for(new_stage, status):
    """Once for each image; the row keeps task, time and money, and the image stays."""
    work = new_stage(faults=[{"route": CDN, "kind": "status", "status": status}])

    work.run(3, files=FILES)

    assert failed(work) == {"url_expired": 3}
    assert work.log["requests"][CDN] == 6
    for row in work.table("failures"):
        assert (row["money"], row["http_status"]) == ("charged", status)
        assert row["task_id"]
    work.finish(3, files=FILES)


def test_a_url_that_changes_between_two_looks_costs_no_second_download(new_stage):
    """What is kept stays, whatever a later answer says of its URL."""
    work = new_stage()
    work.run(3, files=FILES)
    before = {path: path.read_bytes() for path in files_of(work)}
    work.server.set_scenario(public_url=f"{work.server.url}/elsewhere")

    work.finish(3, files=FILES)

    assert {path: path.read_bytes() for path in files_of(work)} == before
    assert work.log["requests"][CDN] == 3


def test_a_store_without_room_leaves_the_tables_and_goes_on_afterwards(new_stage):
    """The run says so; no image is blamed, nothing is paid for again."""
    work = new_stage()
    work.run(6)
    before = work.scene.bytes_of_tables()
    settings = Files(store="oneway://shop", concurrency=2)
    OneWay.has_room = False

    with pytest.raises(TableError, match="the disk is full"):
        work.run(6, files=settings)

    assert work.scene.bytes_of_tables() == before
    assert work.query("SELECT count(*) FROM downloads") == [(0,)]
    OneWay.has_room = True
    report = work.run(6, files=settings)
    assert (report.files, report.posts_sent) == (6, 0)
    assert all(row["file_path"].startswith("oneway://") for row in work.table("images"))


def test_a_signed_webhook_with_a_url_that_leads_inside_is_not_followed(new_stage):
    """The signature says who wrote it, not that it is harmless: nothing is fetched."""
    work = new_stage(progress="manual", public_url="http://169.254.169.254")
    send_all(work, 4)
    work.server.complete()
    bodies = events(work.server)
    assert all(b"http://169.254.169.254/cdn/" in body for body in bodies)
    deliver(work, bodies)
    finish(work)
    assert outcomes(work) == {"read": 4}

    keep(work, models=("black-forest-labs/flux.2-dev",))

    assert failed(work) == {"unsafe_url": 4}
    assert CDN not in work.log["requests"]
    assert {row["next_step"] for row in work.table("failures")} == {
        "If you trust its host: add it to image_hosts, then materialize files again."
    }


def test_two_runs_that_keep_the_same_files_agree(new_stage):
    """Each file is whole, of one content, and recorded once."""
    work = new_stage()
    work.run(12)

    async def twice(session):
        of = batch(files=FILES)
        runs = [keep_files(session, of, Slice(), stop=CancelToken()) for _ in range(2)]
        return await asyncio.gather(*runs)

    reports = in_session(work, twice)

    assert {report.summary.n_files for report in reports} == {12}
    assert work.query("SELECT count(*) FROM downloads WHERE state = 'kept'") == [(12,)]
    work.finish(12, files=FILES)
