"""
`python -m demo.ui`: Dagster's UI and daemon on the demo's history, and its simulator.

The simulator is where it was, with the tasks that it had: links to images work until both end.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from demo.services import PROJECT, Place, simulator


def main() -> int:
    """Serve until interrupted."""
    place = Place()
    if not place.dagster_home.is_dir():
        print("There is no history yet: run `make demo` first.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _serve(place)
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        print(f"{error} (or does `make demo` still run?)")
        return 1


def _serve(place: Place) -> int:
    with simulator(place) as url:
        command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml"]
        print("Dagster's UI comes up at http://127.0.0.1:3000")
        dagster = subprocess.Popen(command, cwd=PROJECT, env=place.environment(url))
        try:
            return dagster.wait()
        finally:
            dagster.terminate()
            dagster.wait()


if __name__ == "__main__":
    sys.exit(main())
