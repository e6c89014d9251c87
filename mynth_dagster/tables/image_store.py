"""
Where the files of images are kept, on any fsspec file system.

Layout: `<store>/<batch>/files/<slice.path>/<intent id>-<index>.<format>`. The name is ours:
nothing of a row or a URL is in it. A file has its name only when it is whole and looked at:
in folders it is written under a temporary name and renamed, in object stores put in one piece.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from fsspec.core import url_to_fs

from mynth_dagster.errors import ConfigError, MynthError, TableError
from mynth_dagster.limits import UPLOAD_PART_BYTES
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import KeptFile
from mynth_dagster.tables.arrow_errors import reason_of
from mynth_dagster.tables.files import TableStore
from mynth_dagster.tables.passing_file import PassingFile
from mynth_dagster.tables.staging import DIGEST_CHUNK_BYTES, is_orphan, sync, temp_name

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
            passing = PassingFile(cast("BinaryIO", room))
            while chunk := source.read(DIGEST_CHUNK_BYTES):
                passing.write(chunk)
            return passing.verified(self._spelled(posixpath.splitext(path)[0]), pixels_max)

    @contextmanager
    def passing(self, slice_: Slice) -> Iterator[PassingFile]:
        """Room for a file; gone afterwards, unless it was published."""
        if not self.tables.is_local:
            with self._as_errors("a temporary file", "cannot be made"):
                room = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; nobody can see it
            with _closing(cast("BinaryIO", room)) as file:
                yield PassingFile(file)
            return
        folder = self._folder(slice_)
        path = posixpath.join(folder, temp_name())
        with self._as_errors(path, "cannot make the file"):
            self.tables.fs.makedirs(folder, exist_ok=True)
            file = open(path, "w+b")  # noqa: SIM115, PTH123 - closed below; paths are fsspec's
        try:
            with _closing(file):
                yield PassingFile(file, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - as above

    def write(self, passing: PassingFile, chunk: bytes) -> None:
        """Add bytes to a file on its way."""
        with self._as_errors(passing.path or "a temporary file", "cannot write the file"):
            passing.write(chunk)

    def verified(self, passing: PassingFile, slice_: Slice, stem: str, pixels_max: int) -> KeptFile:
        """
        What a file on its way is, and where it will be.

        Raises:
            DownloadError: It is no picture that may be kept.
        """
        with self._as_errors(passing.path or "a temporary file", "cannot read the file"):
            uri = self._spelled(posixpath.join(self._folder(slice_), stem))
            return passing.verified(uri, pixels_max)

    def publish(self, passing: PassingFile, slice_: Slice, stem: str, kept: KeptFile) -> None:
        """Give a verified file its name."""
        final = posixpath.join(self._folder(slice_), f"{stem}.{kept.format}")
        with self._as_errors(final, "cannot keep the file"):
            if passing.path is not None:
                sync(passing.path)
                os.replace(passing.path, final)  # noqa: PTH105 - as above
                sync(posixpath.dirname(final))
                return
            passing.file.seek(0)
            self._put(passing.file, final)

    def remove_orphans(self, slice_: Slice) -> None:
        """Remove temporary files that dead processes of this machine left in this folder."""
        if self._is_object_store:
            return
        with suppress(Exception):
            for path in self.tables.fs.ls(self._folder(slice_), detail=False):
                if is_orphan(posixpath.basename(path)):
                    self.tables.fs.rm_file(path)

    def _put(self, source: BinaryIO, final: str) -> None:
        fs = self.tables.fs
        if self._is_object_store:
            _copy(fs, source, final)
            return
        folder = posixpath.dirname(final)
        passing = posixpath.join(folder, temp_name())
        fs.makedirs(folder, exist_ok=True)
        try:
            _copy(fs, source, passing)
            fs.mv(passing, final)
        except BaseException:
            with suppress(Exception):
                fs.rm_file(passing)
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
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError("files.store", reason_of(error)) from error
    return ImageStore(tables)


def read_file(uri: str) -> bytes | None:
    """The bytes of a kept file, None where it cannot be had."""
    fs, path = url_to_fs(uri)
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
