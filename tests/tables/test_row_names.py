"""Names of rows: which are given twice, and what a row without one is called."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.tables.requests import DerivedIds, repeated_hashes


@given(st.lists(st.text(max_size=2), max_size=40), st.integers(1, 10))
def test_exactly_the_repeated_names_are_found(names, size):
    """Names given more than once are found over any batches, and no others."""
    starts = range(0, len(names), size)
    hashes = [pa.array(map(hash, names[n : n + size]), pa.int64()) for n in starts]

    expected = {hash(name) for name, times in Counter(names).items() if times > 1}
    assert expected == repeated_hashes(hashes)


def test_derived_names_are_frozen():
    """A derived name is the same in every release: it is what was paid for."""
    derived = DerivedIds()
    asked = [("prompt", "a kite"), ("size", None), ("count", 2)]

    assert derived.name(asked) == "row_966c5662e18ffc4e"
    assert derived.name(reversed(asked)) == "row_966c5662e18ffc4e-2"
