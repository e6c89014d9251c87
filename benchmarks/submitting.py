"""Paid requests: the engine with its ledger beside what others would write without one."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import ours, peers
from benchmarks.measured import cores, measure
from benchmarks.postgres import postgres
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, Server, serving

CONCURRENCY = 128
DELAY_S = 0.05
AT_ONCE = Behaviour()
PEERS = Path(__file__).with_name("peers.mjs")
FOLDERS_IN = Path.cwd()


@dataclass(frozen=True)
class Run:
    """One run: requests a second of wall time, and CPU µs a request in the client's process."""

    per_s: float
    cpu_us: float
    ledger_share: float = 0.0
    server_us: float = 0.0
    n_sockets: int = 0


def lines(*, n_rounds: int, scale: float) -> list[Line]:
    """Everybody in turn, so that whatever else the machine does hits all of them."""
    runs: dict[str, list[Run]] = defaultdict(list)
    server_core, core = cores()
    with serving(server_core) as server, postgres() as new_database:
        for _ in range(n_rounds):
            for name, go in _contestants(new_database).items():
                runs[name].append(_one(server, core, go, scale))
            delayed = Behaviour(post_delay_s=DELAY_S)
            runs["delayed"].append(_one(server, core, (_durable(None), 20_000), scale, delayed))
    return [*_rates(runs), *_ratios(runs)]


Go = Callable[[Server, int, int], tuple[float, float, float]]
"""Server, core and number of requests; wall and CPU seconds, and the ledger's share of the CPU."""


def _contestants(new_database: Callable[[], str]) -> dict[str, tuple[Go, int]]:
    found: dict[str, tuple[Go, int]] = {
        "durable, SQLite": (_durable(None), 20_000),
        "httpx-aiohttp's transport": (_bare(peers.bare_transport), 10_000),
        "aiohttp": (_bare(peers.bare_aiohttp), 10_000),
        "durable, Postgres": (_durable(new_database), 20_000),
        "httpx over httpx-aiohttp": (_bare(peers.httpx_aiohttp_client), 5_000),
        "plain httpx": (_bare(peers.plain_httpx), 500),
        "asyncio protocol": (_bare(peers.protocol), 40_000),
    }
    if shutil.which("node"):
        found["Node's fetch"] = (_node, 10_000)
    if shutil.which("wrk"):
        found["wrk"] = (_wrk, 100_000)
    return found


def _one(
    server: Server,
    core: int,
    contestant: tuple[Go, int],
    scale: float,
    behaviour: Behaviour = AT_ONCE,
) -> Run:
    go, n_usual = contestant
    n = max(200, round(n_usual * scale))
    server.behave(behaviour)
    before_s = server.seen().cpu_s
    wall_s, cpu_s, ledger_share = go(server, core, n)
    seen = server.seen()
    n_seen = seen.requests["POST /image/generate"]
    assert n_seen >= n, f"{n_seen} of {n} requests arrived"
    return Run(
        per_s=n_seen / wall_s,
        cpu_us=1e6 * cpu_s / n_seen,
        ledger_share=ledger_share,
        server_us=1e6 * (seen.cpu_s - before_s) / n_seen,
        n_sockets=seen.n_open_peak,
    )


def _bare(peer: Callable[[str, int, int], None]) -> Go:
    def go(server: Server, core: int, n: int) -> tuple[float, float, float]:
        measured = measure(core, peer, server.url, n, CONCURRENCY)
        return measured.wall_s, measured.cpu_s, 0.0

    return go


def _durable(new_database: Callable[[], str] | None) -> Go:
    """Check the table, quote it and send it; the opening of a new ledger is not counted."""

    def go(server: Server, core: int, n: int) -> tuple[float, float, float]:
        with folder() as path:
            ours.write_prompts_file(Path(path) / "prompts.parquet", n)
            ledger_url = new_database() if new_database else None
            measured = measure(core, ours.submit_table, server.url, path, CONCURRENCY, ledger_url)
        done: ours.Submitted = measured.result
        assert done.n_accepted == n
        wall_s = done.prepare_s + done.submit_s
        return wall_s, done.cpu_s, done.ledger_cpu_s / done.cpu_s

    return go


def _node(server: Server, core: int, n: int) -> tuple[float, float, float]:
    found = run_node(core, "submit", server.url, str(n), str(CONCURRENCY))
    return found["wall_s"], found["cpu_s"], 0.0


def run_node(core: int, *arguments: str) -> dict[str, Any]:
    """What a run of `peers.mjs` says of itself."""
    command = ["taskset", "-c", str(core), "node", str(PEERS), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _wrk(server: Server, core: int, n: int) -> tuple[float, float, float]:
    script = f"wrk.method=\"POST\" wrk.body='{peers.body_of(7).decode()}'"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        before = server.seen().requests["POST /image/generate"]
        load = ["wrk", "-t1", f"-c{CONCURRENCY}", "-d3", "-s", file.name]
        subprocess.run(["taskset", "-c", str(core), *load, server.url + peers.PATH], check=True)
    seen = server.seen().requests["POST /image/generate"] - before
    assert seen >= n
    return 3.0, 3.0, 0.0


@contextmanager
def folder() -> Iterator[str]:
    """On the disk of the working directory: one in memory would make every COMMIT too cheap."""
    with tempfile.TemporaryDirectory(dir=FOLDERS_IN, prefix=".bench-") as path:
        yield path


def _rates(runs: dict[str, list[Run]]) -> Iterator[Line]:
    for name, found in runs.items():
        server_busy = max(run.per_s * run.server_us / 1e6 for run in found)
        note = f"{_median(found, 'cpu_us'):.0f} µs CPU a request, server {server_busy:.0%} busy"
        yield line(f"requests/s, {name}", [run.per_s for run in found], note=note)
    sockets = [float(run.n_sockets) for run in runs["durable, SQLite"]]
    yield line("sockets, durable, SQLite", sockets, aim=Aim(at_most=CONCURRENCY + 1))


def _ratios(runs: dict[str, list[Run]]) -> Iterator[Line]:
    durable = [run.per_s for run in runs["durable, SQLite"]]

    def times(other: str) -> list[float]:
        return [a / b.per_s for a, b in zip(durable, runs[other], strict=True)]

    form = "{:.2f} ×"
    yield line("durable ÷ plain httpx", times("plain httpx"), form, Aim(at_least=20))
    if "Node's fetch" in runs:
        yield line("durable ÷ Node's fetch", times("Node's fetch"), form, Aim(at_least=2.5))
    else:
        yield Line("durable ÷ Node's fetch", "skipped", note="Node is absent")
    bare = "httpx-aiohttp's transport"
    yield line(f"durable ÷ bare loop over {bare}", times(bare), form, Aim(at_least=0.75))
    yield line("durable ÷ bare loop over aiohttp", times("aiohttp"), form)
    full = CONCURRENCY / DELAY_S
    delayed = [run.per_s / full for run in runs["delayed"]]
    yield line("durable at 50 ms delay ÷ (concurrency ÷ delay)", delayed, form, Aim(at_least=0.85))
    for name, share in (("SQLite", 0.10), ("Postgres", 0.05)):
        shares = [run.ledger_share for run in runs[f"durable, {name}"]]
        what = f"ledger's share of submit CPU, {name}"
        yield line(what, shares, "{:.1%}", Aim(at_most=share))


def _median(found: list[Run], name: str) -> float:
    values = sorted(float(getattr(run, name)) for run in found)
    return values[len(values) // 2]
