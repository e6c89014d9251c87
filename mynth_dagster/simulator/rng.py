"""
Random numbers that repeat, and ids made of them.

Every number is a hash of the scenario's seed and of what it is for. No generator is shared, so the
order of concurrent requests cannot change who is unlucky.
"""

from __future__ import annotations

from hashlib import blake2b

_SPAN = 2**64


def random_whole(seed: int, *parts: object) -> int:
    """A whole number in ``[0, 2**64)`` for ``parts``."""
    text = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def random_share(seed: int, *parts: object) -> float:
    """A number in ``[0, 1)`` for ``parts``."""
    return (random_whole(seed, *parts) >> 11) / (_SPAN >> 11)


# Ids as the API shapes them: a prefix and 26 characters of a ULID.
#
# A ULID is 48 bits of milliseconds and 80 bits of noise. Here the noise is the task's running
# number (40 bits), 33 bits that depend on seed and number, and 7 bits that count a task's images.
# So ids grow in the order of creation, an image's id leads back to its task, and nothing has to be
# stored to find either.


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's, without I, L, O and U
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_ULID_CHARS = 26
_INDEX_BITS = 7
_NOISE_BITS = 33
_US_PER_MS = 1_000


def make_ulid(at_us: int, number: int, seed: int, image_index: int = -1) -> str:
    """
    The 26 characters for the ``number``-th task, or for one of its images.

    Args:
        at_us: Time of creation, UTC microseconds.
        number: Running number of the task, 0-based.
        seed: The scenario's seed.
        image_index: 0-based index of the image; -1 for the task itself.
    """
    noise = random_whole(seed, "id", number) >> (64 - _NOISE_BITS)
    value = at_us // _US_PER_MS
    value = (value << 40) | number
    value = (value << _NOISE_BITS) | noise
    value = (value << _INDEX_BITS) | (image_index + 1)
    return _encode(value)


def parse_ulid(text: str) -> tuple[int, int] | None:
    """The running number and image index (-1: a task) of 26 characters; None if malformed."""
    if len(text) != _ULID_CHARS or not all(letter in _VALUES for letter in text):
        return None
    value = 0
    for letter in text:
        value = (value << 5) | _VALUES[letter]
    index = (value & ((1 << _INDEX_BITS) - 1)) - 1
    number = (value >> (_INDEX_BITS + _NOISE_BITS)) & ((1 << 40) - 1)
    return number, index


def make_id(prefix: str, seed: int, *parts: object) -> str:
    """An id for what is not a task, such as a webhook (``wh_``) or an upload."""
    high, low = random_whole(seed, prefix, *parts), random_whole(seed, prefix, "low", *parts)
    return prefix + _encode((high << 64) | low)


def _encode(value: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])
