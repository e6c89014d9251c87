"""What it costs to start: the command, the package, and a code location."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.report import Line, line

MODULES = {
    "mynth_dagster": "import mynth_dagster",
    "the command line": "import mynth_dagster.cli",
    "the engine": "import mynth_dagster.engine.run",
    "dagster alone": "import dagster",
    "a code location": "from mynth_dagster import build_image_batch; "
    "build_image_batch('b', prompts='p.parquet', fan_out=8)",
}
MEASURE = """
import json, pathlib, time
began_s = time.perf_counter()
{code}
took_s = time.perf_counter() - began_s
status = pathlib.Path("/proc/self/status").read_text().split("VmRSS:")[1]
print(json.dumps([took_s, int(status.split()[0]) / 1024]))
"""


def lines(*, n_rounds: int, **_: float) -> list[Line]:
    """Each in a process of its own, the first time not counted."""
    found = []
    for name, code in MODULES.items():
        runs = [_run(code) for _ in range(n_rounds + 1)][1:]
        memory = sum(mib for _, mib in runs) / len(runs)
        note = f"{memory:.0f} MiB resident"
        found.append(line(f"import {name}, s", [took_s for took_s, _ in runs], "{:.2f}", note=note))
    return [*found, line("`mynth-dagster --help`, s", [_help() for _ in range(n_rounds)], "{:.2f}")]


def _run(code: str) -> tuple[float, float]:
    command = [sys.executable, "-c", MEASURE.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took_s, mib = json.loads(done.stdout.splitlines()[-1])
    return took_s, mib


def _help() -> float:
    began_s = time.perf_counter()
    command = [sys.executable, "-m", "mynth_dagster.cli", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began_s
