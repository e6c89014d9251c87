"""
Where the CPU of a durable request goes: `python -m benchmarks.profile`.

The event loop's thread is interrupted a thousand times a second; what it is at belongs to the
innermost module that one of the parts owns. The ledger's thread is measured by its own CPU clock.
Rewrites the section of `docs/performance.md` between its two marks.
"""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks import ours
from benchmarks.measured import cores, measure
from benchmarks.server import Behaviour, serving
from benchmarks.submitting import CONCURRENCY, folder

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARKS = ("<!-- profile -->", "<!-- /profile -->")
N_REQUESTS = 30_000
EVERY_S = 0.001
PARTS = {
    "HTTP: aiohttp and its timers": ("aiohttp/", "async_timeout/", "multidict/", "yarl/"),
    "client: throttle, deadline, sorting the answer": ("mynth_dagster/client/",),
    "encode and decode": ("mynth_dagster/wire/", "/json/"),
    "identity: hashes, ids, tags": ("models/request.py", "models/intent.py", "hashlib", "base64"),
    "ledger: queueing and waking": ("mynth_dagster/ledger/",),
    "tables: prompt rows to requests": ("mynth_dagster/tables/", "pyarrow/"),
    "engine: workers, plans, counts": ("engine/submit.py", "engine/plan.py", "engine/stop.py"),
}
LOOP = "event loop and sockets (uvloop)"
LEDGER = "ledger: statements and commits, its own thread"


@dataclass(frozen=True)
class Profile:
    """CPU µs a request, and the share of each part of the loop's thread."""

    cpu_us: float
    ledger_us: float
    shares: dict[str, float]


def main() -> None:
    """Measure once, and write it down."""
    server_core, core = cores()
    with serving(server_core) as server, folder() as path:
        ours.write_prompts_file(Path(path) / "prompts.parquet", N_REQUESTS)
        server.behave(Behaviour())
        profile: Profile = measure(core, profiled, server.url, path).result
    text = in_markdown(profile)
    print(text)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def profiled(url: str, path: str) -> Profile:
    """Submit the table, and be interrupted to note what this thread is at."""
    seen: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, lambda _, frame: seen.update([part_of(frame)]))
    signal.setitimer(signal.ITIMER_REAL, EVERY_S, EVERY_S)
    try:
        done = ours.submit_table(url, path, CONCURRENCY)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    shares = {part: n / seen.total() for part, n in seen.items()}
    cpu_us = 1e6 * done.cpu_s / done.n_accepted
    return Profile(cpu_us, 1e6 * done.ledger_cpu_s / done.n_accepted, shares)


def part_of(frame: FrameType | None) -> str:
    """The part that owns the innermost frame that any of them owns."""
    while frame is not None:
        file = frame.f_code.co_filename
        for part, owned in PARTS.items():
            if any(name in file for name in owned):
                return part
        frame = frame.f_back
    return LOOP


def in_markdown(profile: Profile) -> str:
    """A table, the dearest part first."""
    loop_us = profile.cpu_us - profile.ledger_us
    costs = {part: share * loop_us for part, share in profile.shares.items()}
    costs[LEDGER] = profile.ledger_us
    rows = [
        f"| {part} | {cost_us:.0f} | {cost_us / profile.cpu_us:.0%} |"
        for part, cost_us in sorted(costs.items(), key=lambda item: -item[1])
    ]
    head = "| part | CPU µs a request | share |\n|---|---|---|\n"
    return f"{head}" + "\n".join([*rows, f"| in all | {profile.cpu_us:.0f} | 100% |"]) + "\n"


if __name__ == "__main__":
    main()
