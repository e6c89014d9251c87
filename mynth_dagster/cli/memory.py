"""Memory settings of the command line's process, which gives freed memory back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
}
"""
Variables with the same effect from outside; those that are set are left alone.

Arrow's usual pool keeps what it used, half of what a large run would take; so does the heap that
the GNU C library gives each thread, and one whose threshold has grown.
"""

_MALLOPT = {"MALLOC_ARENA_MAX": -8, "MALLOC_MMAP_THRESHOLD_": -3}
"""Parameters of `mallopt`, which the library reads from the environment before we can set it."""


def keep_little() -> None:
    """Apply the settings; call it before Arrow is imported and before there are threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for name, value in ENVIRONMENT.items():
        if name in os.environ:
            continue
        if name not in _MALLOPT:
            os.environ[name] = value
        elif mallopt is not None:
            mallopt(_MALLOPT[name], int(value))
