"""
How the command line's process keeps its memory: as little as it needs, whatever it used before.

The same can be had from outside, by `ARROW_DEFAULT_MEMORY_POOL=system`, `MALLOC_ARENA_MAX=1` and
`MALLOC_MMAP_THRESHOLD_=131072` in the environment of a process; what is set there is left alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of the GNU C library
MMAP_FROM_BYTES = 131_072


def keep_little() -> None:
    """To be called before Arrow is imported and before there are threads."""
    # Arrow's usual pool keeps what it used: half of what a large run would take.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # Each thread's own heap keeps its peak, and so does one whose threshold has grown.
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 1)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(_M_MMAP_THRESHOLD, MMAP_FROM_BYTES)
