"""
Ids as the API shapes them: a prefix and 26 characters of a ULID.

A ULID is 48 bits of milliseconds and 80 bits of noise. Here the noise is the task's running
number (40 bits), 33 bits that depend on seed and number, and 7 bits that count a task's images.
So ids grow in the order of creation, an image's id leads back to its task, and nothing has to be
stored to find either.
"""

from __future__ import annotations

from mynth_dagster.simulator.draws import draw_whole
from mynth_dagster.simulator.instants import US_PER_MS

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's, without I, L, O and U
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_BODY_CHARS = 26
_INDEX_BITS = 7
_NOISE_BITS = 33


def compose_ulid(at_us: int, number: int, seed: int, image_index: int = -1) -> str:
    """
    The 26 characters for the ``number``-th task, or for one of its images.

    Args:
        at_us: Time of creation, UTC microseconds.
        number: Running number of the task, 0-based.
        seed: The scenario's seed.
        image_index: 0-based index of the image; -1 for the task itself.
    """
    noise = draw_whole(seed, "id", number) >> (64 - _NOISE_BITS)
    value = at_us // US_PER_MS
    value = (value << 40) | number
    value = (value << _NOISE_BITS) | noise
    value = (value << _INDEX_BITS) | (image_index + 1)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def read_ulid(body: str) -> tuple[int, int] | None:
    """The running number and image index (-1: a task) of 26 characters; None if malformed."""
    if len(body) != _BODY_CHARS or not all(letter in _VALUES for letter in body):
        return None
    value = 0
    for letter in body:
        value = (value << 5) | _VALUES[letter]
    index = (value & ((1 << _INDEX_BITS) - 1)) - 1
    number = (value >> (_INDEX_BITS + _NOISE_BITS)) & ((1 << 40) - 1)
    return number, index


def compose_id(prefix: str, seed: int, *parts: object) -> str:
    """An id for what is not a task: a webhook (``wh_``), an upload."""
    value = (draw_whole(seed, prefix, *parts) << 64) | draw_whole(seed, prefix, "low", *parts)
    pairs = [_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)]
    return prefix + "".join(pairs)[:_BODY_CHARS]
