"""When the ledger cannot confirm: no acknowledgement, and the next delivery works."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from mynth_dagster.errors import ConfigError, LedgerUnavailableError, SchemaVersionError
from mynth_dagster.webhook import app as app_module
from mynth_dagster.webhook import create_app
from tests.webhook.conftest import SECRET, event_body

BODY = event_body()


def test_an_event_that_cannot_be_committed_gets_503_and_comes_again(post):
    """503 with a time to come back; afterwards the same event is kept."""
    world = post()
    world.execute("ALTER TABLE webhook_events RENAME TO gone")
    (refused,) = world.send(world.signed(BODY))
    world.execute("ALTER TABLE gone RENAME TO webhook_events")

    assert (refused.status_code, refused.text) == (503, "refused\n")
    assert int(refused.headers["retry-after"]) > 0
    assert world.deliver(BODY) == 200
    assert len(world.rows()) == 1


def test_a_ledger_that_is_not_there_yet_is_opened_when_it_is(post, tmp_path):
    """One receiver all along: 503 while the file is unusable, 200 as soon as it is."""
    world = post()
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, and long enough to be looked at" * 90)

    async def outage() -> list[int]:
        app = create_app(world.ledger_url, [SECRET], clock=world.clock)
        await app.start()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
            statuses = [(await client.post("/", **world.signed(BODY))).status_code]
            statuses.append((await client.get("/health")).status_code)
            path.unlink()
            statuses.append((await client.post("/", **world.signed(BODY))).status_code)
            statuses.append((await client.get("/health")).status_code)
        await app.close()
        return statuses

    assert asyncio.run(outage()) == [503, 503, 200, 204]
    assert len(world.rows()) == 1


def test_a_ledger_that_hangs_costs_a_bounded_time_and_a_bounded_number_of_writes(post, monkeypatch):
    """Beyond both, 503; what was committed late is a duplicate when it comes again."""
    monkeypatch.setattr(app_module, "WEBHOOK_COMMIT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(app_module, "WEBHOOK_WAITING_MAX", 3)
    world = post()
    bodies = [event_body(f"tsk_{n}") for n in range(5)]

    async def hang() -> list[int]:
        app = create_app(world.ledger_url, [SECRET], clock=world.clock)
        await app.start()
        ledger = await app.ledger()
        is_free, receive = asyncio.Event(), ledger.events.receive

        async def late(event):
            await is_free.wait()
            return await receive(event)

        ledger.events.receive = late  # type: ignore[method-assign]
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
            sent = [client.post("/", **world.signed(body)) for body in bodies]
            statuses = [answer.status_code for answer in await asyncio.gather(*sent)]
            is_free.set()
            statuses.append((await client.post("/", **world.signed(bodies[0]))).status_code)
        await app.close()
        return statuses

    statuses = asyncio.run(hang())
    assert statuses[:5] == [503] * 5
    assert statuses[5] in (200, 503)
    assert len(world.rows()) == 3


@pytest.mark.parametrize("error", [LedgerUnavailableError("x"), RuntimeError("x"), OSError("x")])
def test_no_failure_of_ours_is_a_500(post, monkeypatch, error):
    """Whatever breaks inside, the sender is asked to come back."""

    async def broken(*_):
        raise error

    monkeypatch.setattr(app_module.WebhookApp, "keep", broken)
    assert post().deliver(BODY) == 503


def test_a_ledger_that_never_can_be_one_stops_the_start(post):
    """A wrong URL or a newer schema is told at once, not event by event."""

    async def start(url: str) -> None:
        app = create_app(url, [SECRET])
        try:
            await app.start()
        finally:
            await app.close()

    with pytest.raises(ConfigError):
        asyncio.run(start("mysql://host/db"))
    world = post()
    world.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaVersionError):
        asyncio.run(start(world.ledger_url))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{folder}/ledger.db", ["startup.complete", "shutdown.complete"]),
        ("sqlite:////no/such/folder/l.db", ["startup.failed"]),
    ],
)
def test_a_server_that_knows_lifespans_starts_and_ends_it(tmp_path, url, said):
    """A wrong setting fails the start."""
    app = create_app(url.format(folder=tmp_path), [SECRET])
    sent: list[str] = []

    async def live() -> None:
        words = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive():
            return {"type": next(words)}

        async def send(message):
            sent.append(message["type"].removeprefix("lifespan."))

        await app({"type": "lifespan"}, receive, send)
        await app.close()

    asyncio.run(live())
    assert sent == said
