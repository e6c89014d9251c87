"""Polling backs off from tasks that will be announced, and takes over where none comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mynth_dagster.engine.reconcile import partition_status
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.webhook_health import Unannounced, WebhookHealth, webhook_health
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.limits import UNANNOUNCED_MAX, WEBHOOK_GRACE_S, WEBHOOKS_ON_FOR_S
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


def last(ago_s: float = 60) -> int:
    """When an event last came."""
    return START_US - round(ago_s * S)


@pytest.mark.parametrize(
    ("health", "are_on"),
    [
        (WebhookHealth(), False),
        (WebhookHealth(last()), True),
        (WebhookHealth(last(WEBHOOKS_ON_FOR_S + 1)), False),
        (WebhookHealth(last(61), Unannounced(START_US, UNANNOUNCED_MAX - 1)), True),
        (WebhookHealth(last(61), Unannounced(START_US, UNANNOUNCED_MAX)), False),
        (WebhookHealth(last(301), Unannounced(START_US, 1)), False),
        (WebhookHealth(last(), Unannounced(START_US - 61 * S, 99)), True),
    ],
    ids=[
        "never",
        "lately",
        "long ago",
        "one may be lost",
        "several are not",
        "long silence",
        "came back",
    ],
)
def test_webhooks_are_on_while_they_come(health, are_on):
    """A task is then left to its event for a while; else it is polled at once."""
    young = Awaited("int_1", "tsk_1", n_asked=1, since_us=START_US)
    old = replace(young, since_us=START_US - round(WEBHOOK_GRACE_S * S))

    assert health.are_on(START_US) is are_on
    assert health.is_due(young, START_US) is not are_on
    assert health.is_due(old, START_US)


def test_that_webhooks_stopped_is_reported_with_times_and_counts():
    """And nothing is told while all is well, or of what was switched off long ago."""
    assert WebhookHealth().problem is None
    assert WebhookHealth(last()).problem is None
    problem = WebhookHealth(last(400), Unannounced(START_US, 12)).problem
    assert "webhooks have stopped coming" in problem
    assert "12 tasks finished since" in problem
    long_ago = last(WEBHOOKS_ON_FOR_S + 1)
    assert WebhookHealth(long_ago, Unannounced(START_US, 12)).problem is None


def test_a_batch_that_silences_webhooks_is_polled_as_ever(bench):
    """Unless it names endpoints of its own."""
    work = bench(progress="manual")
    announce_first(work)
    muted = {"mute_registered_webhooks": True}
    own = {**muted, "webhook_urls": ("https://a.example/",)}

    async def are_on(session: Session) -> list[bool]:
        healths = [
            await webhook_health(session, ImageWork(batch(**settings)))
            for settings in ({}, muted, own)
        ]
        return [health.are_on(session.clock.now_us()) for health in healths]

    assert in_session(work, are_on) == [True, False, True]


def announce_first(bench: Bench) -> None:
    """A first table whose tasks were all announced."""
    send_all(bench, 3)
    bench.server.complete()
    deliver(bench, events(bench.server))
    finish(bench)


def test_a_task_that_will_be_announced_is_left_alone_until_its_time(bench):
    """No status, no page of the list, before its grace is over; then polling takes over."""
    work = bench(progress="manual")
    announce_first(work)
    send_all(work, 6)
    before = n_requests(work, *READS)
    tick(work)
    work.clock.advance(WEBHOOK_GRACE_S - 2)
    tick(work)
    assert n_requests(work, *READS) == before

    work.clock.advance(3)
    tick(work)
    assert n_requests(work, *READS) > before


def tick(bench: Bench, of=None):
    """One tick of the sensor."""

    async def once(session: Session):
        statuses, _ = await partition_status(session, of or batch(), budget_s=40)
        return statuses, await webhook_health(session, ImageWork(of or batch()))

    return in_session(bench, once)


def test_polling_alone_finishes_what_is_never_announced(bench):
    """And remembers that announcements have stopped."""
    work = bench(progress="manual")
    announce_first(work)
    send_all(work, 8)
    work.server.complete()
    finish(work)

    assert work.states() == {"completed": 8}
    _, health = tick(work)
    assert health.have_stopped
    assert health.unannounced.n_tasks == 5
    work.require_sound(8)


def test_deliveries_that_come_back_are_trusted_again(new_bench):
    """However late, and though they tell nothing new."""
    work = new_bench(progress="manual")
    announce_first(work)
    send_all(work, 8)
    work.server.complete()
    finish(work)
    deliver(work, events(work.server))
    _, health = tick(work)

    assert not health.have_stopped
    assert health.are_on(work.clock.now_us())


def test_without_webhooks_nothing_is_remembered_of_them(new_bench):
    """No note is written where no event ever came."""
    work = new_bench()
    work.run(5)

    assert work.query("SELECT count(*) FROM meta WHERE key LIKE 'webhooks:%'") == [(0,)]


def test_only_overdue_tasks_are_looked_up_in_the_list(new_bench):
    """The others on the same page wait for their announcement."""
    work = new_bench(progress="manual")
    announce_first(work)
    send_all(work, 5)
    work.clock.advance(WEBHOOK_GRACE_S)
    send_all(work, 8)
    work.server.complete()
    tick(work)

    finished = work.query("SELECT count(*) FROM intents WHERE remote_status = 'completed'")
    assert finished == [(5,)]
