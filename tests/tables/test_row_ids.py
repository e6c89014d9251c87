"""Telling very many names apart in little memory."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.tables.row_ids import DerivedIds, KeyCounter, NameTally, SeenKeys


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=300))
def test_counter_counts_like_a_dictionary(keys):
    """Each count is how often the key came so far; zero and one are told apart from nothing."""
    counter, expected = KeyCounter(), Counter()
    for key in keys:
        same = key or 1  # zero marks an empty slot, so it is counted as one
        expected[same] += 1
        assert expected[same] == counter.count(key)
    assert len(expected) == len(counter)


def test_counter_grows_without_forgetting():
    """Many keys are all remembered."""
    counter = KeyCounter()
    for key in range(1, 10_000):
        counter.count(key * 1024)

    assert len(counter) == 9_999
    assert all(key * 1024 in counter for key in range(1, 10_000))
    assert 7 not in counter


def test_seen_keys_are_a_set():
    """What was added is in, and nothing else."""
    seen = SeenKeys()
    for number in range(5_000):
        seen.add(f"row-{number}")

    assert all(f"row-{number}" in seen for number in range(5_000))
    assert "row-5000" not in seen


@given(st.lists(st.text(max_size=2), max_size=40), st.integers(1, 10))
def test_tally_finds_exactly_the_repeated_names(names, size):
    """Names given more than once are found over any batches, and no others."""
    tally = NameTally()
    for start in range(0, len(names), size):
        tally.add(names[start : start + size])

    expected = {hash(name) for name, times in Counter(names).items() if times > 1}
    assert expected == tally.repeated()


def test_derived_names_are_frozen():
    """A derived name is the same in every release: it is what was paid for."""
    derived = DerivedIds()
    asked = [("prompt", "a kite"), ("size", None), ("count", 2)]

    assert derived.name(asked) == "row_966c5662e18ffc4e"
    assert derived.name(reversed(asked)) == "row_966c5662e18ffc4e-2"
