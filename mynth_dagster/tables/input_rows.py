"""The inputs of a batch of rows: which are files, and what stands for the content of each."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from mynth_dagster.models.request import file_identity, key_identity
from mynth_dagster.tables.input_files import BadInput, InputFile, InputFiles, is_file
from mynth_dagster.tables.normalise import SourceRows, Unreadable, is_blank_text
from mynth_dagster.tables.prompt_schema import INPUTS_TYPE

_URL = r"(?i)^(https?|data):"

Inputs = list[dict[str, str | None]]


def identify_inputs(rows: SourceRows, files: InputFiles) -> None:
    """
    Give each input that is a file its full path and its content's hash.

    A row with a file that cannot be sent along becomes unreadable, and no other with it.
    A row's `input_key` stands for the content of its URLs.
    """
    column, keys = rows.columns.get("inputs"), rows.columns.pop("input_key", None)
    if column is None or not (_has_files(column) or _has_any(keys)):
        return
    of_rows: list[Inputs | None] = column.to_pylist()
    judged = files.judge(_paths(of_rows))
    names: list[str | None] = [None] * rows.n_rows if keys is None else keys.to_pylist()
    for row, inputs in enumerate(of_rows):
        bad = _identify(inputs or [], names[row], judged)
        if bad is not None:
            rows.unreadable[row, "inputs"] = Unreadable(bad.code, bad.message)
            of_rows[row] = None
    rows.columns["inputs"] = pa.array(of_rows, INPUTS_TYPE)


def for_naming(inputs: Inputs | None) -> list[dict[str, str | None]] | None:
    """
    A row's inputs as its derived name has them: as the row gives them, whatever is in the files.

    A file that is edited is then another wish of the same row, and one that is missing leaves
    the row its name.
    """
    if inputs is None:
        return None
    return [{"url": item["url"], "role": item["role"]} for item in inputs]


def _has_any(keys: pa.Array | None) -> bool:
    return keys is not None and keys.null_count < len(keys)


def _has_files(inputs: pa.Array) -> bool:
    urls = pc.struct_field(pc.list_flatten(inputs), "url")
    is_url = pc.match_substring_regex(urls, _URL)
    return bool(pc.any(pc.invert(is_url)).as_py())


def _paths(of_rows: list[Inputs | None]) -> Iterator[str]:
    for inputs in of_rows:
        for item in inputs or ():
            url = item["url"]
            if url is not None and not is_blank_text(url) and is_file(url):
                yield url


def _identify(
    inputs: Inputs, key: str | None, judged: dict[str, InputFile | BadInput]
) -> BadInput | None:
    for index, item in enumerate(inputs):
        found = judged.get(item["url"] or "")
        if isinstance(found, BadInput):
            return BadInput(found.code, f"input {index}: {found.message}")
        if found is not None:
            item["url"], item["identity"] = found.path, file_identity(found.content_hash)
        elif key is not None:
            item["identity"] = key_identity(key, index)
    return None
