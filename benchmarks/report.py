"""What was measured, as one table for the eye and for `RESULTS.md`."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
LIBRARIES = (
    *("mynth-dagster", "aiohttp", "httpx", "httpx-aiohttp", "uvloop", "SQLAlchemy"),
    *("psycopg", "pyarrow", "dagster"),
)


@dataclass(frozen=True)
class Line:
    """
    One figure: the median of its runs, between the least and the greatest of them.

    Args:
        reach: What was aimed at, in words; empty for a figure that only explains others.
        met: Whether it was reached; None where there is no aim.
    """

    what: str
    figure: str
    spread: str = ""
    n_runs: int = 1
    reach: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "**missed**"}[self.met]


@dataclass(frozen=True)
class Aim:
    """At least, or at most, so much."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        low, high = self.at_least, self.at_most
        return (low is None or value >= low) and (high is None or value <= high)

    def words(self, form: str) -> str:
        if self.at_least is not None:
            return "≥ " + form.format(self.at_least)
        return "≤ " + form.format(self.at_most)


def line(
    what: str,
    values: Sequence[float],
    form: str = "{:,.0f}",
    aim: Aim | None = None,
    note: str = "",
) -> Line:
    """The median of some runs, spelled in one form; judged where there is an aim."""
    median = statistics.median(values)
    spread = f"{form.format(min(values))} to {form.format(max(values))}" if len(values) > 1 else ""
    return Line(
        what=what,
        figure=form.format(median),
        spread=spread,
        n_runs=len(values),
        reach=aim.words(form) if aim else "",
        met=aim.is_met(median) if aim else None,
        note=note,
    )


def in_markdown(lines: Sequence[Line]) -> str:
    """The table."""
    head = "| what | median | spread | runs | reach | |\n|---|---|---|---|---|---|\n"
    rows = [
        f"| {x.what}{f' ({x.note})' if x.note else ''} | {x.figure} | {x.spread} "
        f"| {x.n_runs} | {x.reach} | {x.verdict} |"
        for x in lines
    ]
    return head + "\n".join(rows) + "\n"


def write_section(name: str, command: str, took_s: float, lines: Sequence[Line]) -> None:
    """Put a section into `RESULTS.md`, in the place of the one of that name."""
    body = (
        f"## {name}\n\n`{command}`, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, "
        f"{took_s / 60:.0f} minutes.\n{_machine()}\n\n{in_markdown(lines)}"
    )
    written = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    sections = {part.split("\n", 1)[0]: f"## {part}" for part in written.split("\n## ")[1:]}
    sections[name] = body
    text = "\n\n".join(["# Results", *(part.strip() for part in sections.values())])
    RESULTS.write_text(text + "\n", encoding="utf-8")


def _machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({_processor()}), load {os.getloadavg()[0]:.1f} at the end, "
        f"{platform.system()} {platform.release()}, "
        f"Python {sys.version.split()[0]}, Node {_node()}, {versions}."
    )


def _processor() -> str:
    for row in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if row.startswith("model name"):
            return row.split(":", 1)[1].strip()
    return platform.machine()


def _node() -> str:
    try:
        found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "absent"
    return found.stdout.strip()
