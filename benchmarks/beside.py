"""What lies beside the engine: the simulator and the receiver of webhooks, by their own scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import Aim, Line, line

HERE = Path(__file__).parent
REQUESTS_MAX = 1.05


def lines(*, n_rounds: int, scale: float) -> list[Line]:
    """Requests a row with webhooks, how many deliveries a receiver bears, the simulator's rate."""
    table = _run("webhooks.py", "table", "--rows", str(round(1632 * scale)))
    load = _run("webhooks.py", "load", "--seconds", str(round(20 * scale)))
    posts = [_run("simulator_posts.py", "--seconds", "3") for _ in range(n_rounds)]
    told, polled = (table[way]["requests_per_row"] for way in ("webhooks", "polled"))
    answered = load["by_kind"]["valid"]
    return [
        line("requests a row, polled", [polled], "{:.3f}"),
        line("requests a row, webhooks", [told], "{:.3f}", Aim(at_most=REQUESTS_MAX)),
        line("tables are the same (1: yes)", [float(table["same_tables"])]),
        line("1,000 deliveries/s: p99 until answered, ms", [answered["p99_ms"]]),
        line("acknowledged and not kept", [float(load["acknowledged_but_not_kept"])], aim=NONE),
        line("forged and kept", [float(load["forged_but_kept"])], aim=NONE),
        line("simulator, POSTs/s", [float(one["posts_per_s"]) for one in posts]),
    ]


NONE = Aim(at_most=0)


def _run(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
