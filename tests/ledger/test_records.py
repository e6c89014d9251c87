"""Values survive the database: intents and finished tasks, whatever is in them."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.ledger.rows import (
    intent_from_row,
    intent_to_row,
    task_from_json,
    task_to_json,
)
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import Fault, ImageOutcome, Task, TaskStatus
from tests.factories import make_intent

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
UNITS = st.none() | st.integers(0, 2**63 - 1)
FAULTS = st.builds(Fault, TEXT, st.none() | TEXT)
IMAGES = st.builds(
    ImageOutcome,
    index=st.integers(0, 99),
    url=st.none() | TEXT,
    width=st.none() | st.integers(1, 9999),
    cost_units=UNITS,
    rating_level=st.none() | TEXT,
    fault=st.none() | FAULTS,
)
METADATA = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
TASKS = st.builds(
    Task,
    task_id=TEXT,
    status=st.sampled_from(TaskStatus),
    created_at_us=st.integers(0, 2**62),
    updated_at_us=st.integers(0, 2**62),
    model=st.none() | TEXT,
    images=st.lists(IMAGES, max_size=3).map(tuple),
    faults=st.lists(FAULTS, max_size=3).map(tuple),
    cost_units=UNITS,
    metadata=METADATA,
    prompt_sent=st.none() | TEXT,
)


@given(task=TASKS)
def test_a_task_survives_being_stored(task):
    """Decoding what was encoded gives the same task: no cost rounded, no text changed."""
    assert task_from_json(task_to_json(task)) == task


def test_an_intent_survives_being_stored():
    """Every field has a column."""
    intent = make_intent(
        remote_status=TaskStatus.COMPLETED, error_message="é", task_id="tsk_1", reason="r"
    )
    row = intent_to_row(intent)

    assert intent_from_row(row) == intent
    assert len(row) == len(fields(Intent)) + 2
