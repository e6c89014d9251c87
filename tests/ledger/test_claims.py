"""Who may send: claims and how deliveries end, by state, attempt and process."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace

import pytest

from mynth_dagster.errors import IllegalTransitionError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.transitions import TRANSITIONS, Event, IntentState
from tests.factories import START_US, make_intent
from tests.ledger.book import Book

ENDINGS = {
    Event.GIVE_BACK: IntentState.WITHHELD,
    Event.REJECT: IntentState.REJECTED,
    Event.LOSE_SIGHT: IntentState.UNRESOLVED,
}


@pytest.fixture
def rows(book: Book) -> dict[IntentState, Intent]:
    """A row in each state."""
    rows = {state: make_intent(state.value) for state in IntentState}
    for state, intent in rows.items():
        book.put(state, intent, f"tsk_{state.value}")
    return rows


def test_a_row_is_claimed_again_only_from_a_state_that_allows_it(book, rows):
    """Compare-and-set on state and attempt; anything else leaves the row as it was."""
    for state, intent in rows.items():
        again = replace(intent, attempt=2, claimed_at_us=START_US + 5)

        won = book.claim(again, from_attempt=1)

        assert won is ((state, Event.CLAIM) in TRANSITIONS)
        found = book.at(intent)
        assert (found.state, found.attempt) == ((IntentState.SENDING, 2) if won else (state, 1))


def test_a_new_claim_never_takes_a_row_that_exists(book, rows):
    """The same generation is inserted once, whatever became of it."""
    for state, intent in rows.items():
        assert not book.claim(intent)
        assert book.state(intent) is state


@pytest.mark.parametrize("event", ENDINGS)
def test_a_delivery_ends_once_and_only_while_it_is_sending(book, rows, event):
    """An ending that comes late changes nothing, and keeps its evidence all the same."""
    for state, intent in rows.items():
        ended = book.end(intent, event)

        assert ended is (state is IntentState.SENDING)
        assert book.state(intent) is (ENDINGS[event] if ended else state)
    assert book.query("SELECT outcome, detail FROM attempts") == [("because", "words")] * len(rows)


@pytest.mark.parametrize("event", [Event.PROVE_ABSENT, Event.COMPLETE, Event.CLAIM])
def test_an_event_that_ends_no_delivery_is_refused(book, event):
    """A wrong event is a fault of the caller: nothing is written."""
    intent = make_intent()
    book.claim(intent)

    with pytest.raises(IllegalTransitionError, match="sending may not become"):
        book.end(intent, event)
    assert book.state(intent) is IntentState.SENDING
    assert book.query("SELECT * FROM attempts") == []


def test_an_ending_of_an_older_attempt_changes_nothing(book):
    """The answer to attempt 1 cannot end attempt 2."""
    intent = make_intent()
    book.claim(intent)
    book.end(intent, Event.GIVE_BACK)
    book.claim(replace(intent, attempt=2), from_attempt=1)

    assert not book.end(intent, Event.REJECT)
    assert book.state(intent) is IntentState.SENDING


def test_two_claims_in_one_breath_have_one_winner(book):
    """Within one group commit, the first insert wins."""
    intent = make_intent()

    won = book.run(*(book.ledger.claim(Claim(intent)) for _ in range(5)))

    assert sorted(won) == [*[Claimed.LOST] * 4, Claimed.WON]


def claim_all(url: str, n_rows: int, barrier, results) -> None:
    """One process that claims all rows; tells how many it won."""
    ledger = Ledger.open(url)
    book = Book(ledger, url)
    barrier.wait(30)
    won = book.run(*(ledger.claim(Claim(make_intent(f"p{n}"))) for n in range(n_rows)))
    ledger.close()
    results.put(won.count(Claimed.WON))


def test_two_processes_that_claim_the_same_rows_win_each_row_once(book):
    """Exactly one winner a row, without a lock held."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    processes = [
        spawn.Process(target=claim_all, args=(book.url, 300, barrier, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    won = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)

    assert sum(won) == 300
    assert book.query("SELECT count(*) FROM intents") == [(300,)]


def test_two_ledgers_in_one_process_agree_on_the_winner(book, ledger_url):
    """Two threads with connections of their own: one of them claims the row again."""
    intent = make_intent()
    book.claim(intent)
    book.end(intent, Event.GIVE_BACK)
    barrier, won = threading.Barrier(2), []

    def race() -> None:
        ledger = Ledger.open(ledger_url)
        barrier.wait(30)
        won.append(Book(ledger, ledger_url).claim(replace(intent, attempt=2), from_attempt=1))
        ledger.close()

    threads = [threading.Thread(target=race) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(won) == [False, True]
    assert book.at(intent).attempt == 2
