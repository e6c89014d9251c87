"""Webhooks for tests of the engine: what the simulator would deliver, put into the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson
import pyarrow as pa

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.reconcile import wait_until_idle
from mynth_dagster.engine.run import collect, prepare, submit
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.models.batch import Batch
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.tables.source import source_from_arrow
from mynth_dagster.webhook.app import WebhookSettings, admit
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.events import read_head
from mynth_dagster.wire.signatures import Stamp, sign, sign_standard
from tests.batches import make_batch
from tests.engine.bench import Bench, prompts
from tests.factories import MODEL

T = TypeVar("T")
NEW_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = WebhookSettings("sqlite:///x.db", ["wbs_simulator", NEW_SECRET], ["t" * 16])


def batch(**fields: Any) -> Batch:
    """The batch of these tests."""
    return make_batch(**{"name": "b", "models": (MODEL,), **fields})


def in_session(bench: Bench, work: Callable[[Session], Awaitable[T]], **settings: Any) -> T:
    """Do something with open services."""

    async def once() -> T:
        async with bench.session(**settings) as session:
            return await work(session)

    return asyncio.run(once())


def send_all(bench: Bench, rows: Any = 6, of: Batch | None = None, **settings: Any) -> None:
    """Prepare and submit a table; nobody waits for it."""
    of = of or batch()

    async def work(session: Session) -> None:
        source = source_from_arrow(pa.Table.from_pylist(prompts(rows)), "prompts")
        await prepare(session, of, source, window="")
        await submit(session, ImageWork(of), of.slices(), submitter="test", stop=CancelToken())

    in_session(bench, work, **settings)


def finish(bench: Bench, of: Batch | None = None) -> None:
    """Wait for a submitted table and write its results."""
    of = of or batch()

    async def work(session: Session) -> None:
        await wait_until_idle(session, ImageWork(of), of.slices(), stop=CancelToken())
        async for _ in collect(session, of, of.slices()):
            pass

    in_session(bench, work)


def work(bench: Bench, of=None) -> int:
    """Work the inbox once; how many events told something new."""

    async def once(session: Session) -> int:
        return await process_events(session, ImageWork(of or batch()))

    return in_session(bench, once)


def events(server: SimulatorServer) -> list[bytes]:
    """The event of each task that ended, in the order of their making."""

    def compose() -> list[bytes]:
        state = server.app.state
        state.complete_due()
        done = [task for task in state.tasks if not task.is_pending]
        return [orjson.dumps(state.event_of(task)) for task in done]

    return server._run(compose)


def deliver(
    bench: Bench, bodies: Sequence[bytes], *, is_signed: bool = True, late_s: float = 0.0
) -> int:
    """Have the receiver take in these bodies; how many were new."""

    async def work(session: Session) -> int:
        kept = []
        for body in bodies:
            now_us = bench.clock.now_us()
            event = admit(
                SETTINGS,
                is_signed=is_signed,
                headers=headers_of(body, now_us // US_PER_S),
                body=body,
                now_us=now_us + round(late_s * US_PER_S),
            )
            assert event is not None
            kept.append(await session.ledger.events.receive(event))
        return sum(kept)

    return in_session(bench, work)


def headers_of(body: bytes, at_s: int) -> list[tuple[bytes, bytes]]:
    """Those of the form that the body has."""
    head = read_head(parse_json(body))
    if head is None or head.event_id is None:
        return [(b"x-mynth-signature", sign(body, SETTINGS.secrets[0], at_s=at_s).encode())]
    stamp = Stamp(head.event_id, str(at_s))
    return [
        (b"webhook-id", stamp.event_id.encode()),
        (b"webhook-timestamp", stamp.timestamp.encode()),
        (b"webhook-signature", sign_standard(body, NEW_SECRET, stamp).encode()),
    ]


def outcomes(bench: Bench) -> dict[str | None, int]:
    """Events by what became of them."""
    return dict(bench.query("SELECT outcome, count(*) FROM webhook_events GROUP BY outcome"))


def n_requests(bench: Bench, *words: str) -> int:
    """Requests of routes that hold one of these words."""
    return sum(
        n for route, n in bench.log["requests"].items() if any(word in route for word in words)
    )


READS = ("GET /tasks",)
"""Whatever reads tasks: list, status, whole task."""
