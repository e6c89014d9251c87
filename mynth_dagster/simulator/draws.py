"""
Chance that repeats: every draw is a hash of the seed and of what it is drawn for.

No generator is shared, so the order of concurrent requests cannot change who is unlucky.
"""

from __future__ import annotations

from hashlib import blake2b

_SPAN = 2**64


def draw_whole(seed: int, *parts: object) -> int:
    """A whole number in ``[0, 2**64)`` for ``parts``."""
    text = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def draw(seed: int, *parts: object) -> float:
    """A number in ``[0, 1)`` for ``parts``."""
    return (draw_whole(seed, *parts) >> 11) / (_SPAN >> 11)
