"""What the first and the second signal do, in a process of its own that they kill in the end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, os, signal
from mynth_dagster.cli.options import drain_on_signals
from mynth_dagster.engine.stop import StopReason, CancelToken

async def drain(number, reason=None):
    stop = CancelToken()
    drain_on_signals(stop)
    if reason is not None:
        stop.set(reason)
    os.kill(os.getpid(), number)
    while not stop.is_cancelled:
        await asyncio.sleep(0)
    print(stop.reason.code, flush=True)

async def drain_and_wait():
    await drain(signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()

for number in (signal.SIGINT, signal.SIGTERM):
    asyncio.run(drain(number))
    asyncio.run(drain(number, StopReason("insufficient_balance", "The account is empty.")))
asyncio.run(drain_and_wait())
"""


@pytest.fixture(scope="module")
def signalled() -> subprocess.CompletedProcess[str]:
    """The script, which gets one signal after the other, until the second of a run kills it."""
    script = [sys.executable, "-c", SCRIPT]
    return subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)


def test_the_first_signal_drains_whatever_stopped_the_run_before(signalled):
    """The responses of POSTs in flight are recorded, also where money had run out already."""
    drained = signalled.stdout.split()

    assert drained[:4] == ["cancelled", "insufficient_balance"] * 2, signalled.stderr


def test_the_second_signal_kills(signalled):
    """Whoever cannot wait is obeyed, which is as safe as any kill."""
    assert signalled.stdout.split()[4:] == ["cancelled"]
    assert signalled.returncode == -signal.SIGTERM
