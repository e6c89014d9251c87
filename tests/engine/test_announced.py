"""Polling backs off from tasks that will be announced, and takes over where none comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mynth_dagster.engine.reconcile import Hearing, Unannounced, hearing_of, is_due_by, watch
from mynth_dagster.engine.session import Session
from mynth_dagster.ledger.events import Heard
from mynth_dagster.limits import ANNOUNCED_AFTER_MAX_S, ANNOUNCED_AFTER_MIN_S, HEARD_WITHIN_S
from mynth_dagster.models.intent import Awaited
from tests.engine.bench import Bench
from tests.engine.post import (
    READS,
    batch,
    deliver,
    events,
    finish,
    in_session,
    n_requests,
    send_all,
)
from tests.factories import START_US

S = 1_000_000


def heard(wait_s: float = 5, ago_s: float = 60) -> Heard:
    return Heard(START_US - round(ago_s * S), round(wait_s * S))


@pytest.mark.parametrize(
    ("hearing", "patience_s"),
    [
        (Hearing(None), 0),
        (Hearing(heard(5)), ANNOUNCED_AFTER_MIN_S),
        (Hearing(heard(60)), 120),
        (Hearing(heard(5000)), ANNOUNCED_AFTER_MAX_S),
        (Hearing(heard(5, ago_s=HEARD_WITHIN_S + 1)), 0),
        (Hearing(heard(), Unannounced(START_US, 2)), ANNOUNCED_AFTER_MIN_S),
        (Hearing(heard(), Unannounced(START_US, 3)), 0),
        (Hearing(heard(ago_s=301), Unannounced(START_US, 1)), 0),
        (Hearing(heard(), Unannounced(START_US - 61 * S, 99)), ANNOUNCED_AFTER_MIN_S),
    ],
    ids=[
        "never",
        "quick",
        "slow",
        "very slow",
        "long ago",
        "one may be lost",
        "several are not",
        "long silence",
        "came back",
    ],
)
def test_patience_follows_what_was_heard(hearing, patience_s):
    """Twice the longest of the newest waits, within bounds; none where deliveries stopped."""
    assert hearing.patience_s(START_US) == patience_s


def test_what_has_stopped_is_said_with_times_and_counts():
    """And nothing is said while all is well."""
    assert Hearing(None).in_words() is None
    assert Hearing(heard()).in_words() is None
    said = Hearing(heard(ago_s=400), Unannounced(START_US, 12)).in_words()
    assert "webhooks have stopped coming" in said
    assert "12 tasks finished since" in said
    assert Hearing(heard(ago_s=HEARD_WITHIN_S + 1), Unannounced(START_US, 12)).in_words() is None


def test_a_batch_that_silences_webhooks_is_polled_as_ever():
    """Unless it names endpoints of its own."""
    task = Awaited("int_1", "tsk_1", n_asked=1, since_us=START_US)
    defaults = replace(batch().defaults, mute_registered_webhooks=True)
    own = replace(defaults, webhook_urls=("https://a.example/",))

    verdicts = [
        is_due_by(Hearing(heard()), batch(defaults=chosen), START_US + S)(task)
        for chosen in (batch().defaults, defaults, own)
    ]
    assert verdicts == [False, True, False]


def announce_first(bench: Bench) -> None:
    """A first table whose tasks were all announced."""
    send_all(bench, 3)
    bench.server.settle()
    deliver(bench, events(bench.server))
    finish(bench)


def test_a_task_that_will_be_announced_is_left_alone_until_its_time(bench):
    """No status, no page of the list, before patience is over; then polling takes over."""
    work = bench(progress="manual")
    announce_first(work)
    send_all(work, 6)
    before = n_requests(work, *READS)
    tick(work)
    work.clock.advance(ANNOUNCED_AFTER_MIN_S - 2)
    tick(work)
    assert n_requests(work, *READS) == before

    work.clock.advance(3)
    tick(work)
    assert n_requests(work, *READS) > before


def tick(bench: Bench, of=None):
    """One look of the sensor."""

    async def once(session: Session):
        watched, _ = await watch(session, of or batch(), budget_s=40)
        return watched, await hearing_of(session, of or batch())

    return in_session(bench, once)


def test_polling_alone_finishes_what_is_never_announced(bench):
    """And remembers that announcements have stopped."""
    work = bench(progress="manual")
    announce_first(work)
    send_all(work, 8)
    work.server.settle()
    finish(work)

    assert work.states() == {"completed": 8}
    _, hearing = tick(work)
    assert hearing.has_stopped
    assert hearing.unannounced.n_tasks == 5
    work.require_sound(8)


def test_deliveries_that_come_back_are_trusted_again(new_bench):
    """However late, and though they tell nothing new."""
    work = new_bench(progress="manual")
    announce_first(work)
    send_all(work, 8)
    work.server.settle()
    finish(work)
    deliver(work, events(work.server))
    _, hearing = tick(work)

    assert not hearing.has_stopped
    assert hearing.patience_s(work.clock.now_us()) > 0


def test_without_webhooks_nothing_is_remembered_of_them(new_bench):
    """No note is written where no event ever came."""
    work = new_bench()
    work.run(5)

    assert work.query("SELECT count(*) FROM meta WHERE key LIKE 'webhook:%'") == [(0,)]


def test_only_overdue_tasks_are_looked_up_in_the_list(new_bench):
    """The others on the same page wait for their announcement."""
    work = new_bench(progress="manual")
    announce_first(work)
    send_all(work, 5)
    work.clock.advance(ANNOUNCED_AFTER_MIN_S)
    send_all(work, 8)
    work.server.settle()
    tick(work)

    finished = work.query("SELECT count(*) FROM intents WHERE remote_status = 'completed'")
    assert finished == [(5,)]
