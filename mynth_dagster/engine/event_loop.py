"""The loop that the engine runs on, and how the process keeps its memory meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

T = TypeVar("T")

COLLECT_AFTER_OBJECTS = 50_000
"""
New objects between two searches for garbage; by default Python searches after 700.

Thousands of requests in flight are as many living objects, and next to nothing of ours is cyclic:
searching so often costs a fifth of the time of a submission and finds nothing.
"""

_lock = threading.Lock()
_open: list[tuple[tuple[int, int, int], pa.MemoryPool]] = []


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


@contextmanager
def lean_memory() -> Iterator[None]:
    """
    Search for garbage rarely, and have Arrow give back at once what it has used.

    As before once nobody of this process is here any more. Arrow's usual pool keeps freed pages
    for itself, in each thread: half of what a run with many tasks in flight would take.
    """
    with _lock:
        _open.append((gc.get_threshold(), pa.default_memory_pool()))
        gc.set_threshold(COLLECT_AFTER_OBJECTS, *_open[0][0][1:])
        pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        with _lock:
            thresholds, pool = _open.pop()  # the first one's stays below: what the process had
            if not _open:
                gc.set_threshold(*thresholds)
                pa.set_memory_pool(pool)
