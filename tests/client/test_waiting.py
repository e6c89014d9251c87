"""Waiting for one task, with each error that the official SDK has for it."""

from __future__ import annotations

import asyncio

import pytest

from mynth_dagster.client.client import WaitSettings, wait_for_task
from mynth_dagster.errors import (
    PollFetchError,
    PollTimeoutError,
    PollUnauthorizedError,
    TaskFailedError,
    TaskFetchError,
)
from mynth_dagster.models.request import Routing, RowRequest
from mynth_dagster.models.task import TaskStatus
from tests.client.raw import client_of
from tests.factories import KEY, MODEL

DEFAULT = WaitSettings()
STATUS, FULL = "GET /tasks/:id/status", "GET /tasks/:id"


@pytest.fixture
def wait(simulator, clock, revision):
    """Creates one task and waits for it; the server, and the task or the error."""

    def wait(*, key=KEY, token="own", settings=DEFAULT, change=None, **scenario):
        server = simulator(clock=clock, revision=revision, **scenario)

        async def run():
            async with client_of(server.url, revision=revision, clock=clock, api_key=KEY) as owner:
                request = RowRequest("a", model=MODEL, routing=Routing(with_token=True))
                created = (await owner.create_task(owner.encode(request, None))).created
            given = {"own": created.token, "wrong": "pat_wrong", None: None}[token]
            if change:
                server.set_scenario(**change)
            async with client_of(server.url, revision=revision, clock=clock, api_key=key) as client:
                return await wait_for_task(
                    client, created.task_id, clock, token=given, settings=settings
                )

        return server, lambda: asyncio.run(run())

    return wait


@pytest.mark.parametrize("token", ["own", "wrong", None])
def test_a_task_is_read_once_it_is_finished(wait, token):
    """With its token, with a refused token and the key to fall back on, and with the key alone."""
    server, run = wait(token=token, progress="clock", latency=30)

    task = run()

    assert task.status is TaskStatus.COMPLETED
    assert len(task.images) == 1
    assert server.log()["requests"][FULL] == 1


def test_polling_is_quick_at_first_and_slower_later(wait):
    """Every 2.5 s for the first 12 s, then every 5 s: the official rhythm, without jitter."""
    server, run = wait(progress="clock", latency=30)

    run()

    # At 0, 2.5, 5, 7.5, 10, 12.5, 17.5, 22.5, 27.5 and 32.5 s.
    assert server.log()["requests"][STATUS] == 10


def test_a_task_that_takes_too_long_is_left_to_itself(wait):
    """The wait ends; the task may yet finish, and its id is in the error."""
    _, run = wait(progress="manual", settings=WaitSettings(timeout_s=60))

    with pytest.raises(PollTimeoutError, match=r"tsk_.*still pending after 60 s"):
        run()


def test_a_token_alone_is_enough_for_the_images(wait):
    """The whole task is its owner's; nobody asks for it with a token."""
    server, run = wait(key=None, latency=5)

    assert [image.delivered for image in run().images] == [True]
    assert FULL not in server.log()["requests"]


def test_a_token_alone_learns_that_a_task_failed(wait):
    """And not why: that is told to the owner."""
    _, run = wait(key=None, failures=[{"kind": "task"}])

    with pytest.raises(TaskFailedError):
        run()


def test_a_refused_token_without_a_key_is_unauthorized(wait):
    """Without a key there is nothing to fall back on."""
    _, run = wait(key=None, token="wrong")

    with pytest.raises(PollUnauthorizedError, match="401"):
        run()


def test_a_refused_token_and_a_refused_key_are_unauthorized(wait):
    """The key is tried, once, after the token."""
    server, run = wait(key="mak_other", token="wrong")

    with pytest.raises(PollUnauthorizedError):
        run()

    assert server.log()["requests"][STATUS] == 2


def test_reads_that_fail_in_a_row_end_the_wait(wait):
    """After so many failures in a row, each tried several times, nothing is known of the task."""
    _, run = wait(
        settings=WaitSettings(failures_max=3, timeout_s=1800),
        faults=[{"route": STATUS, "kind": "server_error"}],
    )

    with pytest.raises(PollFetchError, match="3 reads failed"):
        run()


def test_a_failure_now_and_then_does_not(wait):
    """A success in between starts the count again; 429 never counts."""
    _, run = wait(
        progress="clock",
        latency=60,
        settings=WaitSettings(failures_max=2),
        faults=[
            {"route": STATUS, "kind": "rate_limited", "count": 8},
            {"route": STATUS, "kind": "reset", "every": 2},
        ],
    )

    assert run().status is TaskStatus.COMPLETED


@pytest.mark.parametrize("kind", ["server_error", "bad_json", "truncated"])
def test_a_finished_task_that_cannot_be_read_is_distinguished(wait, kind):
    """The task is finished and paid for; only its details are missing."""
    _, run = wait(faults=[{"route": FULL, "kind": kind}])

    with pytest.raises(TaskFetchError):
        run()


def test_a_failed_task_tells_its_faults(wait, revision):
    """The codes are kept, where the revision has any."""
    _, run = wait(failures=[{"kind": "task", "code": "GENERATION_FAILED"}])

    with pytest.raises(TaskFailedError) as caught:
        run()

    expected = [] if revision == "2026-04" else ["generation_failed"]
    assert [code for code, _ in caught.value.faults] == expected
