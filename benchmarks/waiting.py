"""Whole pipelines, from prompt table to result tables, beside the official SDK's way to wait."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import ours
from benchmarks.measured import MIB, cores, measure
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, Server, serving
from benchmarks.submitting import CONCURRENCY, folder, run_node

BEHAVIOUR = Behaviour(post_delay_s=0.03, task_min_s=1.0, task_max_s=10.0)
MAKESPAN_MAX = {1_000: 1.08, 5_000: 1.20, 10_000: 1.35}
REQUESTS_MAX = 2.05
MEMORY_MAX_MIB = 25.0
N_FOR_MEMORY = 50_000


@dataclass(frozen=True)
class Run:
    """Seconds over the slowest task's, requests a task, MiB over the imported base, sockets."""

    makespan: float
    requests: float
    memory_mib: float
    n_sockets: int


def lines(*, n_rounds: int, scale: float) -> list[Line]:
    """Everybody in turn."""
    runs: dict[tuple[str, int], list[Run]] = defaultdict(list)
    server_core, core = cores()
    sizes = [n for n in MAKESPAN_MAX if scale == 1 or n <= 1_000]
    with serving(server_core) as server:
        for _ in range(max(1, n_rounds - 2)):
            for n in sizes:
                runs["mynth-dagster", n].append(_ours(server, core, n))
                if shutil.which("node") and (run := _node(server, core, n)):
                    runs["official SDK's way, Node", n].append(run)
        if scale == 1:
            runs["mynth-dagster", N_FOR_MEMORY].append(_ours(server, core, N_FOR_MEMORY))
    return [x for (name, n), found in runs.items() for x in _lines(name, n, found)]


def _lines(name: str, n: int, found: list[Run]) -> list[Line]:
    is_ours = name == "mynth-dagster"
    makespan = Aim(at_most=MAKESPAN_MAX[n]) if is_ours and n in MAKESPAN_MAX else None
    requests = Aim(at_most=REQUESTS_MAX) if is_ours else None
    memory = Aim(at_most=MEMORY_MAX_MIB) if is_ours else None
    sockets = Aim(at_most=CONCURRENCY + 1) if is_ours else None
    what = f"{n:,} tasks, {name}: "
    return [
        line(f"{what}makespan ÷ slowest", [r.makespan for r in found], "{:.2f} ×", makespan),
        line(f"{what}requests a task", [r.requests for r in found], "{:.3f}", requests),
        line(f"{what}memory over the base, MiB", [r.memory_mib for r in found], "{:.0f}", memory),
        line(f"{what}sockets", [float(r.n_sockets) for r in found], "{:,.0f}", sockets),
    ]


def _ours(server: Server, core: int, n: int) -> Run:
    with folder() as path:
        ours.write_prompts_file(Path(path) / "prompts.parquet", n)
        server.behave(Behaviour())
        measured = measure(
            core,
            ours.run_whole_table,
            *(server.url, path, CONCURRENCY),
            before=partial(ours.warm_up, server.url),
            between=partial(server.behave, BEHAVIOUR),
        )
    assert measured.result.n_images == n
    return _run(server, n, measured.result.wall_s, measured.over_base_mib)


def _node(server: Server, core: int, n: int) -> Run | None:
    """None where Node ends early: two sockets a task are more than the system may allow."""
    server.behave(BEHAVIOUR)
    try:
        found = run_node(core, "pipeline", server.url, str(n))
    except subprocess.CalledProcessError as error:
        print(f"Node gave up at {n} tasks: {error.stderr.strip().splitlines()[-1:]}")
        return None
    return _run(server, n, found["wall_s"], found["peak_bytes"] / MIB)


def _run(server: Server, n: int, wall_s: float, memory_mib: float) -> Run:
    seen = server.seen()
    return Run(wall_s / seen.slowest_s, seen.requests.total() / n, memory_mib, seen.n_open_peak)
