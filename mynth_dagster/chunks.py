"""Splitting of a long sequence into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield chunks of at most this many elements, in order."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
