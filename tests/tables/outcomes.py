"""What came of images, and the rows that tell of them."""

from mynth_dagster.models.batch import Slice
from mynth_dagster.models.task import Fault, ImageOutcome
from mynth_dagster.tables.requests import iter_planned_batches
from mynth_dagster.tables.store import TableStore

NOW_US = 1_795_000_100_000_000
SLICE = Slice()


def image(index: int, **facts) -> ImageOutcome:
    return ImageOutcome(index, f"img_{index}", f"https://cdn/{index}.webp", **facts)


def failed(index: int, code: str = "RESTRICTED_CONTENT") -> ImageOutcome:
    return ImageOutcome(index, fault=Fault(code))


def rows_of(store: TableStore, table: str) -> list[dict]:
    return [row for batch in store.iter_batches(table, SLICE) for row in batch.to_pylist()]


def iter_planned_rows(store, slice_, *, batch):
    """The good rows of a prompt table, a bounded number at a time."""
    batches = iter_planned_batches(store, slice_, batch=batch)
    return (planned.rows(range(len(planned.request_keys))) for planned in batches)
