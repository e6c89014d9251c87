"""One thing measured in a process of its own, on a core of its own."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MIB = 2**20
CLEAR_PEAK = "5"  # proc(5), clear_refs


@dataclass(frozen=True)
class Measured:
    """
    What a run took.

    Args:
        result: Whatever the function returned.
        cpu_s: Of all its threads.
        base_bytes: Resident memory when everything was imported and nothing done.
        peak_bytes: The most it was from then on.
    """

    result: Any
    wall_s: float
    cpu_s: float
    base_bytes: int
    peak_bytes: int

    @property
    def over_base_mib(self) -> float:
        return (self.peak_bytes - self.base_bytes) / MIB


def cores() -> tuple[int, int]:
    """Where the server runs and where the clients; the same where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def measure(
    core: int,
    function: Callable[..., Any],
    *args: Any,
    before: Callable[[], object] = list,
    between: Callable[[], object] = list,
) -> Measured:
    """
    Call a module's function in a fresh interpreter pinned to a core.

    Args:
        before: Called there first and not measured: what is imported on first use is no work.
        between: Called here when that is done.

    Raises:
        RuntimeError: It failed; with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, core, function, args, before))
    process.start()
    theirs.close()
    try:
        if (found := ours.recv()) is None:
            between()
            ours.send(None)
            found = ours.recv()
    except EOFError:
        found = "the process died"
    process.join()
    if isinstance(found, str):
        raise RuntimeError(found)
    measured: Measured = found
    return measured


def _run(
    pipe: Connection,
    core: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    before: Callable[[], object],
) -> None:
    os.sched_setaffinity(0, {core})
    try:
        before()
        pipe.send(None)
        pipe.recv()
        base_bytes = status_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK, encoding="ascii")
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        result = function(*args)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        pipe.send(Measured(result, wall_s, cpu_s, base_bytes, status_bytes("VmHWM")))
    except BaseException:  # noqa: BLE001 - told to whoever asked
        pipe.send(traceback.format_exc())


def status_bytes(name: str, pid: int | str = "self") -> int:
    """A size out of `/proc/<pid>/status`: `VmRSS` now, `VmHWM` at most."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024
