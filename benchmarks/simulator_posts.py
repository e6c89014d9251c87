"""
How many POSTs a second the simulator answers on one core.

The server runs in a process of its own, pinned to one core; the load comes from another core,
by bare asyncio streams, so that the loader is not what is measured. Loopback only, bounded in time.

    python benchmarks/simulator_posts.py --seconds 5 --connections 64

Prints one JSON line: ``posts_per_s`` by the wall clock, ``posts_per_cpu_s`` by the server's own
CPU time (the better figure on a busy machine), and the server's memory per task.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

from mynth_dagster.simulator import Scenario, SimulatorServer

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


def main() -> None:
    """Measure once and print."""
    options = _parse()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(theirs, options.server_core), daemon=True
    )
    server.start()
    _pin(options.load_core)
    try:
        port = ours.recv()
        ours.send("measure")
        before = ours.recv()
        n_posts, elapsed_s = asyncio.run(load(port, options.connections, options.seconds))
        ours.send("measure")
        after = ours.recv()
    finally:
        ours.send("stop")
        server.join(10)
    print(json.dumps(compose_report(options, n_posts, elapsed_s, before, after)))


def run_server(pipe: Connection, core: int) -> None:
    """Serve until told to stop; answers "measure" with CPU seconds, memory and tasks."""
    _pin(core)
    with SimulatorServer(Scenario(balance_usd="1000000000")) as server:
        pipe.send(server.port)
        while pipe.recv() == "measure":
            n_tasks = server.log()["totals"]["accepted"]
            pipe.send((time.process_time(), _resident_bytes(), n_tasks))


async def load(port: int, n_connections: int, seconds: float) -> tuple[int, float]:
    """Keep all connections busy for some seconds; the number of 201 answers and the time."""
    started_s = time.perf_counter()
    deadline_s = started_s + seconds
    counts = await asyncio.gather(
        *(_keep_posting(port, number, deadline_s) for number in range(n_connections))
    )
    return sum(counts), time.perf_counter() - started_s


async def _keep_posting(port: int, number: int, deadline_s: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    n_done = 0
    while time.perf_counter() < deadline_s:
        writer.write(compose_request(number, n_done))
        head = await reader.readuntil(END_OF_HEAD)
        if not head.startswith(b"HTTP/1.1 201 "):
            raise RuntimeError(head.decode())
        await reader.readexactly(int(head.split(LENGTH)[1].split(b"\r\n")[0]))
        n_done += 1
    writer.close()
    await writer.wait_closed()
    return n_done


def compose_request(number: int, turn: int) -> bytes:
    """A request as a real client sends it: own prompt, metadata with an intent tag."""
    body = {
        "prompt": f"a watercolour of lighthouse {turn} on island {number}, soft morning light",
        "model": "black-forest-labs/flux.2-dev",
        "size": "landscape",
        "count": 1,
        "output": {"format": "webp"},
        "metadata": {"mynth_dagster": f"int{number:08d}{turn:08d}.0123456789ab.ledger01", "row": 7},
    }
    raw = json.dumps(body, separators=(",", ":")).encode()
    head = (
        "POST /image/generate HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n"
        "authorization: Bearer mak_simulator\r\ncontent-type: application/json\r\n"
        f"content-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


def compose_report(
    options: argparse.Namespace,
    n_posts: int,
    elapsed_s: float,
    before: tuple[float, int, int],
    after: tuple[float, int, int],
) -> dict[str, float]:
    """The figures, rounded."""
    cpu_s, n_bytes, n_tasks = (new - old for new, old in zip(after, before, strict=True))
    assert n_tasks >= n_posts, "the log knows fewer tasks than were answered"
    return {
        "connections": options.connections,
        "posts": n_posts,
        "posts_per_s": round(n_posts / elapsed_s),
        "posts_per_cpu_s": round(n_tasks / cpu_s),
        "server_core_busy": round(cpu_s / elapsed_s, 2),
        "bytes_per_task": round(n_bytes / n_tasks),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--server-core", type=int, default=cores[0])
    parser.add_argument("--load-core", type=int, default=cores[-1])
    return parser.parse_args()


def _pin(core: int) -> None:
    os.sched_setaffinity(0, {core})


def _resident_bytes() -> int:
    n_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return n_pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
