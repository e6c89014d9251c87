"""The paid call in flight: written down first, bounded, never sent twice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from dataclasses import replace

import httpx
import pyarrow as pa
import pytest
from httpx_aiohttp import AiohttpTransport

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.engine.run import RunProgress, prepare, submit
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.submit import SubmitCounts
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import LedgerUnavailableError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.ledger.queries import Queries
from mynth_dagster.simulator import Scenario, SimulatorServer
from mynth_dagster.tables.source import open_source, source_from_arrow
from tests.batches import make_batch
from tests.engine.bench import Bench, prompts
from tests.factories import MODEL, LeapingClock, write_parquet

POST = "/image/generate"


class Witness(httpx.AsyncBaseTransport):
    """Looks into the ledger, on a connection of its own, at the moment a POST leaves."""

    def __init__(self, path: str) -> None:
        self.inner = AiohttpTransport()
        self.path = path
        self.seen: list[tuple[str, int, int]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == POST:
            tag = json.loads(request.content)["metadata"]["mynth_dagster"]
            connection = sqlite3.connect(self.path)
            ((state, attempt),) = connection.execute(
                "SELECT state, attempt FROM intents WHERE intent_id = ?", [tag.split(".")[0]]
            )
            ((n_sending,),) = connection.execute(
                "SELECT count(*) FROM intents WHERE state = 'sending'"
            )
            connection.close()
            self.seen.append((state, attempt, n_sending))
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


def test_an_intent_is_durable_before_its_post_leaves(new_bench):
    """Seen from outside at the moment of sending; and never more rows `sending` than slots."""
    work = new_bench()
    witness = Witness(str(work.folder / "ledger.db"))

    report = work.run(60, transport=witness, settings={"concurrency": 7})

    assert report.images == 60
    assert len(witness.seen) == 60
    assert {(state, attempt) for state, attempt, _ in witness.seen} == {("sending", 1)}
    assert max(n_sending for _, _, n_sending in witness.seen) <= 7


class WatchfulClock(LeapingClock):
    """Notes what is `sending` whenever somebody waits for longer than a moment."""

    def __init__(self) -> None:
        super().__init__(start_us=time.time_ns() // 1_000)  # as the answers' own `Date` is
        self.path = ""
        self.while_waiting: list[int] = []

    async def sleep(self, delay_s: float) -> None:
        if self.path:
            connection = sqlite3.connect(self.path)
            query = "SELECT count(*) FROM intents WHERE state = 'sending'"
            self.while_waiting.append(connection.execute(query).fetchone()[0])
            connection.close()
        await super().sleep(delay_s)


@pytest.mark.parametrize("as_date", [False, True])
def test_a_rate_limit_pauses_all_and_fails_no_row(simulator, tmp_path, revision, as_date):
    """The row is given back before the wait, the wait is as long as asked, then it is sent once."""
    clock = WatchfulClock()
    rule = {"kind": "rate_limited", "retry_after_s": 7, "after": 5, "count": 1}
    rule["retry_after_as_date"] = as_date
    server = simulator(clock=clock, revision=revision, faults=[rule])
    work = Bench(server, clock, tmp_path)
    progress = RunProgress(on_quote=lambda *_: setattr(clock, "path", str(tmp_path / "ledger.db")))
    started_s = clock.elapsed_s()

    report = work.run(10, progress=progress, settings={"concurrency": 1})

    assert (report.images, report.failures) == (10, {})
    assert clock.elapsed_s() - started_s >= 6
    assert set(clock.while_waiting) == {0}
    assert work.n_posts == 11
    assert work.query("SELECT max(attempt) FROM intents") == [(2,)]
    work.require_sound(10)


@pytest.mark.parametrize("retry_after_s", [None, 1])
def test_a_rate_limit_for_ever_ends_the_run_resumable(new_bench, retry_after_s):
    """Bounded, no row failed, and named as what it is; later the rest is sent."""
    work = new_bench(faults=[{"kind": "rate_limited", "retry_after_s": retry_after_s, "after": 10}])

    report = work.run(30)

    assert report.stopped == "rate_limited"
    assert report.withheld == 20
    assert work.n_posts < 10 + 33 * 16
    work.server.set_scenario(faults=())
    assert work.run(30).images == 30
    work.require_sound(30)


def test_a_server_that_is_gone_for_a_while_gets_every_row_once(tmp_path):
    """Refused connections are proved not sent: the rows wait, and are delivered once."""
    clock = LeapingClock()
    server = SimulatorServer(Scenario(progress="immediate"), clock=clock)
    server.start()
    work = Bench(server, clock, tmp_path)
    n_sleeps = 0

    class ReturningClock(LeapingClock):
        async def sleep(self, delay_s: float) -> None:
            nonlocal n_sleeps
            n_sleeps += 1
            if n_sleeps == 40:
                await asyncio.to_thread(server.start)
            await super().sleep(delay_s)

    work.clock = ReturningClock()
    try:
        report = work.run(30, progress=RunProgress(on_quote=lambda *_: server.stop()))
        assert report.images == 30
        assert work.n_posts == report.posts_sent == 30
        assert work.query("SELECT min(attempt) FROM intents")[0][0] >= 1
        work.require_sound(30)
    finally:
        server.stop()


def test_nobody_there_ends_the_run_with_nothing_sent(tmp_path):
    """Given back, not failed; the next run sends every row once."""
    clock = LeapingClock()
    server = SimulatorServer(Scenario(progress="immediate"), clock=clock)
    server.start()
    work = Bench(server, clock, tmp_path)
    try:
        report = work.run(30, progress=RunProgress(on_quote=lambda *_: server.stop()))
        assert (report.stopped, report.posts_sent, report.images) == ("unreachable", 0, 0)
        assert work.states().keys() == {"withheld"}
        server.start()
        assert work.run(30).images == 30
        work.require_sound(30)
    finally:
        server.stop()


def test_lost_answers_in_a_row_stop_the_run(new_bench):
    """Exposure is bounded by the slots; rows not sent are not touched."""
    work = new_bench(faults=[{"kind": "lost_answer"}])

    report = work.run(200)

    assert report.stopped == "outcomes_unknown"
    assert 10 <= work.n_posts <= 10 + 16
    assert report.unresolved + report.withheld + report.images == 200
    work.require_sound(200)


def test_equal_refusals_in_a_row_stop_the_run(bench):
    """A hundred rows are not rejected for one mistake."""
    work = bench(failures=[{"kind": "refused", "code": "VALIDATION_ERROR"}])

    report = work.run(100, settings={"concurrency": 4})

    assert report.stopped == "refused_repeatedly"
    assert 10 <= report.rows_by_status["rejected"] <= 14
    assert report.withheld == 100 - report.rows_by_status["rejected"]


def test_a_wrong_address_rejects_no_row(new_bench):
    """A JSON 404 at the place of the paid call is nobody's row's fault."""
    work = new_bench(faults=[{"kind": "status", "status": 404, "code": "not_found"}])

    report = work.run(50)

    assert report.stopped == "gateway"
    assert "rejected" not in report.rows_by_status
    work.server.set_scenario(faults=())
    assert work.run(50).images == 50


def test_one_row_that_is_refused_does_not_hold_up_the_others(bench):
    """Rejected with the API's words, not charged, not sent again."""
    work = bench(failures=[{"kind": "refused", "prompt_contains": "prompt 3"}])

    report = work.run(10)

    assert report.rows_by_status == {"completed": 9, "rejected": 1}
    (failure,) = work.table("failures")
    assert (failure["error_code"], failure["http_status"]) == ("restricted_content", 400)
    assert work.run(10).posts_sent == 0


def test_a_ledger_that_breaks_in_mid_run_ends_it_without_a_hang(new_bench):
    """No worker waits for ever, no more is sent than was in flight, and what is not is no doubt."""
    work = new_bench()

    def break_it(*_) -> None:
        connection = sqlite3.connect(work.folder / "ledger.db")
        connection.execute("DROP TABLE observations")
        connection.close()

    with pytest.raises(LedgerUnavailableError, match="observations"):
        work.run(100, progress=RunProgress(on_quote=break_it))
    assert work.n_posts <= 16
    assert work.states()["sending"] == work.n_posts


def test_an_interrupted_submission_records_what_was_in_flight(new_bench):
    """Cancelled from outside, in the middle: no row is left `sending`."""
    work = new_bench(response_delay_s=0.0)
    source = source_from_arrow(pa.Table.from_pylist(prompts(200)), "prompts")
    batch, counts = make_batch("b", models=(MODEL,)), SubmitCounts()

    async def interrupt() -> None:
        async with work.session() as session:
            await prepare(session, batch, source, window="")
            task = asyncio.create_task(
                submit(
                    session,
                    ImageWork(batch),
                    batch.slices(),
                    submitter="run",
                    stop=CancelToken(),
                    counts=counts,
                )
            )
            while counts.n_accepted < 20:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(interrupt())

    assert 20 <= work.n_posts < 60
    assert work.states() == {"accepted": work.n_posts}
    work.run(200)
    work.require_sound(200)


def test_two_runs_of_one_partition_at_once_share_the_rows(new_bench):
    """Neither locks; each row is claimed by one of them."""
    work = new_bench()

    async def both() -> list[int]:
        batch = make_batch("b", models=(MODEL,))
        table = write_parquet(work.folder / "prompts.parquet", prompts(100))
        async with work.session() as first, work.session() as second:
            await prepare(first, batch, open_source(table), window="")
            reports = await asyncio.gather(
                *(
                    submit(
                        session,
                        ImageWork(batch),
                        batch.slices(),
                        submitter=name,
                        stop=CancelToken(),
                    )
                    for session, name in [(first, "one"), (second, "two")]
                )
            )
        return [report.counts.n_posts for report in reports]

    posts = asyncio.run(both())

    assert sum(posts) == work.n_posts == 100
    assert max(Counter(work.accepted).values()) == 1


@pytest.mark.parametrize("leap", ["boot", "wall", "neither"])
def test_a_process_that_wakes_after_hours_sends_nothing_that_it_had_claimed_before(
    new_bench, monkeypatch, leap
):
    """
    Meanwhile another one took its rows for lost. Of a machine that was set aside one clock may have
    stood still, or both.
    """
    work = new_bench()
    claim = Ledger.claim
    claimed: list[Claimed] = []
    awake = asyncio.Event()

    async def claim_and_sleep(ledger: Ledger, wanted: Claim) -> Claimed:
        claimed.append(await claim(ledger, wanted))
        mine = claimed[-1]
        if len(claimed) == 16:
            now = work.clock.instant()
            later = replace(now, wall_us=now.wall_us + 7200 * US_PER_S)
            if leap == "boot":
                work.clock.advance(7200.0)
            elif leap == "wall":
                work.clock.jump_wall(7200.0)
            await take_for_lost(ledger, later)
            awake.set()
        await awake.wait()
        return mine

    async def take_for_lost(ledger: Ledger, now: Instant) -> None:
        lost = await ledger.expire_sending("b", "", 20_000_000, now)
        assert lost == 16

    monkeypatch.setattr(Ledger, "claim", claim_and_sleep)
    work.run(40)

    taken = work.query("SELECT intent_id FROM intents WHERE state = 'unresolved'")
    assert len(taken) == 16
    assert not {intent_id for (intent_id,) in taken} & set(work.accepted)
    assert max(work.accepted.values()) == 1


def test_what_is_over_time_when_the_ledger_has_answered_is_not_sent(new_bench, monkeypatch):
    """A process may be stopped while it asks: the claim stood, but both clocks count as well."""
    work = new_bench()
    standing = Queries.standing
    asked: list[str] = []

    def answer_late(reader: Queries, intent_ids: list[str]) -> set[str]:
        found = standing(reader, intent_ids)
        if not asked:
            asked.extend(intent_ids)
            work.clock.jump_wall(7200.0)
        return found

    monkeypatch.setattr(Queries, "standing", answer_late)
    work.run(40)

    again = work.query("SELECT intent_id FROM intents WHERE attempt > 1")
    assert asked
    assert set(asked) <= {intent_id for (intent_id,) in again}
    assert work.n_posts == 40
    work.require_sound(40)
