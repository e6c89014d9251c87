"""Whole runs over real sockets: simulator, receiver, engine, and no helping hand."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine import reconcile, run
from mynth_dagster.engine.run import RunProgress, RunReport, run_table
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.limits import REVISIONS
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.tables.source import source_from_arrow
from tests.batches import make_batch
from tests.engine.bench import Bench, prompts
from tests.factories import KEY, MODEL, LeapingClock
from tests.webhook.process import TOKEN, Receiver, receiver, receiver_thread

N_ROWS = 60
pytestmark = pytest.mark.parametrize("revision", [REVISIONS[0], REVISIONS[-1]])
"""Each of the two sends events in a form of its own."""

FAILURES = [{"kind": "task", "prompt_contains": "prompt 7"}]
QUICK = {"retry_first_s": 0.2, "retry_max_s": 0.5, "failures_until_disabled": 10_000}


class World(Bench):
    """The same in real time."""

    def __init__(self, server: SimulatorServer, folder: Path) -> None:
        super().__init__(server, LeapingClock(), folder)
        self.root.mkdir()

    async def run_now(self, n_rows: int, **fields: Any) -> RunReport:
        client = ClientSettings(base_url=self.server.url, api_key=KEY, concurrency=8)
        settings = EngineSettings(client, self.ledger_url, str(self.root), poll_interval_min_s=0.2)
        batch = make_batch(**{"name": "b", "models": (MODEL,), **fields})
        source = source_from_arrow(pa.Table.from_pylist(prompts(n_rows)), "prompts")
        async with open_session(settings, clock=SystemClock()) as session:
            return await run_table(
                session, batch, source, window="", stop=CancelToken(), progress=RunProgress()
            )

    @property
    def n_reads(self) -> int:
        """Requests that asked about tasks, but for the proof that the key is good."""
        requests = Counter(self.log["requests"])
        return sum(n for route, n in requests.items() if route.startswith("GET /tasks"))

    def require_complete(self, n_rows: int) -> None:
        self.require_sound(n_rows)
        rows = {row["prompt_id"] for name in ("images", "failures") for row in self.table(name)}
        assert len(rows) == n_rows
        assert {row["status"] for row in self.table("tasks")} <= {"completed", "failed"}


@pytest.fixture
def world(
    simulator: Callable[..., SimulatorServer],
    tmp_path: Path,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """A simulator whose tasks take some time; whoever waits for them looks often."""
    for module in (reconcile, run):
        monkeypatch.setattr(module, "PAUSE_STEP_S", 0.1)
    return World(
        simulator(
            revision=revision,
            progress="clock",
            latency={"kind": "uniform", "low_s": 0.1, "high_s": 0.6},
            failures=FAILURES,
            deliveries=QUICK,
        ),
        tmp_path,
    )


def deliver_to(world: World, url: str, **deliveries: Any) -> None:
    endpoint = {"url": f"{url}/"}
    world.server.set_scenario(webhooks=[endpoint], deliveries={**QUICK, **deliveries})


async def until(world: World, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Look at the simulator's log until it shows that."""
    give_up_s = time.monotonic() + 60
    while not condition(await asyncio.to_thread(world.server.log)):
        assert time.monotonic() < give_up_s, world.log["webhooks"]
        await asyncio.sleep(0.02)


def test_a_table_with_webhooks_needs_hardly_more_than_its_paid_requests(world):
    """A first few rows show that webhooks come; from then on nobody asks for what is told."""
    with receiver_thread(world.ledger_url) as url:
        deliver_to(world, url)
        asyncio.run(world.run_now(5))
        before = world.n_reads
        report = asyncio.run(world.run_now(N_ROWS))

    n_failed = sum(row["stage"] == "generation" for row in world.table("failures"))
    assert report.images + n_failed == N_ROWS
    at_the_start = 3  # the key, the account or the address, and the top of the list
    assert world.n_reads - before <= at_the_start + n_failed  # each loss is confirmed
    world.require_complete(N_ROWS)


def test_a_receiver_that_dies_half_way_and_comes_back_loses_nothing(world):
    """SIGKILL in the middle of deliveries, some of them doubled; each event has one effect."""
    world.server.set_scenario(faults=[{"kind": "lost_answer", "count": 2}])

    async def with_trouble(process: Receiver) -> RunReport:
        running = asyncio.ensure_future(world.run_now(N_ROWS))
        await until(world, lambda log: log["webhooks"]["acknowledged"] >= 15)
        process.kill()
        await until(world, lambda log: log["webhooks"]["failed"] >= 3)
        await asyncio.to_thread(process.start)
        await until(world, lambda log: log["webhooks"]["waiting"] == 0)
        return await running

    with receiver(world.root, world.ledger_url) as process:
        deliver_to(world, process.url, duplicate_share=0.3)
        process.start()
        asyncio.run(with_trouble(process))
        asyncio.run(world.run_now(N_ROWS))  # whatever came after the first run's last look

    assert world.n_posts == N_ROWS
    assert all(delivery["state"] == "delivered" for delivery in world.log["deliveries"])
    world.require_complete(N_ROWS)


def test_a_receiver_that_is_never_reached_costs_nothing_but_polling(world):
    """Mynth disables the endpoint; the table is complete all the same."""
    deliver_to(world, "http://127.0.0.1:1", failures_until_disabled=5)
    asyncio.run(world.run_now(N_ROWS))

    assert world.log["webhooks"]["acknowledged"] == 0
    assert world.log["webhooks"]["disabled_webhooks"] == 1
    world.require_complete(N_ROWS)


def test_endpoints_of_the_batch_itself_are_confirmed_by_one_reading_each(world):
    """Unsigned: the token opens the door, the task is asked."""
    with receiver_thread(world.ledger_url) as url:
        endpoints = (f"{url}/custom/{TOKEN}",)
        own = {"webhook_urls": endpoints, "mute_registered_webhooks": True}
        asyncio.run(world.run_now(5, **own))
        before = world.n_reads
        asyncio.run(world.run_now(N_ROWS, **own))

    assert world.n_reads - before <= N_ROWS - 5 + 3
    world.require_complete(N_ROWS)
    ((n_kept, n_signed),) = world.query("SELECT count(*), sum(is_signed) FROM webhook_events")
    assert n_kept > N_ROWS / 2
    assert n_signed == 0
    assert not any(TOKEN.encode() in path.read_bytes() for path in world.root.rglob("*.parquet"))
