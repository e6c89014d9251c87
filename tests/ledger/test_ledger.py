"""The contract of the ledger: who wins, what is kept, and when a partition has news."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace

import pytest

from mynth_dagster.clock import Instant
from mynth_dagster.errors import IllegalTransitionError, LedgerUnavailableError
from mynth_dagster.ledger import Ledger, Stopped
from mynth_dagster.ledger.delivery import Claim, Claimed
from mynth_dagster.ledger.evidence import Attachment
from mynth_dagster.ledger.finish import StatusNote
from mynth_dagster.ledger.reader import Moving
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import TRANSITIONS, Event, IntentState, states_before
from tests.factories import START_US, make_image, make_intent, make_task
from tests.ledger.book import HAS_TASK, Book, ending, sighting

STATES = list(IntentState)
ENDINGS = {
    Event.GIVE_BACK: IntentState.WITHHELD,
    Event.REJECT: IntentState.REJECTED,
    Event.LOSE_SIGHT: IntentState.UNRESOLVED,
}


@pytest.mark.parametrize("state", STATES)
def test_a_row_is_claimed_again_only_from_a_state_that_allows_it(book, state):
    """Compare-and-set on state and attempt; anything else leaves the row as it was."""
    intent = make_intent()
    book.put(state, intent)
    again = replace(intent, attempt=2, claimed_at_us=START_US + 5)

    won = book.claim(again, from_attempt=1)

    assert won is ((state, Event.CLAIM) in TRANSITIONS)
    found = book.at(intent)
    assert (found.state, found.attempt) == ((IntentState.SENDING, 2) if won else (state, 1))


@pytest.mark.parametrize("state", STATES)
def test_a_new_claim_never_takes_a_row_that_exists(book, state):
    """The same generation is inserted once, whatever became of it."""
    intent = make_intent()
    book.put(state, intent)

    assert not book.claim(intent)
    assert book.state(intent) is state


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", ENDINGS)
def test_a_delivery_ends_once_and_only_while_it_is_sending(book, state, event):
    """An ending that comes late changes nothing, and keeps its evidence all the same."""
    intent = make_intent()
    book.put(state, intent)

    ended = book.end(intent, event)

    assert ended is (state is IntentState.SENDING)
    assert book.state(intent) is (ENDINGS[event] if ended else state)
    assert book.query("SELECT outcome, detail FROM attempts") == [("because", "words")]


@pytest.mark.parametrize("event", [Event.SIGHT, Event.CLEAR, Event.COMPLETE, Event.CLAIM])
def test_an_event_that_ends_no_delivery_is_refused(book, event):
    """A wrong event is a fault of the caller: nothing is written."""
    intent = make_intent()
    book.claim(intent)

    if (IntentState.SENDING, event) in TRANSITIONS:
        return
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


@pytest.mark.parametrize("state", STATES)
def test_a_task_id_is_kept_from_every_state(book, state):
    """Evidence is never thrown away: attached where that is legal, else surplus."""
    intent = make_intent()
    book.put(state, intent)

    found = book.sight(intent, "tsk_1", source="list")

    attaches = state in states_before(Event.SIGHT)
    assert found is (Attachment.ATTACHED if attaches else Attachment.SURPLUS)
    assert book.state(intent) is (IntentState.ACCEPTED if attaches else state)
    assert (("tsk_1", 1) in book.query("SELECT task_id, is_surplus FROM tasks")) is not attaches
    assert book.ledger.read.owners(["tsk_1"]) == {"tsk_1": intent.intent_id}
    assert book.query("SELECT task_id, source, attempt FROM sightings") == [("tsk_1", "list", 1)]
    first = "tsk_1" if attaches else ("tsk_first" if state in HAS_TASK else None)
    assert book.at(intent).task_id == first


def test_a_task_that_is_seen_again_is_known(book):
    """Answer, webhook and list may all tell of one task: one task, and three sightings."""
    intent = make_intent()
    book.claim(intent)

    found = [book.sight(intent, source=source) for source in ("answer", "webhook", "list")]

    assert found == [Attachment.ATTACHED, Attachment.KNOWN, Attachment.KNOWN]
    assert not book.ledger.outcomes.surplus_for([intent.intent_id])
    assert len(book.query("SELECT * FROM sightings")) == 3


def test_a_late_answer_still_tells_what_is_held(book):
    """A webhook may attach the task first; only the answer knows the reservation."""
    intent = make_intent()
    book.open()
    book.claim(intent)
    told = replace(sighting(intent, source="webhook"), reserved_units=None)
    assert book.run(book.ledger.record_sighting(told)) == [Attachment.ATTACHED]
    assert book.at(intent).reserved_units == intent.quoted_units
    version = book.version()

    assert book.sight(intent) is Attachment.KNOWN
    assert book.at(intent).reserved_units == 7
    assert book.version() == version + 1
    assert book.query("SELECT reserved_units FROM partitions") == [(7,)]
    assert book.sight(intent) is Attachment.KNOWN
    assert book.version() == version + 1


def test_a_further_task_is_surplus_however_often_it_is_seen(book):
    """It is charged, so it is listed, once."""
    intent = make_intent()
    book.claim(intent)
    book.sight(intent, "tsk_1")

    assert [book.sight(intent, "tsk_2") for _ in range(2)] == [Attachment.SURPLUS] * 2
    surplus = book.ledger.outcomes.surplus_for([intent.intent_id])[intent.intent_id]
    assert [task.task_id for task in surplus] == ["tsk_2"]


def test_a_task_of_another_intent_is_never_attached_twice(book):
    """A proxy that replays one answer to two requests cannot give both the same images."""
    first, second = make_intent("p1"), make_intent("p2")
    book.claim(first)
    book.claim(second)
    together = [book.ledger.record_sighting(sighting(intent)) for intent in (first, second)]

    found = book.run(*together)

    assert found == [Attachment.ATTACHED, Attachment.FOREIGN]
    assert book.state(second) is IntentState.SENDING
    assert book.sight(second, "tsk_1") is Attachment.FOREIGN
    assert len(book.query("SELECT * FROM sightings")) == 2


def test_what_is_attached_is_what_the_answer_said(book):
    """The reservation of the answer, else the quoted price; earlier words are gone."""
    told, silent = make_intent("p1"), make_intent("p2", quoted_units=5)
    for intent in (told, silent):
        book.claim(intent)
        book.end(intent, Event.LOSE_SIGHT)

    book.run(
        book.ledger.record_sighting(sighting(told, "tsk_1")),
        book.ledger.record_sighting(replace(sighting(silent, "tsk_2"), reserved_units=None)),
    )

    assert (book.at(told).reserved_units, book.at(silent).reserved_units) == (7, 5)
    assert book.at(told).error_message is None
    assert book.at(told).deadline_at_us == START_US + 10


@pytest.mark.parametrize("state", STATES)
def test_a_task_is_read_once_and_only_into_an_accepted_intent(book, state):
    """Final states never change, whatever is read later."""
    intent = make_intent()
    book.put(state, intent)

    read = book.read(intent, make_task("tsk_first"))

    assert read is (state is IntentState.ACCEPTED)
    assert book.state(intent) is (IntentState.COMPLETED if read else state)


@pytest.mark.parametrize(
    ("task", "n_asked", "state", "charged"),
    [
        (make_task("tsk_first"), 1, IntentState.COMPLETED, 1_000_000),
        (make_task("tsk_first"), 2, IntentState.PARTIAL, 1_000_000),
        (make_task("tsk_first", images=()), 1, IntentState.FAILED, 1_000_000),
        (make_task("tsk_first", cost_units=None), 1, IntentState.COMPLETED, None),
        (
            make_task("tsk_first", status=TaskStatus.FAILED, images=(), cost_units=None),
            1,
            IntentState.FAILED,
            0,
        ),
        (
            make_task("tsk_first", status=TaskStatus.FAILED, images=(make_image(),)),
            1,
            IntentState.FAILED,
            1_000_000,
        ),
    ],
)
def test_what_a_finished_task_means(book, task, n_asked, state, charged):
    """Completed, partial or failed by what was delivered; a cost that is null is not zero."""
    intent = make_intent(n_asked=n_asked)
    book.put(IntentState.ACCEPTED, intent)

    book.read(intent, task)

    found = book.at(intent)
    assert (found.state, found.charged_units) == (state, charged)
    assert book.ledger.outcomes.tasks_for(["tsk_first"]) == {"tsk_first": task}


def test_a_second_reading_does_not_replace_the_first(book):
    """The task as first read stays: later reads cannot rewrite what tables showed."""
    intent = make_intent()
    book.put(IntentState.ACCEPTED, intent)
    book.read(intent, make_task("tsk_first"))

    assert not book.read(intent, make_task("tsk_first", cost_units=9))
    assert book.ledger.outcomes.tasks_for(["tsk_first"])["tsk_first"].cost_units == 1_000_000


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


def test_only_what_has_news_for_the_tables_raises_a_version(book):
    """Claims, first sightings, endings and readings that changed something; nothing else."""
    book.open("000", "001")
    intent = make_intent(fan_out="000")
    assert (book.version("000"), book.version("001")) == (1, 1)
    seen = [book.version("000")]

    def news(operation) -> bool:
        operation()
        seen.append(book.version("000"))
        return seen[-1] > seen[-2]

    assert news(lambda: book.claim(intent))
    assert not news(lambda: book.claim(intent))
    assert news(lambda: book.end(intent, Event.LOSE_SIGHT))
    assert not news(lambda: book.end(intent, Event.REJECT))
    assert news(lambda: book.sight(intent))
    assert not news(lambda: book.sight(intent))
    assert not news(lambda: book.sight(intent, source="webhook"))
    assert news(lambda: book.sight(intent, "tsk_2"))
    assert not news(lambda: book.sight(intent, "tsk_2"))
    assert not news(
        lambda: book.run(book.ledger.note_status(StatusNote("tsk_1", TaskStatus.COMPLETED)))
    )
    assert news(lambda: book.read(intent, make_task()))
    assert not news(lambda: book.read(intent, make_task()))
    assert news(lambda: book.read(intent, make_task("tsk_2")))
    assert not news(lambda: book.open("000", "001"))
    assert book.version("001") == 1


def test_news_go_to_the_partition_where_the_row_is_now(book):
    """A row may have moved to another shard since its holder looked."""
    book.open("000", "001")
    intent = make_intent(fan_out="000")
    book.claim(intent)
    book.run(book.ledger.move_intents([(intent.intent_id, "001")]))
    before = book.version("000"), book.version("001")

    book.sight(intent)

    assert (book.version("000"), book.version("001")) == (before[0], before[1] + 1)


def test_moving_rows_is_news_for_both_partitions_and_for_no_other_window(book):
    """The one loses a row and the other gains it."""
    book.open("000", "001")
    other = Slice(window="2026-11-22", fan_out="000")
    book.run(book.ledger.open_partitions("b", [other], "run 1"))
    intent = make_intent(fan_out="000")
    book.claim(intent)
    before = book.version("000"), book.version("001")

    book.run(book.ledger.move_intents([(intent.intent_id, "001")]))

    assert book.at(intent).fan_out == "001"
    assert (book.version("000"), book.version("001")) == (before[0] + 1, before[1] + 1)
    assert book.ledger.read.partition("b", other).version == 1


def test_a_partition_is_behind_from_the_start(book):
    """A partition without a single row to send still gets its tables."""
    book.open()

    row = book.ledger.read.partition("b", Slice())

    assert row.collected < row.version


@pytest.mark.parametrize(
    ("version", "marked", "collected"), [(3, True, 3), (2, False, 2), (1, False, 2)]
)
def test_tables_mark_what_they_show_and_never_go_back(book, version, marked, collected):
    """Compare-and-set: an older writer does not undo a newer one."""
    book.open()
    book.run(book.ledger.mark_collected("b", Slice(), 2))

    assert book.run(book.ledger.mark_collected("b", Slice(), version)) == [marked]
    assert book.ledger.read.partition("b", Slice()).collected == collected


def test_the_end_of_a_run_is_news_only_where_its_reason_changed(book):
    """Rows not sent are shown with the reason why the last run stopped."""
    book.open()

    def close(code):
        stop = Stopped(code, "Why.", Instant(START_US)) if code else None
        book.run(book.ledger.close_partitions("b", [Slice()], stop))
        return book.version()

    versions = [close(code) for code in (None, "unauthorized", "unauthorized", None)]

    assert versions == [1, 2, 2, 3]
    assert book.ledger.read.partition("b", Slice()).submitter is None


def test_rows_of_a_gone_process_become_unresolved_after_their_time(book):
    """Past `send_by` and the POST's deadline, whoever owned them; others and other windows stay."""
    book.open("000", "001")
    old, done = make_intent("old", fan_out="000"), make_intent("done", fan_out="000")
    young, elsewhere = make_intent("young", fan_out="001"), make_intent("old", window="w")
    for intent in (old, young, elsewhere, done):
        book.claim(intent)
        book.set_send_by(intent, age_s=59 if intent is young else 61)
    book.sight(done)
    before = book.version("000"), book.version("001")

    assert book.expire(grace_s=60) == 1
    states = [book.state(intent).value for intent in (old, young, elsewhere, done)]
    assert states == ["unresolved", "sending", "sending", "accepted"]
    assert book.at(old).reason == "interrupted"
    assert (book.version("000"), book.version("001")) == (before[0] + 1, before[1])


def test_an_answer_that_comes_after_the_row_was_given_up_still_counts(book):
    """A frozen process wakes up with an id: the row is accepted."""
    intent = make_intent()
    book.claim(intent)
    book.set_send_by(intent, age_s=61)
    assert book.expire(grace_s=60) == 1

    assert book.sight(intent) is Attachment.ATTACHED
    assert book.state(intent) is IntentState.ACCEPTED


def test_a_status_is_noted_only_for_tasks_that_are_not_read(book):
    """What Mynth said last makes a task due to be read; a read one is done with."""
    intent = make_intent()
    book.claim(intent)
    book.sight(intent)
    book.run(book.ledger.note_status(StatusNote("tsk_1", TaskStatus.COMPLETED)))
    assert [task.task_id for task in book.ledger.read.unread("b", [Slice()])] == ["tsk_1"]

    book.read(intent, make_task())

    assert book.ledger.read.unread("b", [Slice()]) == []


def test_a_key_has_one_number(book):
    """Base URL and fingerprint name it; the same names give the same number."""

    def number(base_url: str, fingerprint: str) -> int:
        names = {"user_id": "user_1", "key_id": ""}
        call = book.ledger.ensure_account(base_url, fingerprint, **names, now_us=1)
        return int(book.run(call)[0])

    first = number("https://a", "f1")

    assert number("https://a", "f1") == first
    assert len({first, number("https://a", "f2"), number("https://b", "f1")}) == 3
    assert [row.user_id for row in book.ledger.accounts.all()] == ["user_1"] * 3


def test_facts_are_remembered_across_openings(book, ledger_url):
    """The ledger keeps its id and its last verdicts."""
    book.run(book.ledger.set_meta("revision:x", "2026-04"))
    book.run(book.ledger.set_meta("revision:x", "2026-08"))

    again = Ledger.open(ledger_url)
    try:
        assert again.ledger_id == book.ledger.ledger_id
        assert again.read.meta("revision:x") == "2026-08"
        assert again.read.meta("unknown") is None
    finally:
        again.close()


def test_sql_in_names_is_stored_literally(book):
    """Ids, keys and messages are data."""
    nasty = "'; DROP TABLE intents; --"
    intent = make_intent(nasty, batch=nasty, window=nasty, fan_out=nasty)
    book.claim(intent)
    book.run(book.ledger.record_ending(ending(intent, Event.REJECT, error_code=nasty)))

    assert book.at(intent).error_code == nasty
    assert list(book.ledger.read.intents_for(nasty, nasty, [nasty])) == [nasty]


def test_more_rows_than_one_query_takes_are_all_found(book):
    """Look-ups go in chunks."""
    intents = [make_intent(f"p{n}") for n in range(5_100)]
    book.run(*(book.ledger.claim(Claim(intent)) for intent in intents))

    found = book.ledger.read.intents_for("b", "", [intent.prompt_id for intent in intents])

    assert len(found) == 5_100


def test_a_closed_ledger_says_so(book):
    """No write is accepted that would never be committed."""
    book.ledger.close()

    with pytest.raises(LedgerUnavailableError, match="closed"):
        book.claim(make_intent())


def test_more_partitions_than_an_expression_may_be_deep(book):
    """Three thousand windows: conditions on places are one list, not one term each."""
    intent = make_intent("p", window="2026-11-20")
    book.claim(intent)
    book.sight(intent)
    slices = [Slice(f"day {n}") for n in range(3_000)] + [Slice("2026-11-20")]

    assert len(book.ledger.outcomes.unread_surplus("b", slices)) == 0
    assert book.ledger.read.counts("b", slices)[0].n_intents == 1
    assert book.ledger.read.moving("b", 0) == {("2026-11-20", ""): Moving(n_pending=1)}
