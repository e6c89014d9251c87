"""What identifies a wish, for ever: golden values, and laws of the tag."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.limits import INTENT_TAG_MAX_BYTES
from mynth_dagster.models.batch import batch_of, follow_up_name
from mynth_dagster.models.intent import (
    RowKey,
    choose_current,
    choose_shown,
    intent_id,
    make_tag,
    new_ledger_id,
    parse_tag,
    shard_of,
)
from mynth_dagster.models.request import (
    FollowUpKind,
    InputImage,
    Rating,
    RatingLevel,
    Routing,
    RowRequest,
    hash_version,
    request_hash,
)
from mynth_dagster.models.transitions import IntentState
from tests.factories import LEDGER_ID, make_intent

FULL = RowRequest(
    prompt="ein Drachen, é 凧 🪁",
    negative_prompt="rain",
    model="m/x",
    size="16:9_4k",
    count=3,
    inputs=(InputImage("https://x/y.png", role="source"), InputImage("u", identity="sha:1")),
    output_format="png",
    output_quality=90,
    enhance="magic",
    rating=Rating((RatingLevel("a", "b"), RatingLevel("c", "d"))),
)

GOLDEN_PLAIN = "1:289d6b72f5ead769a789696ccdfd2c99"
GOLDEN_FULL = "1:1bd6f2492dcee0a7f321bf9271521618"
GOLDEN_INTENT = "int_qp22vcpkwxpfwdmspeg7pnbn5n"
GOLDEN_SHARDS = [4, 1, 4, 7, 2, 2, 5, 7, 4, 2, 0, 3]


def test_hashes_of_the_first_version_never_change():
    """An upgrade must never pay for a table again: these values are for ever."""
    assert request_hash(RowRequest("a red kite"), 1) == GOLDEN_PLAIN
    assert request_hash(FULL, 1) == GOLDEN_FULL


@pytest.mark.parametrize(
    "changed",
    [
        replace(FULL, prompt="b"),
        replace(FULL, negative_prompt=None),
        replace(FULL, model="m/y"),
        replace(FULL, size=None),
        replace(FULL, count=1),
        replace(FULL, inputs=FULL.inputs[::-1]),
        replace(FULL, inputs=(InputImage("https://x/y.png"), FULL.inputs[1])),
        replace(FULL, output_format=None),
        replace(FULL, output_quality=None),
        replace(FULL, enhance="native"),
        replace(FULL, rating=Rating()),
        replace(FULL, rating=None),
    ],
)
def test_what_changes_pixels_is_another_request(changed):
    """Every field that an image depends on is covered."""
    assert request_hash(changed) != request_hash(FULL)


@pytest.mark.parametrize(
    "same",
    [
        replace(FULL, routing=Routing('{"a":1}', "bucket", ("https://x",), with_token=True)),
        replace(FULL, inputs=(FULL.inputs[0], InputImage("another-url", identity="sha:1"))),
    ],
)
def test_what_does_not_change_pixels_is_the_same_request(same):
    """Metadata, destinations, webhooks, tokens, and where a known file was uploaded to."""
    assert request_hash(same) == request_hash(FULL)


def test_a_stored_hash_tells_its_version():
    """Stored hashes are compared by the function of their own version."""
    assert hash_version(request_hash(FULL)) == 1
    with pytest.raises(KeyError):
        request_hash(FULL, 2)


def test_an_intent_is_named_by_ledger_row_and_generation():
    """A ledger that is rebuilt under its id names the same intents."""
    row = RowKey("b", "2026-11-22", "p1")

    assert intent_id(LEDGER_ID, row, 1) == GOLDEN_INTENT
    others = {
        intent_id("led_b", row, 1),
        intent_id(LEDGER_ID, row, 2),
        intent_id(LEDGER_ID, replace(row, batch="b2"), 1),
        intent_id(LEDGER_ID, RowKey("b2026-11-22", "", "p1"), 1),
    }
    assert GOLDEN_INTENT not in others
    assert len(others) == 4


KEYS = st.text(max_size=30)


@given(KEYS, KEYS, KEYS, st.integers(1, 99))
def test_a_tag_goes_round_and_fits(batch, window, key, generation):
    """At most 80 bytes of ASCII, and read back as what it was."""
    stored = request_hash(RowRequest(key))
    tag = make_tag(intent_id(LEDGER_ID, RowKey(batch, window, key), generation), stored, LEDGER_ID)

    assert len(str(tag).encode("ascii")) <= INTENT_TAG_MAX_BYTES
    assert parse_tag(str(tag)) == tag
    assert tag.matches(stored)
    assert not tag.matches(request_hash(RowRequest(key + "x")))


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "int_a.b", "int_a.b.c", "x.b.led_c", "int_a.b.led_c.d", "int_a.b.led_" * 9],
)
def test_a_value_that_is_no_tag_is_none(value):
    """Others' metadata under our key proves nothing."""
    assert parse_tag(value) is None


def test_a_ledger_id_is_short_and_random():
    """Twelve characters of what it is given."""
    assert new_ledger_id(bytes(16)) == "led_aaaaaaaaaaaa"
    assert len(new_ledger_id(b"\xff" * 16)) == 16


def test_a_shard_is_stable():
    """The same row is in the same shard on every machine and for ever."""
    assert [shard_of(f"p{n}", 8) for n in range(12)] == GOLDEN_SHARDS


def test_the_newest_with_the_rows_hash_counts_and_the_newest_that_delivered_is_shown():
    """A repeat that failed does not hide the image that is there."""
    first = make_intent(state=IntentState.COMPLETED)
    again = make_intent(state=IntentState.FAILED, generation=2)
    edited = make_intent(state=IntentState.COMPLETED, generation=3, request_hash="1:other")
    known = [edited, first, again]

    assert choose_current(known, first.request_hash) is again
    assert choose_shown(known, first.request_hash) is first
    assert choose_current(known, "1:nobody") is None
    assert choose_shown([again], first.request_hash) is again


@pytest.mark.parametrize("name", ["cats", "team/cats", "team/2026"])
def test_the_name_of_a_follow_up_tells_its_batch(name):
    """Whatever the batch is called; its own name tells itself."""
    assert batch_of(name) == name
    assert {batch_of(follow_up_name(name, kind)) for kind in FollowUpKind} == {name}
