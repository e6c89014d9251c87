"""
Which files of a folder, or behind a pattern, are the prompt table, and what their folders say.

Files are told by their content; what is left out is remembered by name. `key=value` folders give
columns, as every other reader of such folders has it. A folder that is more than its files (Delta,
Iceberg, Hudi, …) is refused: its log says which rows are alive, and we do not read it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import unquote

from mynth_dagster.errors import TableError, name_some
from mynth_dagster.tables.arrow_errors import FOREIGN_ERRORS

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What a folder is called whose column has no value."""

_GLOB_CHARACTERS = frozenset("*?[")
_ENDINGS = (".parquet", ".parq", ".pq")
_MAGIC = (b"PAR1", b"PARE")  # plain, and with an encrypted footer
_KEY = re.compile(r"[^=?]+=")

_FORMATS = {
    "_delta_log": (
        "a Delta table",
        "an export (DeltaTable(…).to_pyarrow_table())",
    ),
    ".hoodie": ("a Hudi table", "an export of its newest snapshot"),
    "_spark_metadata": ("the sink of a Spark stream", "an export, as Spark reads it"),
    "_versions": ("a Lance dataset", "an export (lance.dataset(…).to_table())"),
    "metadata/*.metadata.json": ("an Iceberg table", "an export (table.scan().to_arrow())"),
    "snapshot/snapshot-*": ("a Paimon table", "an export of its newest snapshot"),
}
"""What lies in a folder that is more than its files: what it is, and what to hand over instead."""


@dataclass(frozen=True)
class FoundFiles:
    """
    The files of a table, in the order of their paths.

    `left_out` are the names of files beside them that are no Parquet; hidden ones are not told.
    """

    paths: tuple[str, ...]
    left_out: tuple[str, ...] = field(default=())


def find_files(fs: Any, path: str, location: str) -> FoundFiles:
    """
    The Parquet files of a file, a folder (all levels) or a pattern.

    Raises:
        TableError: Nothing is there, or a folder that only its own format's reader can read.
    """
    _refuse_formats_above(fs, path, location)
    if fs.isfile(path):
        return FoundFiles((path,))
    if fs.isdir(path):
        return _found(fs, _below(fs, path, location), location, "the folder has no Parquet files")
    if not has_glob(path):
        _refuse(location, "there is no such file or folder")
    shown = _is_hidden_below(path, "")  # whoever names hidden files wants them
    base = next(folder for folder in _folders_up(path) if not has_glob(folder))
    matches = [m for m in sorted(fs.glob(path)) if shown or not _is_hidden_below(m, base)]
    files = (
        file
        for match in matches
        for file in (_below(fs, match, location) if fs.isdir(match) else [match])
    )
    candidates = list(dict.fromkeys(files))  # a pattern may match a folder and what is in it
    return _found(fs, candidates, location, "the pattern matches no Parquet file")


def has_glob(path: str) -> bool:
    """Whether a path is a pattern."""
    return bool(_GLOB_CHARACTERS.intersection(path))


def keys_in(path: str) -> dict[str, str | None]:
    """
    The columns that the folders of a file stand for, `lang=en/model=a%2Fb`, by name.

    Raises:
        TableError: A name or value is not UTF-8.
    """
    folders = [part for part in posixpath.dirname(path).split("/") if _KEY.match(part)]
    try:
        pairs = [[unquote(part, errors="strict") for part in key.split("=", 1)] for key in folders]
    except UnicodeDecodeError:
        raise TableError(path, "the name of a key=value folder is not UTF-8") from None
    return {name: None if value == HIVE_NULL else value for name, value in pairs}


def left_out_note(left_out: Iterable[str]) -> list[str]:
    """In words, what was not read; nothing where nothing was left out."""
    names = list(left_out)
    if not names:
        return []
    kind = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return [f"{kind} no Parquet and left out: {name_some(names)}"]


def _found(fs: Any, candidates: list[str], location: str, otherwise: str) -> FoundFiles:
    paths = [path for path in candidates if _is_parquet(fs, path)]
    chosen = set(paths)
    left_out = [posixpath.basename(path) for path in candidates if path not in chosen]
    if not paths:
        _refuse(location, "; ".join([otherwise, *left_out_note(left_out)]))
    return FoundFiles(tuple(paths), tuple(left_out))


def _below(fs: Any, folder: str, location: str) -> list[str]:
    """All files of a folder that are not hidden."""
    paths = sorted(fs.find(folder))
    _refuse_formats_below((path[len(folder.rstrip("/")) :] for path in paths), location)
    return [path for path in paths if not _is_hidden_below(path, folder)]


def _is_parquet(fs: Any, path: str) -> bool:
    """By its ending or its first bytes: Hive calls its files `000000_0`."""
    if path.lower().endswith(_ENDINGS):
        return True
    with suppress(*FOREIGN_ERRORS):
        return fs.cat_file(path, start=0, end=4) in _MAGIC
    return False


def _is_hidden_below(path: str, folder: str) -> bool:
    names = path[len(folder.rstrip("/")) :].split("/")
    return any(name.startswith(".") or (name.startswith("_") and "=" not in name) for name in names)


def _refuse_formats_below(names: Iterable[str], location: str) -> None:
    for name in names:
        for marker, (kind, instead) in _FORMATS.items():
            if _lies_in(marker, name):
                _refuse_format(location, marker, kind, instead)


def _lies_in(marker: str, name: str) -> bool:
    """Whether a path below a folder is that of a marker, or of something in it."""
    pattern = re.escape(marker).replace(r"\*", "[^/]*")
    end = "$" if "*" in marker else "/"
    return re.search(f"(^|/){pattern}{end}", name) is not None


def _refuse_formats_above(fs: Any, path: str, location: str) -> None:
    """What was named may be a part of such a table: a file, a partition, a pattern in it."""
    if path.startswith(("http:", "https:")):
        return  # nothing is listed there
    with suppress(*FOREIGN_ERRORS):
        for folder in _folders_up(path):
            for marker, (kind, instead) in _FORMATS.items():
                if _holds(fs, folder, marker):
                    _refuse_format(location, marker, kind, instead)


def _folders_up(path: str) -> Iterator[str]:
    while path.strip("/"):
        yield path.rstrip("/")
        path = posixpath.dirname(path.rstrip("/"))
    yield path


def _holds(fs: Any, folder: str, marker: str) -> bool:
    if has_glob(folder) and not fs.isdir(folder):
        return bool(fs.glob(f"{folder}/{marker}"))
    if not folder.strip("/"):
        return False
    top, _, names = marker.partition("/")
    if not fs.isdir(f"{folder}/{top}"):
        return False
    pattern = re.compile(re.escape(names).replace(r"\*", ".*"))
    listed = fs.ls(f"{folder}/{top}", detail=False) if names else []
    return not names or any(pattern.fullmatch(posixpath.basename(name)) for name in listed)


def _refuse_format(location: str, marker: str, kind: str, instead: str) -> NoReturn:
    said = f"this is {kind} (`{marker}`), whose log says which rows are alive: hand over {instead}"
    _refuse(location, f"{said}; nothing was read and nothing was sent")


def _refuse(location: str, reason: str) -> NoReturn:
    raise TableError(location, reason)
