"""A long sequence, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """At most so many of them at a time, in order."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
