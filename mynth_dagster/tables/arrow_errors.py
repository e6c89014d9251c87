"""The one boundary at which errors of files and Arrow become `TableError`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from mynth_dagster.errors import TableError, cut

FOREIGN_ERRORS = (
    OSError,
    pa.ArrowException,
    ValueError,  # Arrow's "invalid" and bytes that are no UTF-8 are ValueErrors
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,  # a damaged length asks for terabytes
    NotImplementedError,
    ImportError,  # the file system of a URL is an extra package
)
"""What reading a damaged file was seen to raise."""

_REASONS_BY_ERRNO = {
    errno.ENOENT: "there is no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full; nothing was replaced",
    errno.EDQUOT: "the disk quota is used up; nothing was replaced",
    errno.EFBIG: "the file would be larger than the system allows; nothing was replaced",
    errno.EISDIR: "this is a folder, not a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EMFILE: "too many open files",
}


@contextmanager
def as_table_errors(path: str, doing: str) -> Iterator[None]:
    """Whatever files and Arrow raise inside becomes a `TableError` about ``path``."""
    try:
        yield
    except FOREIGN_ERRORS as exc:
        raise TableError(path, f"{doing}: {reason_of(exc)}") from exc


def reason_of(exc: BaseException) -> str:
    """An exception of files or Arrow in one line of words."""
    if isinstance(exc, OSError) and exc.errno in _REASONS_BY_ERRNO:
        return _REASONS_BY_ERRNO[exc.errno]
    if isinstance(exc, FileNotFoundError):
        return _REASONS_BY_ERRNO[errno.ENOENT]
    if isinstance(exc, PermissionError):
        return _REASONS_BY_ERRNO[errno.EACCES]
    if "encrypt" in str(exc).lower() or "decrypt" in str(exc).lower():
        return "the file is encrypted, which is not supported"
    if isinstance(exc, MemoryError):
        return "a length in the file is out of bounds; the file is damaged"
    return cut(str(exc)) or type(exc).__name__
