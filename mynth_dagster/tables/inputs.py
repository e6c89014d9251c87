"""
The files that rows start from: found, read and judged before anything is spent.

An input is a file where it is no http, https or data URL: a local path, or a URL of any other
fsspec file system. Relative paths start at the folder of the prompt table, or at the batch's
`inputs_root`, which then is also the fence: nothing outside is read.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem

from mynth_dagster.limits import INPUT_FILES_AT_ONCE, INPUT_FILES_REMEMBERED, RevisionLimits
from mynth_dagster.models.request import file_identity, key_identity
from mynth_dagster.tables.columns import SourceRows
from mynth_dagster.tables.image_header import header_of
from mynth_dagster.tables.parquet import open_file_system, reason_of
from mynth_dagster.tables.rules import is_blank, is_url
from mynth_dagster.tables.schemas import INPUTS_TYPE

_LOCAL_SCHEMES = frozenset({"", "file", "local"})


@dataclass(frozen=True)
class BadInput:
    """Why a file cannot be sent along."""

    code: str
    message: str


@dataclass(frozen=True)
class InputFile:
    """
    One file that may be uploaded.

    Args:
        path: Where it lies, complete: any process can read it there.
        content_hash: SHA-256, hex.
        media_type: By its magic bytes, whatever its name says.
    """

    path: str
    content_hash: str
    media_type: str
    n_bytes: int
    width: int
    height: int


class InputFiles:
    """
    The files of one table.

    Args:
        limits: Of the API revision in use.
        folder: Where relative paths start, any fsspec URL; None: they cannot be told.
        fence: Only files below this folder are read; relative paths start there. None: no fence.
    """

    def __init__(
        self, limits: RevisionLimits, folder: str | None, fence: str | None = None
    ) -> None:
        self._limits = limits
        self._folder = fence or folder
        self._fence: tuple[Any, str] | None = None
        if fence is not None:
            fs, place = open_file_system(fence)
            self._fence = fs, _resolved(fs, place)
        self._seen: OrderedDict[str, InputFile | BadInput] = OrderedDict()

    def judge(self, paths: Iterable[str]) -> dict[str, InputFile | BadInput]:
        """Look at files, each once; many at a time."""
        wanted = dict.fromkeys(paths)
        judged = {path: self._seen[path] for path in wanted if path in self._seen}
        new = [path for path in wanted if path not in judged]
        if new:
            with ThreadPoolExecutor(min(INPUT_FILES_AT_ONCE, len(new))) as pool:
                judged |= dict(zip(new, pool.map(self._judge, new), strict=True))
        self._seen |= judged
        while len(self._seen) > INPUT_FILES_REMEMBERED:
            self._seen.popitem(last=False)
        return judged

    def _judge(self, path: str) -> InputFile | BadInput:
        if "://" not in path and not os.path.isabs(path):  # noqa: PTH117 - it may be remote
            if self._folder is None:
                message = f"{path!r} is relative, and the table has no folder: set inputs_root"
                return BadInput("input_not_found", message)
            path = f"{self._folder.rstrip('/')}/{path}"
        try:
            place = path if self._fence is None else self._inside(path)
            if place is None:
                return BadInput("input_outside_root", f"{path!r} is not below inputs_root")
            # Local paths from the root of the file system, URLs as they are given.
            is_local = urlsplit(place).scheme in _LOCAL_SCHEMES
            full_path = str(open_file_system(place)[1]) if is_local else place
            content = _read(full_path, self._limits.upload_file_max_bytes)
        except FileNotFoundError:
            return BadInput("input_not_found", f"there is no file {path!r}")
        except Exception as error:  # noqa: BLE001 - every file system fails in its own way
            return BadInput("input_unreadable", f"{path!r} cannot be read: {reason_of(error)}")
        return judge_content(full_path, content, self._limits)

    def _inside(self, path: str) -> str | None:
        """The path without links and steps upwards, if it lies below the fence; nothing is read."""
        assert self._fence is not None
        fs, fence = self._fence
        is_local = isinstance(fs, LocalFileSystem)
        protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        if "::" in path or urlsplit(path).scheme not in (_LOCAL_SCHEMES if is_local else protocols):
            return None
        place = _resolved(fs, open_file_system(path)[1])
        if not place.startswith(fence.rstrip("/") + "/"):
            return None
        return place if is_local else path


def read_input(path: str, content_hash: str, limits: RevisionLimits) -> bytes | BadInput:
    """The content of a file that was judged before, if it is the same still."""
    try:
        content = _read(path, limits.upload_file_max_bytes)
    except FileNotFoundError:
        return BadInput("input_not_found", f"there is no file {path!r} any more")
    except Exception as error:  # noqa: BLE001 - every file system fails in its own way
        return BadInput("input_unreadable", f"{path!r} cannot be read: {reason_of(error)}")
    if hashlib.sha256(content).hexdigest() != content_hash:
        return BadInput("input_changed", f"{path!r} was changed: materialize prompts again")
    return content


def judge_content(path: str, content: bytes, limits: RevisionLimits) -> InputFile | BadInput:
    """Whether a file's bytes are an image that the revision takes."""
    least, most = limits.upload_file_min_bytes, limits.upload_file_max_bytes
    if not least <= len(content) <= most:
        size = f"more than {most}" if len(content) > most else str(len(content))
        message = f"{path!r} has {size} bytes, uploads take {least} to {most}"
        return BadInput("input_size", message)
    header = header_of(content)
    if header is None or header.media_type not in limits.upload_formats:
        return BadInput("input_not_an_image", f"{path!r} is no sound JPEG, PNG or WebP file")
    digest = hashlib.sha256(content).hexdigest()
    return InputFile(path, digest, header.media_type, len(content), header.width, header.height)


def _read(path: str, most: int) -> bytes:
    """All of a file, or one byte more than may be sent; nobody waits for a pipe."""
    fs, place = open_file_system(path)
    if isinstance(fs, LocalFileSystem) and Path(place).exists() and not Path(place).is_file():
        raise OSError("it is no regular file")
    with fs.open(place, "rb") as file:
        content: bytes = file.read(most + 1)
    return content


def _resolved(fs: Any, place: str) -> str:
    return os.path.realpath(place) if isinstance(fs, LocalFileSystem) else posixpath.normpath(place)


# The inputs of a batch of rows: which are files, and what stands for the content of each.


Inputs = list[dict[str, str | None]]


def identify_inputs(rows: SourceRows, files: InputFiles) -> None:
    """
    Give each input that is a file its full path and its content's hash.

    A row with a file that cannot be sent along becomes unreadable, and no other with it.
    A row's `input_key` stands for the content of its URLs.
    """
    column, keys = rows.columns.get("inputs"), rows.columns.pop("input_key", None)
    if column is None:
        return
    urls = pc.struct_field(pc.list_flatten(column), "url")
    is_path = pc.invert(pc.or_(is_url(urls), is_blank(urls)))
    has_keys = keys is not None and keys.null_count < len(keys)
    if not (is_path.true_count or has_keys):
        return
    judged = files.judge(pc.unique(urls.filter(is_path)).to_pylist())
    of_rows: list[Inputs | None] = column.to_pylist()
    names: list[str | None] = [None] * rows.n_rows if keys is None else keys.to_pylist()
    for row, inputs in enumerate(of_rows):
        for index, item in enumerate(inputs or ()):
            file = judged.get(item["url"] or "")
            if isinstance(file, BadInput):
                rows.refuse(row, "inputs", file.code, f"input {index}: {file.message}")
                of_rows[row] = None
                break
            if file is not None:
                item["url"], item["identity"] = file.path, file_identity(file.content_hash)
            elif (key := names[row]) is not None:
                item["identity"] = key_identity(key, index)
    rows.columns["inputs"] = pa.array(of_rows, INPUTS_TYPE)


def for_naming(inputs: Inputs | None) -> list[dict[str, str | None]] | None:
    """
    A row's inputs as its derived name has them: as the row gives them, whatever is in the files.

    A file that is edited is then another request of the same row, and one that is missing leaves
    the row its name.
    """
    if inputs is None:
        return None
    return [{"url": item["url"], "role": item["role"]} for item in inputs]
