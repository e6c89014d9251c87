"""Free reads against the simulator: all revisions tell the same, and failures are repeated."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mynth_dagster.client.client import ask_revision
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import NoAnswerError, ServerFaultError, UnauthorizedError
from mynth_dagster.limits import REVISIONS
from mynth_dagster.models.request import Rating, Routing, RowRequest
from mynth_dagster.models.task import ImageOutcome, Task, TaskStatus
from tests.client.raw import client_of
from tests.factories import KEY, MODEL, LeapingClock

FAILURES = [
    {"kind": "task", "prompt_contains": "fails"},
    {"kind": "images", "prompt_contains": "half", "n_images": 2},
    {"kind": "moderation", "prompt_contains": "blocked"},
]
REQUESTS = [
    RowRequest("a plain one", model=MODEL),
    RowRequest("four of them", model=MODEL, count=4, size="landscape", output_format="png"),
    RowRequest("half of it", "rain", model=MODEL, count=4),
    RowRequest("this fails", model=MODEL),
    RowRequest("this is blocked", model=MODEL, count=2),
    RowRequest("a dear one", model=MODEL, rating=Rating(), enhance="magic"),
    RowRequest("auto", routing=Routing(metadata_json='{"n":1.5,"s":"é"}', with_token=True)),
]


def without_names(task: Task) -> Task:
    """What must be equal whatever the revision: no ids, URLs, times, prose, costs of images."""
    images = tuple(
        ImageOutcome(
            image.index,
            width=image.width,
            height=image.height,
            format=image.format,
            rating_level=image.rating_level,
            fault=None
            if image.delivered
            else image.fault and replace(image.fault, code="", message=""),
        )
        for image in task.images
    )
    if not task.n_delivered:  # whether a task that came to nothing tells its images is a quirk
        task, images = replace(task, model=None, status=TaskStatus.FAILED), ()
    return replace(
        task,
        task_id="",
        created_at_us=0,
        updated_at_us=0,
        images=images,
        faults=(),
        user_id=None,
        api_key_id=None,
        cost_units=task.cost_units or 0,
    )


@pytest.mark.parametrize("all_failed", ["failed_without_result", "completed"])
def test_the_same_tasks_read_the_same_in_all_revisions(simulator, all_failed):
    """Bare or enveloped, `succeeded` or `success`, errors as text or object: one result."""

    def tasks_of(revision: str) -> list[Task]:
        clock = LeapingClock()
        server = simulator(
            clock=clock, revision=revision, failures=FAILURES, quirks={"all_failed": all_failed}
        )

        async def run() -> list[Task]:
            async with client_of(server.url, revision=revision, clock=clock, api_key=KEY) as client:
                asked = [replace(r, output_format=r.output_format or "webp") for r in REQUESTS]
                created = [
                    (await client.create_task(client.encode(request, "int_a.b.led_c"))).created
                    for request in asked
                ]
                return [await client.get_task(task.task_id) for task in created]

        return asyncio.run(run())

    told = [[without_names(task) for task in tasks_of(revision)] for revision in REVISIONS]

    oldest, newest = told[0], told[-1]
    assert all(tasks == oldest for tasks in told)
    assert [task.n_delivered for task in newest] == [1, 4, 2, 0, 0, 1, 1]
    assert newest[-1].metadata == {"n": 1.5, "s": "é", "mynth_dagster": "int_a.b.led_c"}


def test_a_token_reads_the_images_alone(simulator, clock, revision):
    """The result endpoint, under each revision's name for it, needs nothing but the token."""
    server = simulator(clock=clock, revision=revision)

    async def run():
        async with client_of(server.url, revision=revision, clock=clock, api_key=KEY) as client:
            request = RowRequest("a", model=MODEL, count=2, routing=Routing(with_token=True))
            created = (await client.create_task(client.encode(request, None))).created
        async with client_of(server.url, revision=revision, clock=clock, api_key=None) as guest:
            return await guest.get_result(created.task_id, token=created.token)

    assert [image.delivered for image in asyncio.run(run())] == [True, True]


@pytest.mark.parametrize("key", [None, KEY])
def test_the_server_tells_its_revision(simulator, revision, key):
    """A look at the catalogue, without a key, or an estimate with it: nothing that costs."""
    server = simulator(revision=revision)

    verdict = asyncio.run(ask_revision(ClientSettings(base_url=server.url, api_key=key)))

    assert verdict.revision == revision
    assert verdict.is_certain == (revision != "2026-04" or key is not None)
    assert "POST /image/generate" not in server.log()["requests"]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_wrong_path_is_no_revision(simulator, revision, key):
    """Where nothing of Mynth is, an answer of 404 to everything is not taken for the oldest one."""
    server = simulator(revision=revision)

    settings = ClientSettings(base_url=f"{server.url}/v9", api_key=key)
    verdict = asyncio.run(ask_revision(settings))

    assert verdict.revision is None
    assert "check the path of base_url" in verdict.basis


def test_account_balance_catalogue_and_estimate_are_read(simulator, clock):
    """The look-ups that only the newer revision has."""
    server = simulator(clock=clock, balance_usd="12.5")

    async def run():
        async with client_of(server.url, clock=clock, api_key=KEY) as client:
            return (
                await client.get_account(),
                await client.get_balance(),
                await client.get_catalog(),
                await client.estimate(RowRequest("a", model=MODEL)),
                await client.estimate(RowRequest("a")),
            )

    account, balance, catalog, pinned, auto = asyncio.run(run())

    assert account.user_id
    assert balance.available_units == 1_250_000_000
    assert catalog[MODEL].base_units == pinned.units
    assert pinned.exact
    assert not auto.exact


def test_a_key_is_proved_free_of_charge(simulator, clock, revision):
    """A good key passes and a wrong one is refused, without a paid request in either case."""
    server = simulator(clock=clock, revision=revision)

    async def check(key: str) -> None:
        async with client_of(server.url, revision=revision, clock=clock, api_key=key) as client:
            await client.check_key()

    asyncio.run(check(KEY))
    with pytest.raises(UnauthorizedError):
        asyncio.run(check("mak_wrong"))
    assert "POST /image/generate" not in server.log()["requests"]


@pytest.mark.parametrize("status", [403, 404, 405])
def test_an_account_that_is_kept_back_stops_nobody(simulator, clock, status):
    """The key is proved by another free read, which still refuses a wrong one."""
    faults = [{"route": "GET /me", "kind": "html_error", "status": status}]
    server = simulator(clock=clock, faults=faults)

    async def check(key: str) -> object:
        async with client_of(server.url, clock=clock, api_key=key) as client:
            return await client.check_key()

    assert asyncio.run(check(KEY)) is None
    with pytest.raises(UnauthorizedError):
        asyncio.run(check("mak_wrong"))


@pytest.mark.parametrize("kind", ["reset", "lost_answer", "server_error", "bad_json", "truncated"])
def test_a_read_repeats_itself_when_the_failure_may_pass(simulator, clock, kind):
    """Three failures, then an answer: the caller sees the answer."""
    server = simulator(clock=clock, faults=[{"route": "GET /balance", "kind": kind, "count": 3}])

    async def run() -> int:
        async with client_of(server.url, clock=clock, api_key=KEY) as client:
            return (await client.get_balance()).balance_units

    started_s = clock.elapsed_s()
    assert asyncio.run(run()) > 0
    assert server.log()["requests"]["GET /balance"] == 4
    if kind not in ("reset", "lost_answer"):  # the library repeats a GET cut early once itself
        assert clock.elapsed_s() - started_s == 3.5


@pytest.mark.parametrize(
    ("kind", "error"), [("server_error", ServerFaultError), ("reset", NoAnswerError)]
)
def test_a_read_gives_up_after_its_attempts(simulator, clock, kind, error):
    """Bounded: four attempts, then the last error."""
    server = simulator(clock=clock, faults=[{"route": "GET /balance", "kind": kind}])

    async def run() -> None:
        async with client_of(server.url, clock=clock, api_key=KEY) as client:
            await client.get_balance()

    with pytest.raises(error):
        asyncio.run(run())
    assert server.log()["requests"]["GET /balance"] <= 8  # the library repeats a GET cut early


def test_retry_after_is_obeyed_by_reads(simulator, clock):
    """Seven seconds asked are seven seconds waited."""
    server = simulator(
        clock=clock,
        faults=[{"route": "GET /balance", "kind": "rate_limited", "retry_after_s": 7, "count": 1}],
    )

    async def run() -> None:
        async with client_of(server.url, clock=clock, api_key=KEY) as client:
            await client.get_balance()

    started_s = clock.elapsed_s()
    asyncio.run(run())
    assert clock.elapsed_s() - started_s == 7.0


@pytest.mark.parametrize(
    "kind", ["lost_answer", "reset_after", "truncated", "bad_json", "server_error", "html_error"]
)
def test_the_paid_call_is_never_repeated(simulator, clock, revision, kind):
    """Whatever goes wrong with the answer: one POST on the wire."""
    server = simulator(clock=clock, revision=revision, faults=[{"kind": kind}])

    async def run() -> None:
        async with client_of(server.url, revision=revision, clock=clock, api_key=KEY) as client:
            await client.create_task(client.encode(RowRequest("a", model=MODEL), None))

    asyncio.run(run())
    assert server.log()["requests"] == {"POST /image/generate": 1}
