"""The independent look at finished tables finds what does not add up."""

from dataclasses import replace

import pyarrow as pa
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.task import Fault, ImageOutcome
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.audit import audit_slice
from mynth_dagster.tables.results import write_results
from mynth_dagster.tables.store import FAILURES, IMAGES, staged_tables

SLICE = Slice()


@pytest.fixture
def results(write, known, store):
    """A delivered, a partial, a rejected and an unsent row."""
    rows = {"prompt_id": ["d", "p", "r", "u"], "prompt": ["a", "b", "", "c"], "count": [1, 2, 1, 1]}
    planned = {row.prompt_id: row for row in write(rows).planned()}
    image = ImageOutcome(0, url="https://u")
    known.add(planned["d"], images=[image])
    known.add(
        planned["p"],
        IntentState.PARTIAL,
        images=[image, replace(image, index=1, fault=Fault("x"))],
    )
    write_results(store, SLICE, lookup=known, version=1, now_us=0)
    return store


def rewrite(store, table: str, change) -> None:
    """Replace a table by what ``change`` makes of it."""
    batches = list(store.iter_batches(table, SLICE))
    changed = change(pa.Table.from_batches(batches))
    with staged_tables(store) as staging:
        staged = staging.open(table, SLICE, changed.schema)
        for batch in changed.to_batches():
            staged.write(batch)


def test_written_results_pass(results):
    """Tables as we write them account for every row."""
    audit = audit_slice(results, SLICE)

    assert audit.passed
    assert audit.n_rows == 4


@pytest.mark.parametrize(
    ("table", "change", "keys"),
    [
        (IMAGES, lambda rows: rows.slice(1), ("d",)),
        (IMAGES, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), ("d",)),
        (FAILURES, lambda rows: rows.slice(1), ("p",)),
        (FAILURES, lambda rows: rows.slice(0, 2), ("u",)),
        (FAILURES, lambda rows: pa.concat_tables([rows, rows.slice(1, 1)]), ("r",)),
    ],
)
def test_missing_and_doubled_rows_are_found(results, table, change, keys):
    """A row that is in no table, or twice in one, is named."""
    rewrite(results, table, change)

    audit = audit_slice(results, SLICE)

    assert not audit.passed
    assert audit.examples == tuple(f"{key}@auto" for key in keys)


def test_more_images_than_were_asked_for_pass(write, known, store):
    """They are charged and shown, each once: the blocking check must not fail for ever."""
    row = write({"prompt_id": ["d"], "prompt": ["a"], "count": [1]}).planned()[0]
    images = [ImageOutcome(0, url="https://u"), ImageOutcome(1, url="https://v")]
    known.add(row, images=[*images, ImageOutcome(2, fault=Fault("x"))])
    write_results(store, SLICE, lookup=known, version=1, now_us=0)

    assert audit_slice(store, SLICE).passed


def test_one_place_is_accounted_for_once(write, known, store):
    """An image that is also called failed makes a row of two look complete, and is found."""
    row = write({"prompt_id": ["d"], "prompt": ["a"], "count": [2]}).planned()[0]
    images = [ImageOutcome(0, url="https://u"), ImageOutcome(1, fault=Fault("x"))]
    known.add(row, IntentState.PARTIAL, images=images)
    write_results(store, SLICE, lookup=known, version=1, now_us=0)
    first = pa.array([0], pa.int32())

    def moved(rows: pa.Table) -> pa.Table:
        place = rows.schema.get_field_index("image_index")
        return rows.set_column(
            place, rows.schema.field(place), first.cast(rows.schema.types[place])
        )

    rewrite(store, FAILURES, moved)

    assert audit_slice(store, SLICE).examples == ("d@auto",)


def test_strangers_are_found(results, write):
    """Results of rows that the prompt table does not have are counted."""
    write({"prompt_id": ["d"], "prompt": ["a"]})

    assert audit_slice(results, SLICE).n_strangers > 0


def test_missing_table_is_reported(write, store):
    """An audit of tables that were never written says which is missing."""
    write({"prompt": ["a"]})

    with pytest.raises(TableError, match="images"):
        audit_slice(store, SLICE)
