"""Names of rows: which are given twice, and what a row without one is called."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Sequence

_EMPTY = 0
_START_SLOTS = 1024
_MASK_64 = (1 << 64) - 1


class KeyIndex:
    """
    A small number for each of very many keys, in 24 to 48 bytes a key.

    Keys are told apart by 64 bits. Among a million keys, two different ones are mistaken
    for each other once in thirty million tables.
    """

    def __init__(self) -> None:
        self._n_keys = 0
        self._allocate(_START_SLOTS)

    def __len__(self) -> int:
        return self._n_keys

    def get(self, key: int) -> int | None:
        """The number kept for a key, or None."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] else None

    def put(self, key: int, value: int) -> None:
        """Keep a number for a key, in place of an earlier one."""
        slot = self._slot(key)
        if not self._keys[slot]:
            self._n_keys += 1
        self._keys[slot] = (key & _MASK_64) or 1
        self._values[slot] = value
        if self._n_keys * 3 > self._slots * 2:
            self._grow()

    def _slot(self, key: int) -> int:
        """Where a key is, or would be: linear probing."""
        key = (key & _MASK_64) or 1
        keys, mask = self._keys, self._slots - 1
        slot = key & mask
        while keys[slot] != _EMPTY and keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _allocate(self, slots: int) -> None:
        self._slots = slots
        self._keys = array("Q", bytes(8 * slots))
        self._values = array("q", bytes(8 * slots))

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._allocate(2 * self._slots)
        for key, value in zip(keys, values, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot] = key
                self._values[slot] = value


class SeenKeys:
    """A set of strings in the memory of a `KeyIndex`."""

    def __init__(self) -> None:
        self._index = KeyIndex()

    def add(self, key: str) -> None:
        self._index.put(hash(key), 0)

    def __contains__(self, key: object) -> bool:
        return self._index.get(hash(key)) is not None


class FirstRows:
    """Where each prompt id was seen first."""

    def __init__(self) -> None:
        self._index = KeyIndex()

    def note(self, prompt_id: str, row: int) -> int | None:
        """Remember an id's row; the earlier row if it was seen before."""
        key = hash(prompt_id)
        earlier = self._index.get(key)
        if earlier is None:
            self._index.put(key, row)
        return earlier


class DerivedIds:
    """
    Names for rows that have none: a hash of what the row asks for, as the row gives it.

    Equal rows are separate wishes: `row_…`, `row_…-2`, `row_…-3`. The order of rows and the
    batch's settings do not matter.
    """

    def __init__(self) -> None:
        self._seen = KeyIndex()

    def name(self, asked: Iterable[tuple[str, object]]) -> str:
        """The next name for a row with these ``(column, value)`` pairs; None is no value."""
        given = {column: value for column, value in asked if value is not None}
        text = json.dumps(given, sort_keys=True)
        digest = hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        occurrence = (self._seen.get(key) or 0) + 1
        self._seen.put(key, occurrence)
        return f"row_{digest.hex()}" + (f"-{occurrence}" if occurrence > 1 else "")


def fill_ids(
    given: Sequence[str | None], asked: dict[str, Sequence[object]], derived: DerivedIds
) -> list[str]:
    """The rows' names: the given ones, and derived ones where there is none."""
    columns = list(asked)
    values = zip(*asked.values(), strict=True)
    return [
        derived.name(zip(columns, row, strict=True)) if name is None else name
        for name, row in zip(given, values, strict=True)
    ]
