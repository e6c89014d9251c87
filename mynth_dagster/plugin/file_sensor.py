"""
The file sensor: one partition for each Parquet file that appears in a folder.

The partition key is the part of the file's name in the place of `{window}`, escaped: a key may
contain no `|`, no comma and no `...`. The file's name follows from the key.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import dagster as dg
from fsspec.core import url_to_fs

from mynth_dagster.errors import ConfigError, MynthError
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.plugin.failing import tick_in_words
from mynth_dagster.tables.parquet import as_table_errors

WINDOW_FIELD = "{window}"
NEW_FILES_MAX = 100
"""Files that one tick launches; the next tick goes on."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f%|,\[\]]|\.(?=\.\.)|(?<=\.)\.(?=\.)|(?<=\.\.)\.")
_STAMPS = ("mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class PromptFolder:
    """A folder, and the names of the files in it that count: `<prefix>{window}<suffix>`."""

    folder: str
    prefix: str
    suffix: str

    @classmethod
    def of(cls, location: str) -> PromptFolder:
        """
        Make one from a location such as `s3://bucket/inbox/{window}.parquet`.

        Raises:
            ConfigError: The window is not a part of the file's name.
        """
        folder, _, name = location.rpartition("/")
        if name.count(WINDOW_FIELD) != 1 or WINDOW_FIELD in folder:
            reason = f"{location!r}: the file's name must hold {WINDOW_FIELD}, as in inbox/"
            raise ConfigError("prompts", f"{reason}{WINDOW_FIELD}.parquet")
        prefix, _, suffix = name.partition(WINDOW_FIELD)
        return cls(folder or ".", prefix, suffix)

    def location(self, key: str) -> str:
        """The file of a partition."""
        return f"{self.folder}/{self.prefix}{name_of(key)}{self.suffix}"

    def files(self) -> dict[str, str]:
        """
        List the files: partition key -> when it was last changed, sorted by that.

        Raises:
            TableError: The folder cannot be read.
        """
        with as_table_errors(self.folder, "cannot read the folder"):
            fs, path = url_to_fs(self.folder)
            fs.invalidate_cache()
            listed = fs.ls(path, detail=True) if fs.exists(path) else []
        found = {}
        for entry in listed:
            name = posixpath.basename(str(entry["name"]).rstrip("/"))
            middle = self._middle(name)
            if entry["type"] == "file" and middle and not name.startswith((".", "_")):
                found[key_of(middle)] = _stamp(entry)
        return dict(sorted(found.items(), key=lambda pair: (pair[1], pair[0])))

    def _middle(self, name: str) -> str:
        fits = name.startswith(self.prefix) and name.endswith(self.suffix)
        end = len(name) - len(self.suffix)
        return name[len(self.prefix) : end] if fits and end > len(self.prefix) else ""


def key_of(name: str) -> str:
    """Return the partition key of a file's name; different names have different keys."""
    return _UNSAFE.sub(lambda found: _escaped(found[0]), name)


def name_of(key: str) -> str:
    """Return the name of a key; the inverse of `key_of`."""
    return unquote(key)


def _escaped(char: str) -> str:
    return "%2E" if char == "." else quote(char, safe="")


def _stamp(entry: Mapping[str, Any]) -> str:
    """Return when a file was changed, in a form that sorts; empty if the store has no time."""
    stamp = next((entry[name] for name in _STAMPS if entry.get(name) is not None), "")
    if isinstance(stamp, datetime):
        return f"{stamp.timestamp():020.6f}"
    return f"{stamp:020.6f}" if isinstance(stamp, float | int) else str(stamp)


def build_file_sensor(
    assets: BatchAssets, folder: PromptFolder, *, job: str
) -> dg.SensorDefinition:
    """Build the sensor `<batch>_new_files`; off by default, since it leads to spending."""

    @dg.sensor(
        name=f"{assets.batch.name}_new_files",
        job_name=job,
        minimum_interval_seconds=assets.batch.delivery.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Adds a partition for each new file in {folder.folder} and runs {job} for it; "
        "again when a file changes.",
        owners=list(assets.execution.owners) or None,
    )
    def files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return evaluate(context, assets, folder)

    return files


def evaluate(
    context: dg.SensorEvaluationContext, assets: BatchAssets, folder: PromptFolder
) -> dg.SensorResult:
    """Evaluate one tick: new and changed files, the oldest first."""
    windows = assets.partitions.windows
    assert isinstance(windows, dg.DynamicPartitionsDefinition)
    try:
        files = _with_keys(context, assets, folder.files())
    except MynthError as error:
        return dg.SensorResult(skip_reason=tick_in_words(error))
    known = set(context.instance.get_dynamic_partitions(str(windows.name)))
    seen = _seen(context.cursor)
    news = [key for key, stamp in files.items() if seen.get(key) != stamp or key not in known]
    now, new = news[:NEW_FILES_MAX], [key for key in news[:NEW_FILES_MAX] if key not in known]
    kept = {key: stamp for key, stamp in seen.items() if key in files}
    cursor = {**kept, **{key: files[key] for key in now}}
    return dg.SensorResult(
        run_requests=[_request(assets, key, files[key]) for key in now] or None,
        dynamic_partitions_requests=[windows.build_add_request(new)] if new else None,
        skip_reason=None if now else f"{len(files)} files, {len(news)} new or changed",
        cursor=json.dumps(cursor),
    )


def _with_keys(
    context: dg.SensorEvaluationContext, assets: BatchAssets, files: Mapping[str, str]
) -> dict[str, str]:
    """Return the files whose names can be partition keys; the others are skipped and logged."""
    found = {}
    for key, stamp in files.items():
        try:
            assets.batch.slice(key)
        except ConfigError as error:  # noqa: PERF203 - each name fails alone
            context.log.warning(f"a file is left out: {error}")
        else:
            found[key] = stamp
    return found


def _request(assets: BatchAssets, key: str, stamp: str) -> dg.RunRequest:
    slices: Sequence[Any] = assets.batch.slices(key)
    run_key = f"{key}@{stamp}"
    if len(slices) == 1:
        return dg.RunRequest(run_key=run_key, partition_key=slices[0].key)
    return dg.RunRequest(run_key=run_key, tags=assets.partitions.range_tags(slices))


def _seen(cursor: str | None) -> dict[str, str]:
    """Return what the last tick saw; with an unreadable cursor nothing, and run keys protect."""
    try:
        seen = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return {str(key): str(stamp) for key, stamp in seen.items()} if isinstance(seen, dict) else {}
