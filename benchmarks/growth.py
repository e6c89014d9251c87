"""How time, memory, requests and the ledger grow with the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import ours
from benchmarks.measured import cores, measure
from benchmarks.paid import ledger_bytes
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, Server, serving
from benchmarks.submitting import CONCURRENCY, folder

SIZES = (1_000, 10_000, 100_000)
MILLION = (1_000_000,)
MEMORY_GROWTH_MAX = 1.5
TIME_GROWTH_MAX = 1.1


@dataclass(frozen=True)
class Grown:
    """One table, from prompts to images: seconds, MiB, requests and ledger bytes a row."""

    n_rows: int
    wall_s: float
    memory_mib: float
    requests: float
    bytes_a_row: float


def lines(*, scale: float, **_: int) -> list[Line]:
    """A thousand to a hundred thousand rows, and the exponents that fit them."""
    found = _measured([round(n * scale) for n in SIZES])
    wall = exponent([g.n_rows for g in found], [g.wall_s for g in found])
    memory = found[-1].memory_mib / found[-2].memory_mib
    times = f"memory, {found[-1].n_rows:,} ÷ {found[-2].n_rows:,} rows"
    return [
        *(x for g in found for x in _lines(g)),
        line(
            "time grows with rows to the power of", [wall], "{:.2f}", Aim(at_most=TIME_GROWTH_MAX)
        ),
        line(times, [memory], "{:.2f} ×", Aim(at_most=MEMORY_GROWTH_MAX)),
    ]


def million(*, scale: float, **_: int) -> list[Line]:
    """A million rows, sent and collected."""
    return [x for g in _measured([round(n * scale) for n in MILLION]) for x in _lines(g)]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the power law that fits best: the slope of the logarithms."""
    xs, ys = [math.log(x) for x in sizes], [math.log(y) for y in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    rise = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return rise / sum((a - x) ** 2 for a in xs)


def _measured(sizes: Sequence[int]) -> list[Grown]:
    server_core, core = cores()
    with serving(server_core) as server:
        return [_one(server, core, n) for n in sizes]


def _one(server: Server, core: int, n: int) -> Grown:
    """Tasks finish at once: only our own time is measured."""
    with folder() as path:
        ours.write_prompts_file(Path(path) / "prompts.parquet", n)
        server.behave(Behaviour())
        measured = measure(
            core,
            ours.run_whole_table,
            *(server.url, path, CONCURRENCY),
            before=partial(ours.warm_up, server.url),
            between=partial(server.behave, Behaviour()),
        )
        assert measured.result.n_images == n
        requests = server.seen().requests.total() / n
        wall_s = measured.result.wall_s
        return Grown(n, wall_s, measured.over_base_mib, requests, ledger_bytes(path) / n)


def _lines(grown: Grown) -> list[Line]:
    what = f"{grown.n_rows:,} rows, from prompts to images: "
    rate = f"{grown.n_rows / grown.wall_s:,.0f} rows/s"
    return [
        line(f"{what}s", [grown.wall_s], "{:,.1f}", note=rate),
        line(f"{what}MiB over the base", [grown.memory_mib]),
        line(f"{what}requests a row", [grown.requests], "{:.3f}"),
        line(f"{what}ledger, bytes a row", [grown.bytes_a_row]),
    ]
