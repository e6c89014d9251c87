"""Money in the ledger: each write moves a partition's exposure, and caps are kept by it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.ledger.observations import OBSERVE, Attachment
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import Budget, Exposure
from mynth_dagster.models.task import TaskStatus
from mynth_dagster.models.transitions import Event, IntentState
from tests.factories import make_intent, make_task
from tests.ledger.book import Book, ending, reading, sighting

PRICE = 1_000_000
NOTHING = Exposure()


def exposure(book: Book, fan_out: str = "") -> Exposure:
    row = book.ledger.read.partition("b", Slice(fan_out=fan_out))
    assert row is not None
    return row.exposure


def test_money_is_reserved_with_the_claim_and_released_when_nothing_was_sent(book):
    """Claimed: reserved as quoted. Given back or rejected: nothing is."""
    book.open()
    intent = make_intent()

    book.claim(intent)
    assert exposure(book) == Exposure(reserved=PRICE)
    book.end(intent, Event.GIVE_BACK)
    assert exposure(book) == NOTHING
    book.claim(replace(intent, attempt=2), from_attempt=1)
    assert exposure(book) == Exposure(reserved=PRICE)
    book.end(replace(intent, attempt=2), Event.REJECT)
    assert exposure(book) == NOTHING


def test_money_of_a_lost_answer_is_unknown_until_it_is_settled(book):
    """Unresolved: unknown. Found: reserved as Mynth said. Finished: what it cost."""
    book.open()
    intent = make_intent()
    book.claim(intent)

    book.end(intent, Event.LOSE_SIGHT)
    assert exposure(book) == Exposure(unknown=PRICE)
    book.sight(intent)
    assert exposure(book) == Exposure(reserved=7)
    book.read(intent, make_task(cost_units=5))
    assert exposure(book) == Exposure(spent=5)


def test_the_answer_to_a_row_that_moved_is_counted_where_the_row_is(book):
    """Its sender does not know that the fan-out changed while the request was on its way."""
    book.open("000", "001")
    intent, other = make_intent("p1", fan_out="000"), make_intent("p2", fan_out="000")
    book.run(*(book.ledger.claim(Claim(each, 1)) for each in (intent, other)))
    book.run(book.ledger.move_intents([(intent.intent_id, "001")]))

    book.observe(*(sighting(each, each.intent_id) for each in (intent, other)))

    assert (book.state(intent), book.state(other)) == (IntentState.ACCEPTED,) * 2
    assert exposure(book, "000") == exposure(book, "001") == Exposure(reserved=7)


def test_answers_beside_one_that_a_webhook_announced_before_count_once(book):
    """One member of a group that is not as its sender knows it does not spoil the others."""
    book.open()
    intents = [make_intent(f"p{n}") for n in range(3)]
    book.run(*(book.ledger.claim(Claim(intent, 1)) for intent in intents))
    book.sight(intents[1], "t1", source="webhook")

    observed = book.observe(*(sighting(i, f"t{n}") for n, i in enumerate(intents)))

    attached, known = Attachment.ATTACHED, Attachment.KNOWN
    assert [each.attachment for each in observed] == [attached, known, attached]
    assert exposure(book) == Exposure(reserved=3 * 7)


def test_an_answer_to_an_attempt_before_the_last_counts_the_last(book):
    """The price that was quoted may have changed between two attempts."""
    book.open()
    first = make_intent()
    book.claim(first)
    book.end(first, Event.GIVE_BACK)
    book.claim(replace(first, attempt=2, quoted_units=3 * PRICE), from_attempt=1)

    book.sight(first)

    assert exposure(book) == Exposure(reserved=7)


def test_a_second_task_of_a_row_counts_too(book):
    """Unknown at first, then what it was charged."""
    book.open()
    intent = make_intent()
    book.claim(intent)
    book.sight(intent)
    book.read(intent, make_task(cost_units=5))

    book.sight(intent, "tsk_2")
    assert exposure(book) == Exposure(spent=5, unknown=7)
    book.sight(intent, "tsk_2", source="webhook")
    assert exposure(book) == Exposure(spent=5, unknown=7)
    ((_, surplus_id),) = book.ledger.read.unread_surplus("b", [Slice()], None)
    book.read(intent, make_task(surplus_id, cost_units=6))
    assert exposure(book) == Exposure(spent=11)
    assert book.ledger.read.unread_surplus("b", [Slice()], None) == []


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (make_task(cost_units=None), Exposure(unknown=7)),
        (make_task(status=TaskStatus.FAILED, cost_units=None, images=()), NOTHING),
    ],
    ids=["no cost told", "failed"],
)
def test_a_finished_task_without_a_cost(book, task, expected):
    """Unknown where it delivered; a failed one costs nothing."""
    book.open()
    intent = make_intent()
    book.claim(intent)
    book.sight(intent)

    book.read(intent, task)

    assert exposure(book) == expected


def test_a_row_that_moves_takes_its_money_along(book):
    """Into another shard, with its further tasks."""
    book.open("000", "001")
    intent = make_intent(fan_out="000")
    book.claim(intent)
    book.sight(intent)
    book.sight(intent, "tsk_2")

    book.run(book.ledger.move_intents([(intent.intent_id, "001")]))

    assert exposure(book, "000") == NOTHING
    assert exposure(book, "001") == Exposure(reserved=7, unknown=7)


@pytest.mark.parametrize(
    ("budget", "over"),
    [
        (Budget(partition_units=3 * PRICE), Claimed.OVER_PARTITION),
        (Budget(window_units=3 * PRICE), Claimed.OVER_WINDOW),
        (Budget(batch_units=3 * PRICE), Claimed.OVER_BATCH),
    ],
)
def test_claims_beyond_a_cap_are_refused_in_one_group_or_in_many(book, budget, over):
    """Ten claims for the money of three: exactly three win, whatever is asked for together."""
    book.open()
    intents = [make_intent(f"p{n}") for n in range(10)]

    together = [book.ledger.claim(Claim(i, 1, budget=budget)) for i in intents[:5]]
    claimed = book.run(*together) + [book.try_claim(i, budget=budget) for i in intents[5:]]

    assert claimed.count(Claimed.WON) == 3
    assert claimed.count(over) == 7
    assert book.query("SELECT count(*) FROM intents") == [(3,)]
    assert exposure(book) == Exposure(reserved=3 * PRICE)


def test_a_cap_counts_what_it_is_about(book):
    """A partition's cap looks at it alone, a window's at its partitions, a batch's at all."""
    book.open("000", "001")
    book.run(book.ledger.open_partitions("b", [Slice("w", "000")], "run"))
    book.claim(make_intent("a", fan_out="000"))
    book.claim(make_intent("b", fan_out="001"))
    book.claim(make_intent("c", window="w", fan_out="000"))
    new = make_intent("d", fan_out="000")

    assert book.try_claim(new, budget=Budget(partition_units=PRICE)) is Claimed.OVER_PARTITION
    assert book.try_claim(new, budget=Budget(window_units=2 * PRICE)) is Claimed.OVER_WINDOW
    assert book.try_claim(new, budget=Budget(batch_units=3 * PRICE)) is Claimed.OVER_BATCH
    roomy = Budget(partition_units=2 * PRICE, window_units=3 * PRICE, batch_units=4 * PRICE)
    assert book.try_claim(new, budget=roomy) is Claimed.WON


def test_a_charge_above_the_quote_uses_up_the_cap(book):
    """The next claim is checked against what was really charged."""
    book.open()
    first = make_intent("first")
    book.claim(first)
    book.sight(first)
    book.read(first, make_task(cost_units=5 * PRICE))

    budget = Budget(batch_units=5 * PRICE)

    assert book.try_claim(make_intent("second"), budget=budget) is Claimed.OVER_BATCH


def test_money_of_rows_in_doubt_stays_counted(book):
    """Unresolved and given-up rows may have been charged: a cap does not forget them."""
    book.open()
    intent = make_intent("lost")
    book.claim(intent)
    book.end(intent, Event.LOSE_SIGHT)
    book.run(book.ledger.abandon(intent, "given up"))

    claimed = book.try_claim(make_intent("next"), budget=Budget(batch_units=PRICE))

    assert claimed is Claimed.OVER_BATCH


def test_two_writers_at_once_do_not_spend_the_same_money(book, ledger_url):
    """Two connections race for the last of a budget; together they never pass it."""
    book.open()
    budget, barrier, won = Budget(batch_units=10 * PRICE), threading.Barrier(2), []

    def spend(name: str) -> None:
        ledger = Ledger.open(ledger_url)
        own = Book(ledger, ledger_url)
        barrier.wait(30)
        won.extend(own.try_claim(make_intent(f"{name}{n}"), budget=budget) for n in range(10))
        own.eyes.dispose()
        ledger.close()

    threads = [threading.Thread(target=spend, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert won.count(Claimed.WON) == 10
    assert exposure(book) == Exposure(reserved=10 * PRICE)


def test_two_processes_that_read_the_same_tasks_count_them_once(postgres_url):
    """The second waits for the first, and counts only what it changes itself."""
    ledger = Ledger.open(postgres_url)
    book = Book(ledger, postgres_url)
    book.open()
    intents = [make_intent(f"p{n}") for n in range(3)]
    for n, intent in enumerate(intents):
        book.claim(intent)
        book.sight(intent, f"t{n}")
    readings = [
        reading(intent, make_task(f"t{n}", cost_units=5)) for n, intent in enumerate(intents)
    ]

    def read_as_well() -> None:
        with book.eyes.begin() as connection:
            OBSERVE.apply(connection, readings[1:])

    with book.eyes.begin() as connection:
        OBSERVE.apply(connection, readings[:2])
        second = threading.Thread(target=read_as_well)
        second.start()
        while book.query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert second.is_alive()
    second.join(30)

    assert exposure(book) == Exposure(spent=3 * 5)
    book.eyes.dispose()
    ledger.close()


def test_endings_and_responses_of_one_group_add_up(book):
    """A hundred rows in one COMMIT, half accepted and half given back."""
    book.open()
    intents = [make_intent(f"p{n}") for n in range(100)]
    book.run(*(book.ledger.claim(Claim(intent, 1)) for intent in intents))

    book.run(
        *(book.ledger.observe(sighting(i, f"t{n}")) for n, i in enumerate(intents[:50])),
        *(book.ledger.record_ending(ending(i, Event.GIVE_BACK)) for i in intents[50:]),
    )

    assert exposure(book) == Exposure(reserved=50 * 7)
