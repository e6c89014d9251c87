"""`python -m demo.ui`: Dagster's UI, daemon and the simulator on the demo's history."""

from __future__ import annotations

import subprocess
import sys

from demo.services import PROJECT, Place, simulator


def main() -> int:
    """Serve until interrupted."""
    place = Place()
    if not place.dagster_home.is_dir():
        print("There is no history yet: run `make demo` first.")
        return 2
    with simulator(place) as url:
        command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml"]
        print("Dagster's UI comes up at http://127.0.0.1:3000")
        try:
            return subprocess.run(
                command, cwd=PROJECT, env=place.environment(url), check=False
            ).returncode
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
