"""
Figures by one command: `python -m benchmarks` or, in a tenth of the time, with `--quick`.

Prints tables and writes them to `RESULTS.md` (a quick run only prints). What takes long belongs
to `--growth`. Sections can be chosen:

    python -m benchmarks --quick submitting
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from benchmarks import (
    beside,
    growth,
    imports,
    in_dagster,
    sensing,
    submitting,
    tables,
    waiting,
)
from benchmarks.report import Line, in_markdown, write_section
from mynth_dagster.cli.memory import ENVIRONMENT

Section = Callable[..., list[Line]]
SECTIONS: dict[str, Section] = {
    "submitting": submitting.lines,
    "waiting": waiting.lines,
    "beside": beside.lines,
    "dagster": in_dagster.lines,
    "imports": imports.lines,
}
GROWTH: dict[str, Section] = {
    "reading": tables.reading,
    "planning": tables.planning,
    "sensor": sensing.lines,
    "growth": growth.lines,
}
LONG: dict[str, Section] = {"million": growth.million, "planned": tables.new_rows}
"""Only where it is asked for by name."""

QUICK = {"n_rounds": 2, "scale": 0.2}
FULL = {"n_rounds": 5, "scale": 1.0}
ONCE = {"n_rounds": 3, "scale": 1.0}


def main() -> None:
    """Measure, print, write."""
    # Of every process that is measured, peers included: as the command line has it.
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    known = {**SECTIONS, **GROWTH, **LONG}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("sections", nargs="*", choices=[*known, []])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--growth", action="store_true")
    asked = parser.parse_args()
    for name in asked.sections or (GROWTH if asked.growth else SECTIONS):
        began_s = time.monotonic()
        extent = QUICK if asked.quick else FULL if name in SECTIONS else ONCE
        found = known[name](**extent)
        took_s = time.monotonic() - began_s
        print(f"\n## {name} ({took_s:.0f} s)\n\n{in_markdown(found)}", flush=True)
        if not asked.quick:
            write_section(name, f"python -m benchmarks {name}", took_s, found)


if __name__ == "__main__":
    sys.exit(main())
