"""
The journal: a local file for responses that were paid for while the ledger cannot take them.

Each process that sends has a file of its own, filled with zeros beforehand so that a full disk
cannot refuse it, written line by line and synced. It holds ids, amounts and times, each line with a
checksum; no key, token or URL. The next process that opens the ledger replays what another one
left. The folder exists only while something is in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mynth_dagster.errors import LedgerUnavailableError

SIZE_BYTES = 1024 * 1024
SUFFIX = ".journal"
TRIES = 5
"""How often making a file is tried: another process may remove the empty folder each time."""


@dataclass(frozen=True)
class JournalEntry:
    """One paid response; money in units of 10⁻⁸ USD, times in UTC microseconds."""

    intent_id: str
    attempt: int
    task_id: str
    reserved_units: int | None
    seen_at_us: int
    deadline_at_us: int | None


class Journal:
    """
    The journal of one process, locked while it lives.

    Raises:
        LedgerUnavailableError: The folder cannot be written, or there is no room; nothing was sent.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        try:
            self._file = _made(self.path)
            _fill(self._file, SIZE_BYTES)
            _sync_folder(folder)
            _sync_folder(folder.parent)
        except OSError as error:
            raise LedgerUnavailableError(
                f"no room for answers can be set aside in {folder}: {error.strerror}. "
                "Nothing was sent. Free space, or name another folder (journal_dir)."
            ) from error
        self._end = 0

    @property
    def is_empty(self) -> bool:
        return self._end == 0

    def write(self, entries: Sequence[JournalEntry]) -> None:
        """Write entries and sync; they are safe when this returns."""
        lines = b"".join(_encode(entry) for entry in entries)
        os.pwrite(self._file, lines, self._end)
        os.fsync(self._file)
        self._end += len(lines)

    def clear(self) -> None:
        """Clear the journal: the ledger has it all now."""
        os.pwrite(self._file, bytes(self._end), 0)
        os.fsync(self._file)
        self._end = 0

    def close(self) -> None:
        """Close and remove the file, unless there is something to replay."""
        if self.is_empty:
            with suppress(OSError):
                self.path.unlink()
        os.close(self._file)


def read_left_behind(folder: Path) -> Iterator[tuple[Path, list[JournalEntry]]]:
    """Yield the journals of processes that are gone, with their entries."""
    paths: list[Path] = []
    with suppress(FileNotFoundError):  # whoever leaves takes the empty folder away
        paths = sorted(folder.glob(f"*{SUFFIX}"))
    for path in paths:
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process lives and looks after it
            yield path, list(_decode(file.read()))


def remove_if_empty(folder: Path) -> None:
    """Remove the folder, unless something is in it or it is not there."""
    with suppress(OSError):
        folder.rmdir()


def _made(path: Path, n_tries: int = TRIES) -> int:
    """Make a new file, in a folder that may vanish until the file is in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _locked(path)
    except (FileNotFoundError, FileExistsError):
        if n_tries == 1:
            raise
        return _made(path, n_tries - 1)


def _locked(path: Path) -> int:
    """
    Make a new file, locked before it has the name under which others search for left journals.

    In between it would look like the empty file of a gone process, which they delete.
    """
    unnamed = path.with_suffix(".new")
    file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    unnamed.rename(path)
    return file


def _encode(entry: JournalEntry) -> bytes:
    body = json.dumps(asdict(entry), separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode(content: bytes) -> Iterator[JournalEntry]:
    """Decode whole lines only: a line that a crash cut was never confirmed."""
    written = content.partition(b"\0")[0]
    for line in written.splitlines():
        checksum, _, body = line.partition(b" ")
        with suppress(ValueError, TypeError):
            if int(checksum, 16) == zlib.crc32(body):
                yield JournalEntry(**json.loads(body))


def _fill(file: int, n_bytes: int) -> None:
    """Write real zeros: a file that is merely long has no blocks on the disk yet."""
    os.pwrite(file, bytes(n_bytes), 0)
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
