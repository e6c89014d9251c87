"""
What webhooks save, and what a receiver bears. Loopback only, bounded in time and number.

    python benchmarks/webhooks.py table --rows 1632
    python benchmarks/webhooks.py load --rate 1000 --seconds 20

`table` runs the same prompts against a simulator on its clock, in each API revision: polled, and
with webhooks through a receiver in a process of its own, and each run once more. It prints
requests per row, how many paid requests the second run sent, and whether all the tables are the
same but for ids, URLs, times and what not every revision tells. `--prompts` takes a Parquet file
instead.

`load` sends signed and forged deliveries at a constant rate to a receiver in a process of its own
and prints, for each kind, how they were answered, the time to the answer, the receiver's memory
before and after, and how many of the acknowledged events are in the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.run import RunProgress, run_table
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.limits import REVISIONS
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import ImageRequest, Prompts
from mynth_dagster.simulator import STANDARD_SECRET, SimulatorServer
from mynth_dagster.simulator.scenario import Scenario
from mynth_dagster.tables.source import open_source

SECRET = "wbs_simulator"
SECRETS = {"MYNTH_WEBHOOK_SECRET": STANDARD_SECRET, "MYNTH_WEBHOOK_SECRET_PREVIOUS": SECRET}
MODEL = "black-forest-labs/flux.2-dev"
VARYING = {
    "task_id",
    "intent_id",
    "image_id",
    "url",
    "mynth_url",
    "submitted_at",
    "completed_at",
    "url_expires_at",
}
"""Columns that no two runs share."""
NOT_ALWAYS_TOLD = {"reserved_usd", "quoted_usd", "cost_basis"}
"""Columns that not every revision fills, or not in the same way."""
KINDS = ("valid", "repeated", "unsigned", "wrong secret", "stale", "changed body")


def main() -> None:
    """Measure once and print one JSON object."""
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        measure = {"table": measure_table, "load": measure_load}[options.what]
        print(json.dumps(measure(options, Path(folder)), indent=2))


# -- a table, polled and told ------------------------------------------------------------------


def measure_table(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    prompts = options.prompts or _write_prompts(folder, options.rows)
    report: dict[str, Any] = {"rows": pq.ParquetFile(prompts).metadata.num_rows}
    tables = []
    for revision in [options.revision] if options.revision else REVISIONS:
        report[revision] = {}
        for way in ("polled", "webhooks"):
            root = folder / revision / way
            root.mkdir(parents=True)
            report[revision][way] = _run_twice(revision, way, root, prompts)
            tables.append({name: _rows(root, name) for name in ("tasks", "images", "failures")})
    report["same_tables"] = all(found == tables[0] for found in tables)
    return report


def _run_twice(revision: str, way: str, root: Path, prompts: str) -> dict[str, Any]:
    ledger_url = f"sqlite:///{root / 'ledger.db'}"
    with receiving(root, ledger_url) as url:
        endpoints = [{"url": url}] if way == "webhooks" else []
        scenario = Scenario.from_dict({"revision": revision, "seed": 7, "webhooks": endpoints})
        with SimulatorServer(scenario) as server:
            first = run_once(server, root, ledger_url, prompts)
            again = run_once(server, root, ledger_url, prompts)
    return {**first, "accepted_by_a_second_run": again["accepted"] - first["accepted"]}


def run_once(server: SimulatorServer, root: Path, ledger_url: str, prompts: str) -> dict[str, Any]:
    settings = EngineSettings(
        ClientSettings(base_url=server.url, api_key="mak_simulator"), ledger_url, str(root)
    )
    batch = Batch(
        "b",
        Prompts(columns=_columns(prompts)),
        # of 2026-10 alone the provider chooses the format
        ImageRequest(models=[MODEL], output_format="webp"),
    )

    async def run() -> None:
        async with open_session(settings) as session:
            await run_table(
                session,
                batch,
                open_source(prompts),
                window="",
                stop=CancelToken(),
                progress=RunProgress(),
            )

    began_s = time.monotonic()
    asyncio.run(run())
    log = server.log()
    n_requests = sum(log["requests"].values())
    return {
        "seconds": round(time.monotonic() - began_s, 1),
        "requests": n_requests,
        "requests_per_row": round(n_requests / max(1, len(log["accepted"])), 4),
        "by_route": log["requests"],
        "accepted": log["totals"]["accepted"],
        "webhooks": log["webhooks"],
    }


def _columns(prompts: str) -> dict[str, str]:
    """Common names of the prompt column in public prompt tables."""
    names = pq.ParquetFile(prompts).schema_arrow.names
    return {"prompt": "Prompt"} if "prompt" not in names and "Prompt" in names else {}


def _write_prompts(folder: Path, n_rows: int) -> str:
    rows = [{"prompt_id": f"p{n:06d}", "prompt": f"a red kite, number {n}"} for n in range(n_rows)]
    path = folder / "prompts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def _rows(root: Path, name: str) -> list[dict[str, Any]]:
    files = sorted((root / "b" / name).rglob("*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    left_out = VARYING | NOT_ALWAYS_TOLD
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]


# -- load --------------------------------------------------------------------------------------


def measure_load(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    ledger_url = options.ledger or f"sqlite:///{folder / 'ledger.db'}"
    with receiving(folder, ledger_url) as url:
        pid = receiving.pid  # type: ignore[attr-defined]
        asyncio.run(load(url, 200, 1.0, options.connections, first=10**9))
        before = _resident_mib(pid)
        sent = asyncio.run(load(url, options.rate, options.seconds, options.connections))
        after = _resident_mib(pid)
    engine = sa.create_engine(ledger_url)
    with engine.connect() as connection:
        kept = set(connection.execute(sa.text("SELECT task_id FROM webhook_events")).scalars())
    engine.dispose()
    acknowledged = {task for kind, status, _, task in sent if kind == "valid" and status == 200}
    return {
        "rate": options.rate,
        "seconds": options.seconds,
        "sent": len(sent),
        "by_kind": {kind: _summary([s for s in sent if s[0] == kind]) for kind in KINDS},
        "acknowledged_valid": len(acknowledged),
        "acknowledged_but_not_kept": len(acknowledged - kept),
        "forged_but_kept": sum(task.startswith("forged") for task in kept),
        "receiver_mib_before": before,
        "receiver_mib_after": after,
    }


Sent = tuple[str, int, float, str]


async def load(
    url: str, rate: int, seconds: float, n_connections: int, first: int = 0
) -> list[Sent]:
    """Send at a constant rate whatever the answers take; kind, status, seconds, task of each."""
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    jobs: asyncio.Queue[tuple[float, str, bytes, str] | None] = asyncio.Queue()
    sent: list[Sent] = []
    workers = [
        asyncio.ensure_future(_worker(host, int(port), jobs, sent)) for _ in range(n_connections)
    ]
    began_s = time.perf_counter()
    for n in range(int(rate * seconds)):
        due_s = began_s + n / rate
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        kind = KINDS[0] if n % 2 == 0 else KINDS[1 + (n // 2) % (len(KINDS) - 1)]
        request, task = _request(kind, first + n)
        jobs.put_nowait((due_s, kind, request, task))
    for _ in workers:
        jobs.put_nowait(None)
    await asyncio.gather(*workers)
    return sent


async def _worker(host: str, port: int, jobs: asyncio.Queue[Any], sent: list[Sent]) -> None:
    """One kept-alive connection; the time counts from when the request was due."""
    reader, writer = await asyncio.open_connection(host, port)
    while (job := await jobs.get()) is not None:
        due_s, kind, request, task = job
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        sent.append((kind, int(head[9:12]), time.perf_counter() - due_s, task))
    writer.close()


def _request(kind: str, n: int) -> tuple[bytes, str]:
    task = f"tsk_{n - 1 if kind == 'repeated' else n}"
    if kind not in ("valid", "repeated"):
        task = f"forged_{n}"
    body = json.dumps(
        {
            "event": "task.image.generate.completed",
            "task": {"id": task},
            "request": {"prompt": "a red kite", "metadata": {"n": n}},
            "result": {"model": MODEL, "images": [{"status": "success", "id": f"img_{n}"}] * 4},
        }
    ).encode()
    at = int(time.time()) - (400 if kind == "stale" else 0)
    secret = b"wbs_of_somebody_else" if kind == "wrong secret" else SECRET.encode()
    signature = hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
    header = "" if kind == "unsigned" else f"x-mynth-signature: t={at},v1={signature}\r\n"
    if kind == "changed body":
        body = body.replace(b"red", b"RED")
    head = f"POST / HTTP/1.1\r\nhost: r\r\ncontent-length: {len(body)}\r\n{header}\r\n"
    return head.encode() + body, task


def _summary(sent: list[Sent]) -> dict[str, Any]:
    times = sorted(seconds for _, _, seconds, _ in sent)
    if not times:
        return {}
    return {
        "n": len(sent),
        "statuses": dict(Counter(status for _, status, _, _ in sent)),
        "p50_ms": round(1000 * times[len(times) // 2], 1),
        "p99_ms": round(1000 * times[int(len(times) * 0.99)], 1),
        "max_ms": round(1000 * times[-1], 1),
    }


# -- the receiver ------------------------------------------------------------------------------


@contextmanager
def receiving(root: Path, ledger_url: str) -> Iterator[str]:
    """`mynth-dagster webhook` on a free port; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mynth_dagster.cli", "webhook", "--root", str(root)]
    process = subprocess.Popen(
        [*command, "--ledger", ledger_url, "--port", str(port)],
        env={**os.environ, **SECRETS},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert str(port) in process.stdout.readline()
        receiving.pid = process.pid  # type: ignore[attr-defined]
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(x for x in lines if x.startswith("VmRSS")).split()[1]) / 1024, 1)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["table", "load"])
    parser.add_argument("--rows", type=int, default=1632)
    parser.add_argument("--prompts", help="Parquet file with a column prompt or Prompt")
    parser.add_argument("--revision", help="only this API revision; by default each in turn")
    parser.add_argument("--rate", type=int, default=1000, help="deliveries a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--ledger", help="URL of an empty ledger; by default SQLite")
    return parser.parse_args()


if __name__ == "__main__":
    main()
