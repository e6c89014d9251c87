"""A database that is away for a while: nothing that was paid for is lost, nothing happens twice."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mynth_dagster.errors import LedgerMismatchError, LedgerUnavailableError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.ledger.database import RetryBudget, hanging_settings
from mynth_dagster.ledger.journal import read_left_behind, remove_if_empty
from mynth_dagster.ledger.observations import Attachment
from mynth_dagster.limits import LEDGER_OUTAGE_MAX_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import Exposure
from mynth_dagster.models.transitions import Event, IntentState
from tests.factories import make_intent
from tests.ledger.book import Book, ending, sighting
from tests.ledger.postgres import Postgres, running_postgres

PRICE = 1_000_000


class Pauses:
    """Counts how often the writer waits, and does something at one of the waits."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []
        self.at: dict[int, Callable[[], object]] = {}

    def __call__(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.at.pop(len(self.slept_s), lambda: None)()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def full_disk(sqlite_url: str, pauses: Pauses, tmp_path: Path) -> Iterator[Book]:
    """A SQLite ledger whose disk can be full: SQLite itself refuses further pages."""
    ledger = Ledger.open(sqlite_url, pause=pauses)
    ledger.prepare_to_send(tmp_path / "journal")
    book = Book(ledger, sqlite_url)
    book.open()
    yield book
    book.eyes.dispose()
    ledger.close()


def fill_disk(book: Book, *, spare_pages: int | None) -> None:
    """No more than so many further pages fit; None: there is room again."""

    def limit(connection: sa.Connection) -> None:
        used = int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
        most = 2**30 if spare_pages is None else used + spare_pages
        connection.exec_driver_sql(f"PRAGMA max_page_count = {most}").close()

    with book.ledger._engines[0].begin() as connection:
        limit(connection)


def claim_many(book: Book, n: int) -> list:
    intents = [make_intent(f"p{i:04d}") for i in range(n)]
    book.run(*(book.ledger.claim(Claim(intent, 1)) for intent in intents))
    return intents


def left_behind(folder: Path) -> list[str]:
    return [answer.task_id for _, answers in read_left_behind(folder) for answer in answers]


def test_answers_wait_for_a_full_disk_in_the_journal(full_disk, pauses, tmp_path):
    """While there is no room they lie in the preallocated file, then in the ledger alone."""
    intents = claim_many(full_disk, 300)
    fill_disk(full_disk, spare_pages=0)
    seen: list[bytes] = []

    def look_and_free() -> None:
        (path,) = (tmp_path / "journal").iterdir()
        seen.append(path.read_bytes())
        fill_disk(full_disk, spare_pages=None)

    pauses.at[3] = look_and_free
    long = [f"tsk_{n}_{'x' * 200}" for n in range(300)]
    results = full_disk.run(
        *(
            full_disk.ledger.observe(sighting(intent, task_id))
            for intent, task_id in zip(intents, long, strict=True)
        )
    )

    assert {observed.attachment for observed in results} == {Attachment.ATTACHED}
    assert all(task_id.encode() in seen[0] for task_id in long)
    assert len(pauses.slept_s) == 3
    (path,) = (tmp_path / "journal").iterdir()
    assert set(path.read_bytes()) == {0}


def test_answers_of_a_process_that_gives_up_are_found_by_the_next(full_disk, pauses, tmp_path):
    """The writer's patience ends, the process too; the ids are still there to be taken in."""
    intents = claim_many(full_disk, 300)
    fill_disk(full_disk, spare_pages=0)

    with pytest.raises(LedgerUnavailableError, match="full"):
        full_disk.run(
            *(
                full_disk.ledger.observe(sighting(i, f"tsk_{n}_{'x' * 200}"))
                for n, i in enumerate(intents)
            )
        )

    assert sum(pauses.slept_s) == pytest.approx(120)
    fill_disk(full_disk, spare_pages=None)
    full_disk.sight(intents[0], "tsk_later")
    full_disk.ledger.close()
    assert sorted(left_behind(tmp_path / "journal")) == sorted(
        f"tsk_{n}_{'x' * 200}" for n in range(300)
    )


def test_an_answer_that_comes_in_the_last_pause_is_kept_too(full_disk, pauses, tmp_path):
    """It joins a group that fails for good in its first try: it is in the journal all the same."""
    first, late = claim_many(full_disk, 2)
    fill_disk(full_disk, spare_pages=0)
    failed: list[object] = []

    def record(intent: Intent, task_id: str) -> None:
        seen = sighting(intent, f"{task_id}_{'x' * 5000}")
        failed.extend(full_disk.run(_caught(full_disk.ledger.observe(seen))))

    joining = threading.Thread(target=record, args=(late, "late"))

    def join() -> None:
        if sum(pauses.slept_s) < LEDGER_OUTAGE_MAX_S:
            pauses.at[len(pauses.slept_s) + 1] = join
            return
        joining.start()
        while full_disk.ledger._commits._queue.empty():
            assert joining.is_alive()

    pauses.at[1] = join
    record(first, "first")
    joining.join(30)

    assert [type(error) for error in failed] == [LedgerUnavailableError] * 2
    full_disk.ledger.close()
    assert [name[:5] for name in left_behind(tmp_path / "journal")] == ["first", "late_"]


def test_patience_ends_with_the_time_that_tries_take():
    """A database that hangs and does not refuse is given up after as long as one that refuses."""
    now_s = 0.0
    patience = RetryBudget(120, elapsed_s=lambda: now_s)

    assert patience.next_pause_s() is not None
    now_s = 60.0
    assert patience.next_pause_s() is not None
    now_s = 119.0
    assert patience.next_pause_s() == pytest.approx(0.4)
    now_s = 120.0
    assert patience.next_pause_s() is None


def test_a_postgres_that_does_not_answer_counts_as_away():
    """Connections end by themselves; a URL that says otherwise is obeyed."""
    silent = sa.make_url("postgresql+psycopg://nobody@localhost/none?connect_timeout=3")

    given = [hanging_settings(url) for url in (silent, silent.set(query={}))]

    assert "connect_timeout" not in given[0]
    assert given[1]["connect_timeout"] == 10
    assert given[0]["tcp_user_timeout"] == given[1]["tcp_user_timeout"] == 30_000


def test_a_journal_in_use_is_left_to_its_process(full_disk, tmp_path):
    """Nobody takes in what its owner is still looking after."""
    full_disk.ledger._commits.journal.write([])

    assert list(read_left_behind(tmp_path / "journal")) == []


def test_a_journal_that_is_being_made_is_left_to_its_process(sqlite_url, tmp_path, monkeypatch):
    """Another process may look at any moment: it never finds one whose owner seems gone."""
    folder, plainly, found = tmp_path / "journal", os.open, []

    def look_afterwards(*args: Any) -> int:
        file = plainly(*args)
        found.extend(read_left_behind(folder))
        return file

    monkeypatch.setattr(os, "open", look_afterwards)
    ledger = Ledger.open(sqlite_url)
    ledger.prepare_to_send(folder)
    ledger.close()

    assert found == []


@pytest.mark.parametrize("at", ["mkdir", "stat", "open"])
def test_a_folder_that_another_process_takes_away_is_made_again(
    sqlite_url, tmp_path, monkeypatch, at
):
    """The last to leave removes the empty folder while the next one is making its own file."""
    folder, plainly, left = tmp_path / "journal", getattr(os, at), 3
    folder.mkdir()

    def leave_meanwhile(path: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if str(path).startswith(str(folder)) and left:
            left -= 1
            remove_if_empty(folder)
            try:
                return plainly(path, *args, **kwargs)
            finally:
                remove_if_empty(folder)
        return plainly(path, *args, **kwargs)

    monkeypatch.setattr(os, at, leave_meanwhile)
    ledger = Ledger.open(sqlite_url)
    ledger.prepare_to_send(folder)

    assert left < 3
    assert len(list(folder.glob("*.journal"))) == 1
    ledger.close()


def test_a_folder_that_vanishes_holds_nothing(tmp_path, monkeypatch):
    """Whoever looks for answers that were left does not mind."""
    folder, plainly = tmp_path / "journal", os.scandir
    folder.mkdir()

    def leave_before(path: Any) -> Any:
        remove_if_empty(folder)
        return plainly(path)

    monkeypatch.setattr(os, "scandir", leave_before)

    assert list(read_left_behind(folder)) == []
    assert not folder.exists()


def test_a_folder_with_something_in_it_stays(tmp_path):
    """Answers of another ledger, or of a process at work."""
    (tmp_path / "1-dead.journal").touch()

    remove_if_empty(tmp_path)

    assert tmp_path.exists()


def test_an_empty_journal_leaves_no_file(full_disk, tmp_path):
    """A run without trouble leaves nothing to take in, and nothing to look at."""
    full_disk.claim(make_intent())
    full_disk.ledger.close()

    assert list((tmp_path / "journal").iterdir()) == []


def test_without_room_for_answers_nothing_is_begun(sqlite_url, tmp_path):
    """The room is set aside before the first paid request, or the run ends there."""
    (tmp_path / "file").write_text("in the way")
    ledger = Ledger.open(sqlite_url)

    with pytest.raises(LedgerUnavailableError, match="Nothing was sent"):
        ledger.prepare_to_send(tmp_path / "file" / "journal")
    ledger.close()


def test_a_torn_line_is_no_answer(full_disk, tmp_path):
    """What a crash cut in the middle is not believed; what stands before it is."""
    journal = full_disk.ledger._commits.journal
    journal.write([_answer("tsk_1"), _answer("tsk_2")])
    content = journal.path.read_bytes()
    cut = content.index(b"tsk_2") + 3

    torn = tmp_path / "journal" / "1-dead.journal"
    torn.write_bytes(content[:cut] + bytes(100))
    flipped = tmp_path / "journal" / "2-dead.journal"
    flipped.write_bytes(content.replace(b"tsk_2", b"tsk_3"))

    assert left_behind(tmp_path / "journal") == ["tsk_1", "tsk_1"]


def _answer(task_id: str):
    from mynth_dagster.ledger.journal import JournalEntry  # noqa: PLC0415

    return JournalEntry("int_x", 1, task_id, 7, 1, 2)


def test_one_bad_write_is_not_waited_for(full_disk, pauses):
    """A write that can never succeed fails at once, and its neighbours go through."""
    good, bad = make_intent("good"), replace(make_intent("bad"), prompt_id=None)

    results = full_disk.run(
        _caught(full_disk.ledger.claim(Claim(bad, 1))), full_disk.ledger.claim(Claim(good, 1))
    )

    assert isinstance(results[0], LedgerUnavailableError)
    assert results[1] is Claimed.WON
    assert pauses.slept_s == []


async def _caught(awaitable):
    try:
        return await awaitable
    except LedgerUnavailableError as error:
        return error


class CuttingProxy:
    """
    Passes a connection on to Postgres; once told, it forwards a COMMIT and hangs up.

    Nothing else produces a COMMIT whose outcome the client cannot know.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._target = postgres.socket_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts_left = 0
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for opened in self._sockets:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += [client, server]
                for args in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=args, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                cut = is_client and self.cuts_left and b"COMMIT\0" in data
                if cut:
                    self.cuts_left -= 1
                    source.shutdown(socket.SHUT_RDWR)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that a test may stop."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def cut_book(own_postgres: Postgres, pauses: Pauses) -> Iterator[tuple[Book, CuttingProxy]]:
    """A ledger behind a proxy that can hang up at a COMMIT; eyes of its own on the database."""
    proxy = CuttingProxy(own_postgres)
    url = f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/postgres"
    ledger = Ledger.open(url, pause=pauses)
    book = Book(ledger, own_postgres.url.render_as_string(hide_password=False))
    book.open()
    yield book, proxy
    ledger.close()
    book.eyes.dispose()
    proxy.close()


def test_a_commit_of_unknown_outcome_is_found_to_have_been_kept(cut_book, pauses):
    """Claims are known again by their claimant; counters are raised once; answers stay attached."""
    book, proxy = cut_book
    intents = [make_intent(f"p{n}") for n in range(20)]
    proxy.cuts_left = 1
    mine = [book.ledger.claim(Claim(intent, 1, claimant="me")) for intent in intents]

    assert set(book.run(*mine)) == {Claimed.WON}
    assert len(pauses.slept_s) == 1
    row = book.ledger.read.partition("b", Slice())
    assert row.exposure == Exposure(reserved=20 * PRICE)

    proxy.cuts_left = 1
    seen = book.run(
        *(book.ledger.observe(sighting(i, f"t{n}")) for n, i in enumerate(intents[:10])),
        *(book.ledger.record_ending(ending(i, Event.GIVE_BACK)) for i in intents[10:]),
    )

    attachments = {observed.attachment for observed in seen[:10]}
    assert attachments <= {Attachment.ATTACHED, Attachment.KNOWN}
    assert [book.state(i) for i in intents] == [IntentState.ACCEPTED] * 10 + [
        IntentState.WITHHELD
    ] * 10
    row = book.ledger.read.partition("b", Slice())
    assert row.exposure == Exposure(reserved=10 * 7)


def test_a_claim_of_somebody_else_is_not_taken_for_ours(cut_book):
    """After a lost COMMIT the row may be another run's: only the claimant's name decides."""
    book, proxy = cut_book
    intent = make_intent()
    book.try_claim(intent, claimant="other")
    proxy.cuts_left = 1

    assert book.try_claim(intent, claimant="me") is Claimed.LOST


def test_two_claims_of_one_row_in_a_lost_commit_are_distinguished(cut_book):
    """The one that was kept is won, the other is not, whatever order they are asked in."""
    book, proxy = cut_book
    intent = make_intent()
    proxy.cuts_left = 1

    claims = [book.ledger.claim(Claim(intent, 1, claimant=name)) for name in ("first", "second")]

    assert book.run(*claims) == [Claimed.WON, Claimed.LOST]


def test_a_postgres_that_is_down_for_a_while_is_waited_for(own_postgres, pauses, tmp_path):
    """Writes and reads go on afterwards, nothing is lost, and the journal is empty again."""
    url = own_postgres.url.render_as_string(hide_password=False)
    ledger = Ledger.open(url, pause=pauses)
    ledger.prepare_to_send(tmp_path / "journal")
    book = Book(ledger, url)
    book.open()
    intent = make_intent()
    book.claim(intent)
    pauses.at[4] = own_postgres.start
    own_postgres.stop()

    assert book.sight(intent) is Attachment.ATTACHED
    assert len(pauses.slept_s) == 4
    assert book.state(intent) is IntentState.ACCEPTED
    assert not book.claim(intent)
    pauses.at[len(pauses.slept_s) + 2] = own_postgres.start
    own_postgres.stop()
    assert book.claim(make_intent("next"))
    book.eyes.dispose()
    ledger.close()
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_postgres_that_comes_back_with_less_than_it_confirmed_spends_nothing(
    own_postgres, pauses
):
    """A failover that lost transactions is an older copy: every further write is refused."""
    url = own_postgres.url.render_as_string(hide_password=False)
    ledger = Ledger.open(url, pause=pauses)
    book = Book(ledger, url)
    book.open()
    book.claim(make_intent("before"))
    own_postgres.stop()
    own_postgres.copy_data()
    own_postgres.start()
    book.claim(make_intent("forgotten"))
    book.claim(make_intent("forgotten"))  # refused, and no proof of anything
    book.claim(make_intent("forgotten too"))
    own_postgres.stop()
    own_postgres.put_copy_back()
    pauses.at[len(pauses.slept_s) + 3] = own_postgres.start

    with pytest.raises(LedgerMismatchError, match="failover lost transactions"):
        book.claim(make_intent("after"))
    with pytest.raises(LedgerMismatchError, match="Nothing more is sent"):
        book.claim(make_intent("after that"))

    assert book.query("SELECT prompt_id FROM intents") == [("before",)]
    book.eyes.dispose()
    ledger.close()
