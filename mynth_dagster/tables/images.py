"""
Where the files of images are kept, on any fsspec file system.

Layout: `<store>/<batch>/files/<slice.path>/<intent id>-<index>.<format>`. The name is ours:
nothing of a row or a URL is in it. A file has its name only when it is whole and looked at:
in folders it is written under a temporary name and renamed, in object stores put in one piece.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.errors import ConfigError, DownloadError, MynthError, TableError
from mynth_dagster.limits import (
    PICTURE_MAX_PIXELS,
    THUMBNAIL_MAX_BYTES,
    THUMBNAIL_PX,
    UPLOAD_PART_BYTES,
)
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import KeptFile
from mynth_dagster.tables.image_header import read_header
from mynth_dagster.tables.parquet import as_table_errors, open_file_system, reason_of
from mynth_dagster.tables.results import SampleImage, add_example
from mynth_dagster.tables.store import (
    DIGEST_CHUNK_BYTES,
    FAILURES,
    IMAGES,
    VERSION_KEY,
    TableStore,
    remove_orphans,
    rename,
    temp_name,
    write_atomically,
)

if TYPE_CHECKING:
    from PIL import Image

# A file between its URL and its name: hashed as it comes, looked at when it is whole.


class TempFile:
    """A file on its way; on the local disk and under no name that anybody looks for."""

    def __init__(self, file: BinaryIO, path: str | None = None) -> None:
        self.file = file
        self.path = path
        self._digest = hashlib.sha256()
        self._n_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        self.file.write(chunk)
        self._digest.update(chunk)
        self._n_bytes += len(chunk)

    def restart(self) -> None:
        """Forget what was written."""
        self.file.seek(0)
        self.file.truncate()
        self._digest, self._n_bytes = hashlib.sha256(), 0

    def verified(self, uri: str, pixels_max: int) -> KeptFile:
        """
        What it is, to be known as `uri` with its format at the end.

        Raises:
            DownloadError: It is no picture that may be kept.
        """
        self.file.flush()
        header = read_header(self.file)
        if header.n_pixels > pixels_max:
            message = f"{header.width} by {header.height} pixels are more than {pixels_max}"
            raise DownloadError("too_many_pixels", message)
        return KeptFile(
            uri=f"{uri}.{header.format}",
            n_bytes=self._n_bytes,
            sha256=self._digest.hexdigest(),
            format=header.format,
            width=header.width,
            height=header.height,
        )


FOLDER = "files"

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss"})
"""Protocols whose writes are seen whole or not at all."""

_NAME = re.compile(r"(int_[0-9a-z]+-\d+)\.(?:png|jpg|webp)")


@dataclass(frozen=True)
class ImageStore:
    """The files of one batch; every method raises `TableError` for what the store does."""

    tables: TableStore

    def uri(self, slice_: Slice) -> str:
        """The folder of one partition, as its readers spell it."""
        return self._spelled(self._folder(slice_))

    def found(self, slice_: Slice) -> dict[str, str]:
        """Files that have their names, as stem and path; asked of the store, not of a cache."""
        folder = self._folder(slice_)
        with self._as_errors(folder, "cannot look for files"):
            if not self.tables.fs.isdir(folder):
                return {}
            paths = self.tables.fs.ls(folder, detail=False, refresh=True)
        names = [_NAME.fullmatch(posixpath.basename(path)) for path in paths]
        return {name[1]: path for name, path in zip(names, paths, strict=True) if name}

    def adopt(self, path: str, pixels_max: int) -> KeptFile:
        """
        What a file is that has its name but is not in the ledger.

        Raises:
            DownloadError: It is no picture that may be kept.
        """
        with (
            self._as_errors(path, "cannot read the file"),
            self.tables.fs.open(path, "rb") as source,
            tempfile.TemporaryFile() as room,
        ):
            temp = TempFile(cast("BinaryIO", room))
            while chunk := source.read(DIGEST_CHUNK_BYTES):
                temp.write(chunk)
            return temp.verified(self._spelled(posixpath.splitext(path)[0]), pixels_max)

    @contextmanager
    def temp_file(self, slice_: Slice) -> Iterator[TempFile]:
        """Room for a file; gone afterwards, unless it was published."""
        if not self.tables.is_local:
            with self._as_errors("a temporary file", "cannot be made"):
                room = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; nobody can see it
            with _closing(cast("BinaryIO", room)) as file:
                yield TempFile(file)
            return
        folder = self._folder(slice_)
        path = posixpath.join(folder, temp_name())
        with self._as_errors(path, "cannot make the file"):
            self.tables.fs.makedirs(folder, exist_ok=True)
            file = open(path, "w+b")  # noqa: SIM115, PTH123 - closed below; paths are fsspec's
        try:
            with _closing(file):
                yield TempFile(file, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - as above

    def write(self, temp: TempFile, chunk: bytes) -> None:
        """Add bytes to a file on its way."""
        with self._as_errors(temp.path or "a temporary file", "cannot write the file"):
            temp.write(chunk)

    def verified(self, temp: TempFile, slice_: Slice, stem: str, pixels_max: int) -> KeptFile:
        """
        What a file on its way is, and where it will be.

        Raises:
            DownloadError: It is no picture that may be kept.
        """
        with self._as_errors(temp.path or "a temporary file", "cannot read the file"):
            uri = self._spelled(posixpath.join(self._folder(slice_), stem))
            return temp.verified(uri, pixels_max)

    def publish(self, temp: TempFile, slice_: Slice, stem: str, kept: KeptFile) -> None:
        """Give a verified file its name."""
        final = posixpath.join(self._folder(slice_), f"{stem}.{kept.format}")
        with self._as_errors(final, "cannot keep the file"):
            if temp.path is not None:
                rename(self.tables.fs, temp.path, final)
                return
            temp.file.seek(0)
            self._put(temp.file, final)

    def remove_orphans(self, slice_: Slice) -> None:
        """Remove temporary files that dead processes of this machine left in this folder."""
        if not self._is_object_store:
            remove_orphans(self.tables.fs, self._folder(slice_))

    def _put(self, source: BinaryIO, final: str) -> None:
        fs = self.tables.fs
        if self._is_object_store:
            _copy(fs, source, final)
            return
        folder = posixpath.dirname(final)
        temp = posixpath.join(folder, temp_name())
        fs.makedirs(folder, exist_ok=True)
        try:
            _copy(fs, source, temp)
            rename(fs, temp, final)
        except BaseException:
            with suppress(Exception):
                fs.rm_file(temp)
            raise

    @property
    def _is_object_store(self) -> bool:
        protocol = self.tables.fs.protocol
        return not _OBJECT_STORES.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    def _folder(self, slice_: Slice) -> str:
        return self.tables.folder(FOLDER, slice_)

    def _spelled(self, path: str) -> str:
        return path if self.tables.is_local else str(self.tables.fs.unstrip_protocol(path))

    @contextmanager
    def _as_errors(self, path: str, doing: str) -> Iterator[None]:
        try:
            yield
        except MynthError:
            raise
        except Exception as error:
            # A store of somebody else's fails in classes of its own.
            raise TableError(path, f"{doing}: {reason_of(error)}") from error


def open_image_store(place: str, batch_name: str) -> ImageStore:
    """
    The files of a batch under a folder or fsspec URL.

    Raises:
        ConfigError: It is no such URL, or its file system is not installed.
    """
    tables = TableStore(place, batch_name)
    try:
        _ = tables.fs
    except (ValueError, OSError) as error:
        raise ConfigError("files.store", reason_of(error)) from error
    return ImageStore(tables)


def read_file(uri: str) -> bytes | None:
    """The bytes of a kept file, None where it cannot be had."""
    fs, path = open_file_system(uri)
    try:
        content: bytes = fs.cat_file(path)
    except Exception:  # noqa: BLE001 - a store of somebody else's fails in classes of its own
        return None
    return content


def stem_of(intent_id: str, image_index: int) -> str:
    """A file's name without its format."""
    return f"{intent_id}-{image_index}"


@contextmanager
def _closing(file: BinaryIO) -> Iterator[BinaryIO]:
    """What cannot be written any more was told already, or is not wanted."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _copy(fs: Any, source: BinaryIO, path: str) -> None:
    """All or nothing: an fsspec file that is closed, or forgotten, is written as far as it came."""
    sink = fs.open(path, "wb", block_size=UPLOAD_PART_BYTES)
    try:
        shutil.copyfileobj(source, sink, DIGEST_CHUNK_BYTES)
    except BaseException:
        with suppress(Exception):
            sink.discard()
            sink.closed = True
        raise
    sink.close()


# What the tables of a partition tell of the files of its images.


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


# Small pictures of results, kept beside the tables.
#
# Layout: `<root>/<batch>/_thumbnails/<slice.path>/<intent id>-<index>.webp`; readers of tables skip
# names that begin with `_`. The name is ours: nothing of a row or a URL is in it.


THUMBNAIL_FOLDER = "_thumbnails"

_FORMATS = ("PNG", "JPEG", "WEBP")
_QUALITIES = (70, 55, 40, 25, 10)
_STRIP_HEIGHTS_PX = (96, 80, 64, 56, 48, 40, 32, 24)
_STRIP_QUALITIES = (40, 20, 10, 5)
_BEST_METHOD = 6


@dataclass(frozen=True)
class ThumbnailStore:
    """The thumbnails of one batch."""

    tables: TableStore

    def read(self, slice_: Slice, image: SampleImage) -> bytes | None:
        """
        The thumbnail of an image, None where there is none yet.

        Raises:
            TableError: The store cannot be read.
        """
        path = self._path(slice_, image)
        with as_table_errors(path, "cannot read the thumbnail"):
            if not self.tables.fs.isfile(path):
                return None
            content: bytes = self.tables.fs.cat_file(path)
        return content

    def write(self, slice_: Slice, image: SampleImage, content: bytes) -> None:
        """
        Keep a thumbnail: under a temporary name first, so that none is ever half there.

        Raises:
            TableError: The store cannot be written.
        """
        path = self._path(slice_, image)
        with as_table_errors(path, "cannot write the thumbnail"):
            write_atomically(self.tables.fs, path, content)

    def _path(self, slice_: Slice, image: SampleImage) -> str:
        name = f"{image.intent_id}-{image.image_index}.webp"
        return f"{self.tables.folder(THUMBNAIL_FOLDER, slice_)}/{name}"


def draw_thumbnail(content: bytes) -> bytes | None:
    """
    A WebP file of at most `THUMBNAIL_PX` and `THUMBNAIL_MAX_BYTES`.

    None for what is no PNG, JPEG or WebP by its first bytes, is broken, or has more than
    `PICTURE_MAX_PIXELS`.
    """
    picture = _opened(content)
    if picture is None:
        return None
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    for quality in _QUALITIES:
        drawn = _encoded(picture, quality)
        if len(drawn) <= THUMBNAIL_MAX_BYTES:
            return drawn
    return None


def draw_strip(thumbnails: Sequence[bytes], bytes_max: int) -> bytes | None:
    """
    Some thumbnails side by side as one WebP file of at most `bytes_max`.

    As high and as good as fits; None where nothing does.
    """
    pictures = [picture for picture in map(_opened, thumbnails) if picture is not None]
    for height in _STRIP_HEIGHTS_PX if pictures else ():
        strip = _side_by_side(pictures, height)
        for quality in _STRIP_QUALITIES:
            drawn = _encoded(strip, quality)
            if len(drawn) <= bytes_max:
                return drawn
    return None


def _opened(content: bytes) -> Image.Image | None:
    try:
        # Before it is opened: a decoder makes room for whatever dimensions it is told.
        if read_header(BytesIO(content)).n_pixels > PICTURE_MAX_PIXELS:
            return None
        from PIL import Image  # noqa: PLC0415 - an extra

        picture = Image.open(BytesIO(content), formats=_FORMATS)
        picture.draft("RGB", (THUMBNAIL_PX, THUMBNAIL_PX))  # a JPEG is decoded small at once
        return picture.convert("RGB")
    except Exception:  # noqa: BLE001 - a broken file fails in as many ways as there are decoders
        return None


def _side_by_side(pictures: Sequence[Image.Image], height: int) -> Image.Image:
    from PIL import Image  # noqa: PLC0415 - an extra

    gap = 4
    widths = [max(1, round(p.width * height / p.height)) for p in pictures]
    strip = Image.new("RGB", (sum(widths) + gap * max(0, len(widths) - 1) or 1, height), "white")
    left = 0
    for picture, width in zip(pictures, widths, strict=True):
        strip.paste(picture.resize((width, height)), (left, 0))
        left += width + gap
    return strip


def _encoded(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=_BEST_METHOD)
    return buffer.getvalue()
