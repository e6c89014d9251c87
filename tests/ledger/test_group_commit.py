"""One writer: callers wake after COMMIT, bad members fail alone, and nothing queued is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from mynth_dagster.errors import IllegalTransitionError, LedgerUnavailableError
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.ledger.group_commit import CALL, GROUP_MAX, GroupCommit, Write
from mynth_dagster.ledger.observations import Attachment, Observed
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import Event
from tests.factories import make_intent, make_task
from tests.ledger.book import ending, reading, sighting, status


def test_a_caller_wakes_only_when_others_can_see_its_write(book):
    """Looked at from a second connection at the moment each caller goes on."""

    async def claim_and_look(n: int) -> int:
        intent = make_intent(f"p{n}")
        await book.ledger.claim(Claim(intent))
        query = "SELECT count(*) FROM intents WHERE intent_id = :id"
        return int((await asyncio.to_thread(book.query, query, id=intent.intent_id))[0][0])

    assert book.run(*(claim_and_look(n) for n in range(50))) == [1] * 50


def test_a_bad_member_does_not_take_its_neighbours(book):
    """One illegal write in a full group: it alone fails, and everything else is committed."""
    intents = [make_intent(f"p{n}") for n in range(20)]
    book.run(*(book.ledger.claim(Claim(intent)) for intent in intents))

    async def everything() -> list[object]:
        writes = [
            book.ledger.observe(sighting(intent, f"tsk_{n}"))
            for n, intent in enumerate(intents[:19])
        ]
        bad = book.ledger.record_ending(ending(intents[19], Event.COMPLETE))
        return list(await asyncio.gather(*writes, bad, return_exceptions=True))

    results = asyncio.run(everything())

    assert isinstance(results[-1], IllegalTransitionError)
    assert book.query("SELECT count(*) FROM intents WHERE state = 'accepted'") == [(19,)]


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("x"), sqlite3.OperationalError("disk")]
)
def test_a_write_that_fails_in_any_way_leaves_the_writer_alive(book, error):
    """Whatever a write raises reaches its caller, and the next write goes through."""

    def fail(connection: sa.Connection) -> None:
        raise error

    with pytest.raises(type(error)):
        book.run(book.ledger._commits.submit(CALL, fail))

    assert book.claim(make_intent())


def test_a_database_that_fails_is_unavailable_in_our_own_words(book):
    """The driver's message is kept, its class is not the caller's business."""

    def fail(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(LedgerUnavailableError, match="no_such_table") as caught:
        book.run(book.ledger._commits.submit(CALL, fail))
    assert caught.value.__cause__ is not None


class Gate:
    """A write that holds the writer until it is let through; tells what was written, in order."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.may_pass = threading.Event()
        self.order: list[str] = []

    def hold(self, connection: sa.Connection, params: list[object]) -> list[None]:
        self.is_reached.set()
        assert self.may_pass.wait(30)
        return [None] * len(params)

    def note(self, name: str, rank: int) -> Write[str, None]:
        def apply(connection: sa.Connection, params: list[str]) -> list[None]:
            self.order += [f"{name} {param}" for param in params]
            return [None] * len(params)

        return Write(name, rank, apply)


@pytest.fixture
def commits(tmp_path):
    """A writer on an empty database, and the engine it writes with."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'any.db'}")
    yield GroupCommit(engine)
    engine.dispose()


def test_answers_go_ahead_of_new_intents(commits):
    """While one COMMIT is under way the rest queue up, and go together by rank."""
    gate = Gate()

    async def scenario() -> None:
        held = asyncio.create_task(commits.submit(Write("hold", 9, gate.hold), None))
        await asyncio.to_thread(gate.is_reached.wait, 30)
        claim, answer = gate.note("claim", 4), gate.note("answer", 0)
        queued = [
            asyncio.create_task(commits.submit(*write))
            for write in [(claim, "1"), (answer, "2"), (claim, "3"), (answer, "4")]
        ]
        await asyncio.sleep(0)
        gate.may_pass.set()
        await asyncio.gather(held, *queued)

    asyncio.run(scenario())
    commits.close()

    assert gate.order == ["answer 2", "answer 4", "claim 1", "claim 3"]


def test_closing_commits_what_is_queued(commits):
    """No accepted write is dropped by the end of the process's work."""
    gate = Gate()

    async def scenario() -> None:
        held = asyncio.create_task(commits.submit(Write("hold", 9, gate.hold), None))
        await asyncio.to_thread(gate.is_reached.wait, 30)
        queued = asyncio.create_task(commits.submit(gate.note("late", 0), "x"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(commits.close))
        gate.may_pass.set()
        await asyncio.gather(held, queued, closing)

    asyncio.run(scenario())

    assert gate.order == ["late x"]


def test_a_cancelled_callers_write_is_committed(commits):
    """Whoever stops waiting for a task id to be stored does not stop it being stored."""
    gate = Gate()

    async def scenario() -> None:
        held = asyncio.create_task(commits.submit(Write("hold", 9, gate.hold), None))
        await asyncio.to_thread(gate.is_reached.wait, 30)
        caller = asyncio.create_task(commits.submit(gate.note("answer", 0), "x"))
        await asyncio.sleep(0)
        caller.cancel()
        gate.may_pass.set()
        await asyncio.gather(held, caller, return_exceptions=True)
        assert caller.cancelled()

    asyncio.run(scenario())
    commits.close()

    assert gate.order == ["answer x"]


def test_a_loop_that_is_gone_does_not_stop_the_writer(commits):
    """A caller whose event loop was closed meanwhile is skipped."""
    gate = Gate()
    loop = asyncio.new_event_loop()

    async def leave() -> None:
        asyncio.ensure_future(commits.submit(Write("hold", 9, gate.hold), None))  # noqa: RUF006
        await asyncio.sleep(0)

    loop.run_until_complete(leave())
    assert gate.is_reached.wait(30)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.may_pass.set()

    asyncio.run(commits.submit(gate.note("next", 0), "x"))
    commits.close()

    assert gate.order == ["next x"]


def test_a_write_after_the_end_is_refused(commits):
    """It does not wait for ever."""
    commits.close()

    with pytest.raises(LedgerUnavailableError, match="closed"):
        asyncio.run(commits.submit(Gate().note("late", 0), "x"))


class Groups:
    """A write that notes how many go into each COMMIT."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.write = Write("count", 0, self._apply)

    def _apply(self, connection: sa.Connection, params: list[object]) -> list[None]:
        self.sizes.append(len(params))
        return [None] * len(params)


def test_what_comes_turn_by_turn_is_handed_over_together(commits):
    """Each turn of the loop brings one write more: they wait for each other, not for a timer."""
    groups = Groups()

    async def in_turn(n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)
        await commits.submit(groups.write, n)

    async def scenario() -> None:
        await asyncio.gather(*(in_turn(n) for n in reversed(range(50))))

    asyncio.run(scenario())
    commits.close()

    assert groups.sizes == [50]


def test_a_turn_that_brings_nothing_more_hands_over(commits):
    """A loop that is busy with something else does not keep a lone write waiting."""
    groups = Groups()

    async def scenario() -> None:
        lone = asyncio.create_task(commits.submit(groups.write, 0))
        while not lone.done():  # noqa: ASYNC110 - the turns are what is tested
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 30))
    commits.close()

    assert groups.sizes == [1]


def test_an_endless_stream_is_handed_over_at_a_full_group(commits):
    """The first caller goes on although every turn brings another."""
    groups = Groups()

    async def scenario() -> None:
        callers = [asyncio.create_task(commits.submit(groups.write, n)) for n in range(2)]
        while not callers[0].done():
            await asyncio.sleep(0)
            callers.append(asyncio.create_task(commits.submit(groups.write, len(callers))))
        await asyncio.gather(*callers)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    commits.close()

    assert groups.sizes[0] >= GROUP_MAX
    assert max(groups.sizes) <= 2 * GROUP_MAX


def test_each_loop_is_handed_over_by_itself(commits):
    """Threads with a loop of their own share the writer; none waits for another's turns."""
    groups, are_in = Groups(), threading.Barrier(4, timeout=30)

    def work() -> None:
        async def many() -> None:
            await asyncio.to_thread(are_in.wait)
            await asyncio.gather(*(commits.submit(groups.write, n) for n in range(100)))

        asyncio.run(many())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    commits.close()

    assert sum(groups.sizes) == 400
    assert len(groups.sizes) <= 4


EVERY_KIND = {
    "claim": lambda ledger, n, intent: ledger.claim(Claim(intent)),
    "claim again": lambda ledger, n, intent: ledger.claim(Claim(replace(intent, attempt=2), 1, 1)),
    "response": lambda ledger, n, intent: ledger.observe(sighting(intent, f"tsk_{n}")),
    "end": lambda ledger, n, intent: ledger.record_ending(ending(intent, Event.GIVE_BACK)),
    "status": lambda ledger, n, intent: ledger.observe(status(f"tsk_{n}", TaskStatus.COMPLETED)),
    "task": lambda ledger, n, intent: ledger.observe(reading(intent, make_task(f"tsk_{n}"))),
}


OF_EACH_KIND = {
    *(True, Claimed.WON, Observed(), Observed(Attachment.ATTACHED), Observed(is_news=True)),
}


@pytest.mark.parametrize(
    "kinds",
    [["claim"], ["claim", "end", "claim again", "response", "status", "task"]],
    ids=["new", "whole life"],
)
def test_what_is_asked_for_in_one_turn_goes_in_one_commit(book, kinds):
    """A hundred rows, one COMMIT a step: no kind of write falls back to one by one."""
    intents = [make_intent(f"p{n}") for n in range(100)]
    commits = []
    sa.event.listen(book.ledger._engines[0], "commit", commits.append)

    for kind in kinds:
        commits.clear()
        write = EVERY_KIND[kind]
        results = book.run(*(write(book.ledger, n, intent) for n, intent in enumerate(intents)))
        assert len(commits) == 1, kind
        assert set(results) <= OF_EACH_KIND, kind
