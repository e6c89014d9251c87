"""Two servers and one ledger: what was made at one of them is asked of it alone."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from mynth_dagster.client.client import MynthClient
from mynth_dagster.engine.health import examine
from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.session import Reach, reach_of
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.errors import AccountMismatchError
from mynth_dagster.ledger.events import WebhookEvent
from mynth_dagster.ledger.queries import AccountRow
from mynth_dagster.simulator import SimulatorServer
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import KEY, MODEL

STRANGERS = [{"key": KEY, "user_id": "usr_somebody_else"}]
"""How another server may know our key."""


def tick(work: Bench, url: str) -> None:
    """The sensor looks once, as a session at this URL."""

    async def once() -> None:
        async with work.session(base_url=url) as session:
            await partition_status(session, make_batch("b", models=(MODEL,)), budget_s=40)

    asyncio.run(once())


@pytest.fixture
def asked(monkeypatch) -> set[tuple[str, str]]:
    """Base URL and task id of each question about a task."""
    seen: set[tuple[str, str]] = set()
    for name in ("get_status", "get_task"):
        plainly = getattr(MynthClient, name)

        async def ask(client, task_id, _plainly=plainly, **options):
            seen.add((client.settings.base_url, task_id))
            return await _plainly(client, task_id, **options)

        monkeypatch.setattr(MynthClient, name, ask)
    return seen


@pytest.fixture
def two(bench, simulator, clock, revision):
    """Three rows that were sent to one server and are pending, and another server."""

    def start(**other: Any) -> tuple[Bench, SimulatorServer]:
        work = bench(progress="manual")
        stop = CancelToken()
        work.run(3, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))
        return work, simulator(clock=clock, revision=revision, seed=7, **other)

    return start


def ids_of(work: Bench) -> list[str]:
    """The tasks that the first server made."""
    return [entry["task_id"] for entry in work.log["accepted"]]


def adopt(work: Bench, url: str) -> None:
    async def once() -> None:
        async with work.session(base_url=url) as session:
            await session.account.adopt()

    asyncio.run(once())


def test_tasks_of_one_server_are_neither_asked_of_another_nor_lost_by_it(two, asked, clock, caplog):
    """Whatever the other says of its own tasks; they are collected where they were made."""
    work, other = two()
    adopt(work, other.url)
    work.run(2, window="2026-11-22", settings={"base_url": other.url})
    caplog.set_level(logging.WARNING)

    for _ in range(5):
        clock.advance(1_800)
        tick(work, other.url)
        work.run(3, settings={"base_url": other.url})

    assert not asked & {(other.url, task_id) for task_id in ids_of(work)}
    assert work.query("SELECT sum(missed) FROM intents") == [(0,)]
    assert work.states() == {"accepted": 3, "completed": 2}
    told = [r.message for r in caplog.records if "3 tasks were made at" in r.message]
    assert len(told) == 11
    assert work.server.url in told[0]
    work.server.complete()
    assert work.run(3).images == 3
    assert work.n_posts == 3


def test_finished_tasks_that_another_server_has_do_not_keep_the_sensor_busy(two):
    """They are known to be finished, and are read where they are."""
    work, other = two()
    adopt(work, other.url)
    with closing(sqlite3.connect(work.folder / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE intents SET remote_status = 'completed'")

    async def once() -> list[tuple[int, int]]:
        async with work.session(base_url=other.url) as session:
            seen, _ = await partition_status(session, make_batch("b", models=(MODEL,)), budget_s=40)
            return [(p.n_pending, p.n_finished) for p in seen]

    assert asyncio.run(once()) == [(3, 0)]


def test_a_server_that_does_not_show_the_account_is_not_asked_whose_task_it_is(two, asked):
    """It would say 404 whoever it is."""
    work, other = two(api_keys=STRANGERS)

    with pytest.raises(AccountMismatchError, match="account adopt"):
        work.run(5, settings={"base_url": other.url})

    assert not asked & {(other.url, task_id) for task_id in ids_of(work)}
    assert work.states() == {"accepted": 3}


def test_an_unsigned_event_about_another_servers_task_waits_for_its_sessions(two, asked, clock):
    """It is neither asked about nor given up."""
    work, other = two()
    adopt(work, other.url)
    task_id = ids_of(work)[0]

    async def once() -> None:
        async with work.session(base_url=other.url) as session:
            await session.ledger.events.receive(
                WebhookEvent("evt_1", False, "task.completed", task_id, None, clock.now_us())
            )

    asyncio.run(once())
    for _ in range(20):
        tick(work, other.url)
        clock.advance(60)

    assert not asked & {(other.url, task_id) for task_id in ids_of(work)}
    assert work.query("SELECT n_tries, done_at_us FROM webhook_events") == [(0, None)]


def test_doctor_and_status_tell_what_waits_elsewhere(two):
    """How many tasks, where they were made, and what to do."""
    work, other = two()
    adopt(work, other.url)

    findings = asyncio.run(examine(work.settings(base_url=other.url), clock=work.clock))
    options = ["status", "--root", str(work.root), "--ledger", work.ledger_url]
    shown = CliRunner().invoke(app, options)

    (found,) = [finding for finding in findings if finding.subject == "other servers"]
    assert f"3 tasks were made at {work.server.url}" in found.message
    assert "point a session there" in (found.next_step or "")
    assert f"3 tasks were made at {work.server.url}" in shown.stdout


def account(number: int, base_url: str, user_id: str = "usr_a") -> AccountRow:
    return AccountRow(number, base_url, f"key {number}", user_id, "")


@pytest.mark.parametrize(
    ("other", "is_asked", "is_certain"),
    [
        (account(2, "https://api.mynth.io"), True, True),
        (account(2, "https://api.mynth.io", ""), True, True),
        (account(2, "https://api.mynth.io", "usr_b"), False, False),
        (account(2, "https://api.mynth.io/v1"), True, False),
        (account(2, "https://api.mynth.io/v1", ""), False, False),
        (account(2, "https://api.mynth.io:8443"), False, False),
        (account(2, "http://api.mynth.io"), True, False),
        (account(2, "https://staging.mynth.io"), False, False),
    ],
    ids=["key", "nameless", "foreign key", "path", "nameless path", "port", "scheme", "host"],
)
def test_what_a_server_may_be_asked_about_and_may_miss(other, is_asked, is_certain):
    """The same URL, or the same host and account; only the same URL may say that a task is gone."""
    mine = account(1, "https://api.mynth.io")

    reach = reach_of(mine, [mine, other])

    assert reach == Reach(
        frozenset({1, 2} if is_asked else {1}),
        frozenset({1, 2} if is_certain else {1}),
        () if is_asked else (other,),
    )
