"""Whose money it is: rotated keys are taken in, foreign ones stop before anything is asked."""

from __future__ import annotations

import asyncio

import pytest

from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.errors import AccountMismatchError, ConfigError
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import KEY, MODEL

MINE, ROTATED, FOREIGN = KEY, "mak_rotated", "mak_foreign"
KEYS = [{"key": MINE}, {"key": ROTATED}, {"key": FOREIGN, "user_id": "usr_somebody_else"}]


@pytest.fixture
def paid(bench):
    """Five rows that the first key paid for, of which two are still running."""

    def start() -> Bench:
        work = bench(api_keys=KEYS)
        work.run(5)
        return work

    return start


def test_a_rotated_key_goes_on_where_the_old_one_stopped(paid):
    """Same account, new key: nothing is paid again, new rows are."""
    work = paid()

    report = work.run(7, settings={"api_key": ROTATED})

    assert (report.images, report.posts_sent) == (7, 2)
    assert len(work.query("SELECT account FROM accounts")) == 2
    work.require_sound(7)


def test_a_key_of_another_account_stops_before_it_asks_or_spends(paid):
    """Its requests would be paid twice, and its answers about our tasks would mean nothing."""
    work = paid()
    before = dict(work.log["requests"])

    with pytest.raises(AccountMismatchError, match="account adopt"):
        work.run(7, settings={"api_key": FOREIGN})

    after = work.log["requests"]
    assert after["POST /image/generate"] == before["POST /image/generate"]
    assert after.get("GET /tasks", 0) == before.get("GET /tasks", 0)
    assert work.run(7).images == 7


def test_the_sensor_stops_too(paid):
    """Before the first poll."""
    work = paid()

    async def tick() -> None:
        async with work.session(api_key=FOREIGN) as session:
            await partition_status(session, make_batch("b", models=(MODEL,)), budget_s=40)

    with pytest.raises(AccountMismatchError):
        asyncio.run(tick())


def test_a_person_may_take_in_a_foreign_key(paid):
    """What is done stays done; what is missing is paid by the other account."""
    work = paid()

    async def adopt() -> int:
        async with work.session(api_key=FOREIGN) as session:
            return await session.account.adopt()

    assert asyncio.run(adopt()) == 2
    report = work.run(7, settings={"api_key": FOREIGN})

    assert (report.images, report.posts_sent) == (7, 2)


def test_an_account_that_cannot_be_asked_about_is_not_taken_in(bench):
    """Mynth does not answer: no guess is made, and nothing is sent."""
    work = bench(api_keys=KEYS)
    work.run(5)
    work.server.set_scenario(
        faults=[
            {"route": "GET /tasks/:id", "kind": "server_error"},
            {"route": "GET /me", "kind": "status", "status": 404, "code": "not_found"},
        ]
    )
    n_posts = work.n_posts

    with pytest.raises(Exception, match=r"could not be read|HTTP 404"):
        work.run(7, settings={"api_key": ROTATED})

    assert work.n_posts == n_posts


def test_the_same_key_is_known_without_asking(paid):
    """Polling sessions cost no request to find out who they are."""
    work = paid()
    before = work.log["requests"].get("GET /me", 0)

    async def tick() -> None:
        async with work.session() as session:
            await partition_status(session, make_batch("b", models=(MODEL,)), budget_s=40)

    asyncio.run(tick())

    assert work.log["requests"].get("GET /me", 0) == before


@pytest.mark.parametrize(
    ("revision", "status"), [("2026-04", 404), ("2026-08", 403), ("2026-10", 404), ("2026-10", 405)]
)
def test_an_account_that_the_server_does_not_tell_is_known_by_its_tasks(bench, status):
    """A proxy that closes `/me` stops nobody: a task that was read says whose it is."""
    work = bench(
        api_keys=KEYS, faults=[{"route": "GET /me", "kind": "html_error", "status": status}]
    )

    assert work.run(5).images == 5

    assert work.query("SELECT user_id FROM accounts") == [("user_simulator",)]
    assert work.run(7, settings={"api_key": ROTATED}).posts_sent == 2
    with pytest.raises(AccountMismatchError):
        work.run(9, settings={"api_key": FOREIGN})
    work.require_sound(7)


def test_the_ledger_holds_no_key(paid):
    """Only a fingerprint under its own salt, which no other ledger shares."""
    work = paid()

    files = [path for path in work.folder.rglob("*") if path.is_file()]
    raw = b"".join(path.read_bytes() for path in files)

    assert KEY.encode() not in raw
    ((fingerprint,),) = work.query("SELECT fingerprint FROM accounts")
    assert len(fingerprint) == 32


def test_a_key_that_may_not_create_tasks_stops_before_the_first_row(new_bench):
    """The account says what the key may do; nobody has to lose a row to find out."""
    work = new_bench(api_keys=[{"key": KEY, "scopes": ["manage"]}])

    with pytest.raises(ConfigError, match="lacks the scope 'generate'; it has manage"):
        work.run(3)

    assert work.n_posts == 0
    work.server.set_scenario(api_keys=[{"key": KEY, "scopes": ["generate"]}])
    assert work.run(3).images == 3


def test_a_key_that_loses_its_scope_under_way_stops_the_run(new_bench):
    """A 403 about the paid call is the key's, and no row is rejected for it."""
    lost = {"kind": "status", "status": 403, "code": "insufficient_scope", "after": 2}
    work = new_bench(faults=[lost])

    report = work.run(6, settings={"concurrency": 1})

    assert (report.stopped, report.images, report.withheld) == ("unauthorized", 2, 4)
    assert "the scope `generate`" in (report.stop_next_step or "")
    work.server.set_scenario(faults=())
    assert work.run(6).images == 6
    work.require_sound(6)
