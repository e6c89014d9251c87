"""`mynth-dagster webhook` that kills itself at a named moment: `python -m tests.webhook.killed`."""

from __future__ import annotations

import os
import signal
import sys

from mynth_dagster.cli.main import main
from mynth_dagster.crash_points import EVENT

POINT = "TEST_KILL_AT"


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Python's audit hook."""
    if event == EVENT and arguments[0] == os.environ.get(POINT):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.addaudithook(watch)
    main()
