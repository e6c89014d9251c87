"""The loop that the engine runs on, and how rarely it stops to look for garbage."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

COLLECT_AFTER_OBJECTS = 50_000
"""
New objects between two searches for garbage; by default Python searches after 700.

Thousands of requests in flight are as many living objects, and next to nothing of ours is cyclic:
searching so often costs a fifth of the time of a submission and finds nothing.
"""

_lock = threading.Lock()
_open: list[tuple[int, int, int]] = []


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Search for garbage rarely; as before once nobody of this process is here any more."""
    with _lock:
        _open.append(gc.get_threshold())
        gc.set_threshold(COLLECT_AFTER_OBJECTS, *_open[0][1:])
    try:
        yield
    finally:
        with _lock:
            before = _open.pop()  # the first one's stays below: what the process had itself
            if not _open:
                gc.set_threshold(*before)
