"""What the tables of a partition tell of the files of its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.models.batch import Slice
from mynth_dagster.tables.files import FAILURES, IMAGES, VERSION_KEY, TableStore
from mynth_dagster.tables.result_counts import add_example

_COLUMNS = ("intent_id", "image_index", "task_id", "mynth_url", "url", "completed_at", "file_path")
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class UnfiledImage:
    """
    An image that was delivered and has no file yet.

    Args:
        image_index: 0-based within the request.
        urls: Where it may be fetched from; Mynth's own copy first, whatever the destination.
    """

    intent_id: str
    image_index: int
    task_id: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class FilesSummary:
    """
    The files of one partition, as its tables tell them.

    `n_bytes` is of all files together; `failed_by_code` counts failed downloads, and
    `rows_by_code` has the first of their prompt ids.
    """

    slice: Slice
    n_images: int = 0
    n_files: int = 0
    n_bytes: int = 0
    failed_by_code: dict[str, int] = field(default_factory=dict)
    rows_by_code: dict[str, list[str]] = field(default_factory=dict)

    @property
    def n_missing(self) -> int:
        return self.n_images - self.n_files


def tells_of_files(store: TableStore, slice_: Slice) -> bool:
    """Whether a table of images has the columns of files; one of an earlier release has not."""
    return "file_path" in store.read_schema(IMAGES, slice_).names


def read_unfiled(store: TableStore, slice_: Slice) -> tuple[int, pa.Table]:
    """
    The table's version, and its images without a file; about 0.4 KB a row.

    Those come first whose URLs die first.

    A URL dies so long after its image's completion, so the order is that of the completions.

    Raises:
        TableError: There is no table of images, or it cannot be read.
    """
    version = int(store.read_metadata(IMAGES, slice_).get(VERSION_KEY, "0"))
    schema = store.read_schema(IMAGES, slice_)
    wanted = pa.schema([schema.field(name) for name in _COLUMNS])
    batches = (
        batch.filter(pc.is_null(batch.column("file_path")))
        for batch in store.iter_batches(IMAGES, slice_, columns=list(_COLUMNS))
    )
    return version, pa.Table.from_batches(batches, wanted).sort_by("completed_at")


def iter_unfiled(rows: pa.Table) -> Iterator[UnfiledImage]:
    """The rows of `read_unfiled` one by one; few of them as objects at a time."""
    for batch in rows.to_batches(_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            urls = dict.fromkeys(url for url in (row["mynth_url"], row["url"]) if url)
            yield UnfiledImage(row["intent_id"], row["image_index"], row["task_id"], tuple(urls))


def summarise_files(store: TableStore, slice_: Slice) -> FilesSummary:
    """
    Count the files of a partition in its published tables.

    Raises:
        TableError: A table is missing or cannot be read.
    """
    n_images = n_files = n_bytes = 0
    for batch in store.iter_batches(IMAGES, slice_, columns=["file_bytes"]):
        sizes = batch.column("file_bytes")
        n_images += batch.num_rows
        n_files += batch.num_rows - sizes.null_count
        n_bytes += pc.sum(sizes).as_py() or 0
    failed: dict[str, int] = {}
    rows: dict[str, list[str]] = {}
    columns = ["stage", "error_code", "prompt_id"]
    for batch in store.iter_batches(FAILURES, slice_, columns=columns):
        of_downloads = batch.filter(pc.equal(batch.column("stage"), "download"))
        named = (of_downloads.column(name).to_pylist() for name in columns[1:])
        for code, prompt_id in zip(*named, strict=True):
            failed[code] = failed.get(code, 0) + 1
            add_example(rows.setdefault(code, []), prompt_id)
    return FilesSummary(slice_, n_images, n_files, n_bytes, dict(sorted(failed.items())), rows)
