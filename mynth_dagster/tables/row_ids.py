"""Names of rows: which may be given twice, and what a row without one is called."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

_SORTED_JSON = json.JSONEncoder(sort_keys=True)
_EMPTY = 0
_START_SLOTS = 1024
_MASK_64 = (1 << 64) - 1


class KeyCounter:
    """
    How often each of very many keys was counted, in 18 to 36 bytes a key.

    Keys are told apart by 64 bits. Among a million keys, two different ones are mistaken
    for each other once in thirty million tables.
    """

    def __init__(self) -> None:
        self._n_keys = 0
        self._allocate(_START_SLOTS)

    def __len__(self) -> int:
        return self._n_keys

    def __contains__(self, key: int) -> bool:
        return self._keys[self._slot((key & _MASK_64) or 1)] != _EMPTY

    def count(self, key: int) -> int:
        """Count a key; how often it was counted, this time included."""
        key = (key & _MASK_64) or 1
        slot = self._slot(key)
        if not self._keys[slot]:
            self._keys[slot] = key
            self._n_keys += 1
        self._counts[slot] += 1
        counted = self._counts[slot]
        if self._n_keys * 3 > self._slots * 2:
            self._grow()
        return counted

    def _slot(self, key: int) -> int:
        """Where a key is, or would be: linear probing."""
        keys, mask = self._keys, self._slots - 1
        slot = key & mask
        while keys[slot] != _EMPTY and keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _allocate(self, slots: int) -> None:
        self._slots = slots
        self._keys = array("Q", bytes(8 * slots))
        self._counts = array("I", bytes(4 * slots))

    def _grow(self) -> None:
        keys, counts = self._keys, self._counts
        self._allocate(2 * self._slots)
        for key, counted in zip(keys, counts, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot] = key
                self._counts[slot] = counted


class SeenKeys:
    """A set of strings in the memory of a `KeyCounter`."""

    def __init__(self) -> None:
        self._counter = KeyCounter()

    def add(self, key: str) -> None:
        self._counter.count(hash(key))

    def __contains__(self, key: object) -> bool:
        return hash(key) in self._counter


class NameTally:
    """Which names may be given twice, in 8 bytes a name until asked."""

    def __init__(self) -> None:
        self._prints: list[pa.Array] = []

    def add(self, names: Sequence[str]) -> None:
        self._prints.append(pa.array([hash(name) for name in names], pa.int64()))

    def repeated(self) -> frozenset[int]:
        """The `hash` of each name given more than once, and hardly ever of another."""
        if not self._prints:
            return frozenset()
        prints = pa.chunked_array(self._prints).combine_chunks()
        ordered = prints.take(pc.array_sort_indices(prints))
        again = pc.equal(ordered.slice(1), ordered.slice(0, max(len(ordered) - 1, 0)))
        return frozenset(ordered.slice(1).filter(again).to_pylist())


class DerivedIds:
    """
    Names for rows that have none: a hash of what the row asks for, as the row gives it.

    Equal rows are separate wishes: `row_…`, `row_…-2`, `row_…-3`. The order of rows and the
    batch's settings do not matter.
    """

    def __init__(self) -> None:
        self._seen = KeyCounter()

    def name(self, asked: Iterable[tuple[str, object]]) -> str:
        """The next name for a row with these ``(column, value)`` pairs; None is no value."""
        given = {column: value for column, value in asked if value is not None}
        text = _SORTED_JSON.encode(given)
        digest = hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()
        key = int.from_bytes(digest, "big")
        occurrence = self._seen.count(key)
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
