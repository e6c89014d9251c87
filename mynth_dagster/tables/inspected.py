"""From the images of a batch to what is asked about each of them, and to its answers."""

from __future__ import annotations

from collections.abc import Iterator

from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.request import Inspection, InspectionSettings, inspection_hash
from mynth_dagster.tables.files import IMAGES, TableStore
from mynth_dagster.tables.planned import PromptRow

_IMAGE_COLUMNS = ["prompt_id", "request_key", "image_index", "intent_id", "mynth_url", "url"]


def iter_rows_to_inspect(
    store: TableStore, slice_: Slice, *, batch: Batch
) -> Iterator[list[PromptRow]]:
    """
    The images of a partition as paid looks at them, a bounded number at a time.

    Images that lie in the user's own storage only, without a URL, are left out.

    Raises:
        TableError: There is no table of images.
    """
    assert batch.inspection is not None
    for rows in store.iter_batches(IMAGES, slice_, columns=_IMAGE_COLUMNS):
        cells = zip(*(rows.column(name).to_pylist() for name in _IMAGE_COLUMNS), strict=True)
        yield [
            _row(batch.inspection, name, key, index, intent_id, mynth_url or url)
            for name, key, index, intent_id, mynth_url, url in cells
            if mynth_url or url
        ]


def inspection_key(request_key: str, image_index: int) -> str:
    """The key of an image's inspections within its window."""
    return f"{request_key}#{image_index}"


def _row(
    settings: InspectionSettings, name: str, key: str, index: int, intent_id: str, url: str
) -> PromptRow:
    subject = f"{intent_id}/{index}"
    return PromptRow(
        row_index=index,
        prompt_id=name,
        request_key=inspection_key(key, index),
        request_hash=inspection_hash(settings, subject),
        request=Inspection(settings, url, subject),
    )
