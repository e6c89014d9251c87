"""What tests of the engine drive: runs of one batch, and what came of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from mynth_dagster.client.http import Transport
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.lost_responses import ListSearch
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, RunOptions
from mynth_dagster.engine.run import RunProgress, RunReport, run_table
from mynth_dagster.engine.session import EngineSettings, Session, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.limits import TASK_DEADLINE_S
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.tables.source import source_from_arrow
from tests.batches import make_batch
from tests.factories import KEY, MODEL, LeapingClock

TABLES = ("tasks", "images", "failures")

NO_LIST = {"route": "GET /tasks", "kind": "server_error"}
"""A fault: what was lost is not found while the run waits, since the list cannot be read."""


class Bench:
    """A simulator, a ledger, a root, and one clock for all of them."""

    def __init__(self, server: SimulatorServer, clock: LeapingClock, folder: Path) -> None:
        self.server = server
        self.clock = clock
        self.folder = folder
        self.root = folder / "root"
        self.ledger_url = f"sqlite:///{folder / 'ledger.db'}"

    def settings(self, **changes: Any) -> EngineSettings:
        usual = {"base_url": self.server.url, "api_key": KEY, "concurrency": 16}
        client = ClientSettings(**{**usual, "request_timeout_s": 20.0, **changes})
        return EngineSettings(client, self.ledger_url, str(self.root))

    def session(
        self, transport: Transport | None = None, **changes: Any
    ) -> AbstractAsyncContextManager[Session]:
        return open_session(self.settings(**changes), clock=self.clock, transport=transport)

    def run(
        self,
        rows: Sequence[dict[str, Any]] | pa.Table | int = 20,
        *,
        stop: CancelToken | None = None,
        progress: RunProgress | None = None,
        transport: Transport | None = None,
        settings: dict[str, Any] | None = None,
        options: RunOptions = DEFAULT_RUN_OPTIONS,
        window: str = "",
        **fields: Any,
    ) -> RunReport:
        """One run of the batch over these prompts, or over so many."""
        batch = make_batch(**{"name": "b", "models": (MODEL,), **fields})

        async def once() -> RunReport:
            table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(prompts(rows))
            source = source_from_arrow(table, "prompts")
            async with self.session(transport, **(settings or {})) as session:
                return await run_table(
                    session,
                    batch,
                    source,
                    window=window,
                    stop=stop or CancelToken(),
                    progress=progress or RunProgress(),
                    options=options,
                )

        return asyncio.run(once())

    @property
    def log(self) -> dict[str, Any]:
        """What the simulator saw: the judge of every case."""
        return self.server.log()

    @property
    def n_posts(self) -> int:
        """Paid requests that arrived."""
        return int(self.log["requests"].get("POST /image/generate", 0))

    @property
    def accepted(self) -> Counter[str]:
        """Tasks by the intent they were made for."""
        return Counter(entry["intent_id"] for entry in self.log["accepted"])

    def post_again(self, entry: dict[str, Any]) -> None:
        """Somebody sends a request of ours once more, tag and all."""
        body = {
            "prompt": entry["prompt"],
            "model": entry["model"],
            "metadata": {"mynth_dagster": entry["intent_tag"]},
        }
        headers = {"authorization": f"Bearer {KEY}"}
        httpx.post(f"{self.server.url}/image/generate", json=body, headers=headers)

    def look_for_tasks(self) -> int:
        """Walk the whole task list once; how many were attached as a first task."""

        async def once() -> int:
            async with self.session() as session:
                walk = ListSearch(session, deadline_s=TASK_DEADLINE_S, page_size=100)
                assert await walk.go()
                return walk.n_attached

        return asyncio.run(once())

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a result table, over all partitions."""
        files = sorted((self.root / "b" / name).rglob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

    def bytes_of_tables(self) -> dict[str, bytes]:
        """Every file of the result tables."""
        return {
            str(file.relative_to(self.root)): file.read_bytes()
            for name in TABLES
            for file in sorted((self.root / "b" / name).rglob("*.parquet"))
        }

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """A look into the ledger with a connection of its own."""
        engine = sa.create_engine(self.ledger_url)
        with engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(sa.text(statement))]
        engine.dispose()
        return rows

    def states(self) -> dict[str, int]:
        """Intents by state."""
        return dict(self.query("SELECT state, count(*) FROM intents GROUP BY state"))

    def require_sound(self, n_rows: int, *, count: int = 1) -> None:
        """No intent paid twice, every row in exactly its tables, every task in the ledger."""
        assert max(self.accepted.values(), default=0) <= 1
        assert self.log["duplicate_intents"] == []
        images, failures = self.table("images"), self.table("failures")
        outcomes = Counter(row["prompt_id"] for row in images)
        whole = Counter()
        for row in failures:
            if row["image_index"] is None:
                whole[row["prompt_id"]] += 1
            else:
                outcomes[row["prompt_id"]] += 1
        assert len(outcomes | whole) == n_rows
        assert not set(outcomes) & set(whole)
        assert set(outcomes.values()) <= {count}
        assert set(whole.values()) <= {1}


def prompts(rows: Sequence[dict[str, Any]] | int) -> list[dict[str, Any]]:
    """Prompt rows as given, or so many."""
    if not isinstance(rows, int):
        return list(rows)
    return [{"prompt_id": f"p{n:05d}", "prompt": f"prompt {n}"} for n in range(rows)]
