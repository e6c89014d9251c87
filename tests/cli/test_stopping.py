"""What the first and the second signal do, in a process of its own that they may kill."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, os, sys
from mynth_dagster.cli.options import drain_on_signals
from mynth_dagster.engine.stop import StopReason, CancelToken

async def work():
    stop = CancelToken()
    drain_on_signals(stop)
    if sys.argv[1] == "stopped":
        stop.set(StopReason("insufficient_balance", "The account is empty."))
    os.kill(os.getpid(), int(sys.argv[3]))
    while not stop.is_cancelled:
        await asyncio.sleep(0)
    print(stop.reason.code, flush=True)
    if sys.argv[2] == "2":
        os.kill(os.getpid(), int(sys.argv[3]))
        await asyncio.Event().wait()

asyncio.run(work())
"""


def signalled(before: str, n_signals: int, number: int) -> tuple[int, str]:
    """Exit code and output of a process that gets so many signals."""
    arguments = [sys.executable, "-c", SCRIPT, before, str(n_signals), str(int(number))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("before", "code"), [("sending", "cancelled"), ("stopped", "insufficient_balance")]
)
def test_the_first_signal_drains_whatever_stopped_the_run_before(before, code, number):
    """The answers of POSTs in flight are recorded, also where money had run out already."""
    assert signalled(before, 1, number) == (0, code)


def test_the_second_signal_kills():
    """Whoever cannot wait is obeyed, which is as safe as any kill."""
    assert signalled("sending", 2, signal.SIGTERM) == (-signal.SIGTERM, "cancelled")
