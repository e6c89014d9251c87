"""
All figures by one command: `python -m benchmarks` or, in a tenth of the time, with `--quick`.

Prints one table and writes it to `RESULTS.md` (a quick run only prints). Sections can be chosen:

    python -m benchmarks --quick submitting
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from benchmarks import submitting, waiting
from benchmarks.report import Line, in_markdown, write_section

SECTIONS: dict[str, Callable[..., list[Line]]] = {
    "submitting": submitting.lines,
    "waiting": waiting.lines,
}
QUICK = {"n_rounds": 2, "scale": 0.2}
FULL = {"n_rounds": 5, "scale": 1.0}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    for name in asked.sections or SECTIONS:
        began_s = time.monotonic()
        found = SECTIONS[name](**(QUICK if asked.quick else FULL))
        print(f"\n## {name}\n\n{in_markdown(found)}", flush=True)
        if not asked.quick:
            command = f"python -m benchmarks {name}"
            write_section(name, command, time.monotonic() - began_s, found)


if __name__ == "__main__":
    sys.exit(main())
