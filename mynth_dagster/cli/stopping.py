"""Signals: the first ends the sending and lets answers in flight be recorded, the second kills."""

from __future__ import annotations

import asyncio
import os
import signal

from rich.console import Console

from mynth_dagster.cli.failing import say
from mynth_dagster.engine.stop import CANCELLED, StopSwitch


def drain_on_signals(stop: StopSwitch) -> None:
    """From now on SIGINT and SIGTERM set the switch; to be called on the loop of the work."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _cancel, stop, number)


def _cancel(stop: StopSwitch, number: int) -> None:
    if stop.is_cancelled:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    stop.set(CANCELLED)
    say(Console(stderr=True), "Stopping: no new requests; recording the answers in flight …")
