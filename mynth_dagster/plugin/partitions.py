"""Conversion between Dagster's partition keys and the package's slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import dagster as dg

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch import FAN_OUT_FOLDER, Batch, Slice
from mynth_dagster.plugin.failing import in_words

PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
_DIMENSION_TAG = "dagster/partition/"
PARTITIONS_TAG = "mynth/partitions"
"""A tag on each run, for people: the list of runs hides the tags that are Dagster's own."""
PATH_KEY = "mynth/path"


def follow_range(run: dg.DagsterRun | None) -> None:
    """
    Remove the single partition from a run's tags if they also name a range.

    A backfill from a job's page puts the `dagster/partition/<dimension>` tags of its very first
    partition on each of its runs, beside the range of the run. Dagster's contexts prefer them: all
    runs would read, and record, that one partition. To be called when a resource is set up, which
    is before inputs are loaded; changes the run in this process alone, not the stored one.
    """
    tags = None if run is None else run.tags
    if isinstance(tags, dict) and RANGE_START_TAG in tags and PARTITION_TAG not in tags:
        for tag in [tag for tag in tags if tag.startswith(_DIMENSION_TAG)]:
            del tags[tag]


def range_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """
    Return the first and the last partition key that the tags of a run name, or None.

    Raises:
        ConfigError: The tags contradict each other.
    """
    start, end, key = (tags.get(tag) for tag in (RANGE_START_TAG, RANGE_END_TAG, PARTITION_TAG))
    joined = "|".join(tags[tag] for tag in sorted(tags) if tag.startswith(_DIMENSION_TAG))
    if start and end:
        if key and not start == key == end:
            raise ConfigError(
                "tags", f"they name the range {start}...{end}, and the partition {key}"
            )
        return start, end
    if key and joined and key != joined:
        reason = f"they name the partition {key}, and by its dimensions {joined}"
        raise ConfigError("tags", reason)
    only = key or joined
    return (only, only) if only else None


@dataclass(frozen=True)
class Layout:
    """Where a table's partitions lie; metadata of every asset, for its readers."""

    batch: str
    table: str
    window_dimension: str
    has_windows: bool
    has_fan_out: bool

    def to_metadata(self) -> dict[str, Any]:
        """Make the metadata of the asset's definition: where in the root its files are."""
        window = [f"{self.window_dimension}=*"] if self.has_windows else []
        fan_out = [f"{FAN_OUT_FOLDER}=*"] if self.has_fan_out else []
        return {PATH_KEY: "/".join([self.batch, self.table, *window, *fan_out, "*.parquet"])}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Layout | None:
        """Read the metadata; None for an asset that is not ours."""
        stored = metadata.get(PATH_KEY)
        text = getattr(stored, "value", stored)
        if not isinstance(text, str):
            return None
        batch, table, *folders, _ = text.split("/")
        has_fan_out = folders[-1:] == [f"{FAN_OUT_FOLDER}=*"]
        windows = folders[:-1] if has_fan_out else folders
        dimension = windows[0].removesuffix("=*") if windows else "date"
        return cls(batch, table, dimension, bool(windows), has_fan_out)

    def slice_of(self, batch: Batch, key: str) -> Slice:
        """The slice behind one of Dagster's partition keys."""
        if self.has_windows and self.has_fan_out:
            window, _, fan_out = key.partition("|")
            return batch.slice(window, fan_out)
        if self.has_windows:
            return batch.slice(window=key)
        return batch.slice(fan_out=key)


@dataclass(frozen=True)
class BatchPartitions:
    """
    The partitions of one batch: windows, times the fan-out where there is one.

    Dimension names are such that the window sorts first: `date` or `file` before `model`, `shard`.
    """

    batch: Batch
    windows: dg.PartitionsDefinition | None

    @property
    def definition(self) -> dg.PartitionsDefinition | None:
        """Dagster's partitions definition of the assets; None for an unpartitioned batch."""
        keys = self.batch.fan_out_keys
        if not keys:
            return self.windows
        fan_out = dg.StaticPartitionsDefinition(keys)
        if self.windows is None:
            return fan_out
        dimensions = {
            self.batch.window_dimension: self.windows,
            self.batch.fan_out_dimension: fan_out,
        }
        return dg.MultiPartitionsDefinition(dimensions)

    @property
    def is_product(self) -> bool:
        return self.windows is not None and bool(self.batch.fan_out_keys)

    def layout(self, table: str) -> Layout:
        """Return the layout of one of the batch's tables."""
        return Layout(
            batch=self.batch.name,
            table=table,
            window_dimension=self.batch.window_dimension,
            has_windows=self.windows is not None,
            has_fan_out=bool(self.batch.fan_out_keys),
        )

    def slice_of(self, key: str) -> Slice:
        """The slice behind one of Dagster's partition keys."""
        return self.layout("").slice_of(self.batch, key)

    def key_of(self, slice_: Slice) -> str | None:
        """Dagster's partition key of a slice; None for an unpartitioned batch."""
        return None if self.definition is None else slice_.key

    def tags_of(self, slice_: Slice) -> dict[str, str]:
        """Return the tags with the dimensions of an event that is logged by hand."""
        if not self.is_product:
            return {}
        return {
            f"{_DIMENSION_TAG}{slice_.window_dimension}": slice_.window,
            f"{_DIMENSION_TAG}{slice_.fan_out_dimension}": slice_.fan_out,
        }

    def in_run(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> list[Slice]:
        """
        Return the slices that a run is for: exactly those between the ends that its tags name.

        The run also gets a tag that describes them, whoever started it.

        Raises:
            Failure: Its tags contradict each other, or name what the batch does not have.
        """
        if self.definition is None:
            return [self.batch.slice()]
        try:
            keys = self._keys_in_run(context)
        except ConfigError as error:
            message = in_words(
                ConfigError("the partitions of this run are not clear", error.reason),
                next_step="start a run for partitions that the batch has.",
            )
            raise dg.Failure(message, allow_retries=False) from error
        slices = [self.slice_of(key) for key in keys]
        words = {PARTITIONS_TAG: _in_words(slices)}
        if not words.items() <= context.run.tags.items():
            with suppress(Exception):  # a word for people; the work does not hang on it
                context.instance.add_run_tags(context.run.run_id, words)
        return slices

    def _keys_in_run(
        self, context: dg.AssetExecutionContext | dg.OpExecutionContext
    ) -> Sequence[str]:
        """Return the keys of Dagster's context, by which it records; the tags must agree."""
        assert self.definition is not None
        named = range_of(context.run.tags)
        if named is None:
            raise ConfigError("tags", "it names none, and the batch has partitions")
        known = set(self.definition.get_partition_keys(dynamic_partitions_store=context.instance))
        strange = [key for key in dict.fromkeys(named) if key not in known]
        if strange:
            raise ConfigError("tags", f"the batch has no partition {' and no '.join(strange)}")
        keys = list(context.partition_keys)
        if not keys:
            reason = f"no partition lies between {named[0]} ({RANGE_START_TAG}) and {named[1]}"
            raise ConfigError("tags", reason)
        if (keys[0], keys[-1]) != named:
            reason = f"its tags name {named[0]}...{named[1]}, Dagster's context {keys[0]}"
            raise ConfigError("tags", reason)
        return keys

    def of_run(self, run: dg.DagsterRun, instance: dg.DagsterInstance) -> list[Slice]:
        """Return the slices that another run is or was for; none if that is not clear."""
        if self.definition is None:
            return [self.batch.slice()]
        try:
            named = range_of(run.tags)
        except ConfigError:
            return []
        return [] if named is None else self._between(instance, *map(self.slice_of, named))

    def _between(self, instance: dg.DagsterInstance, first: Slice, last: Slice) -> list[Slice]:
        """Return the rectangle of a range, in the order of the windows' definition."""
        keys, windows = self.batch.fan_out_keys or [""], [first.window]
        if self.windows is not None and first.window != last.window:
            windows = list(self.windows.get_partition_keys(dynamic_partitions_store=instance))
        try:
            windows = windows[windows.index(first.window) : windows.index(last.window) + 1]
            keys = keys[keys.index(first.fan_out) : keys.index(last.fan_out) + 1]
        except ValueError:
            return [first, last]  # of an earlier definition: nothing that could be asked for now
        return [self.batch.slice(window, key) for window in windows for key in keys]

    def blocks(self, slices: Iterable[Slice]) -> list[list[Slice]]:
        """Group slices in blocks that one range can name: neighbours of the fan-out in a window."""
        place = {key: index for index, key in enumerate(self.batch.fan_out_keys or [""])}
        known = sorted(
            (slice_ for slice_ in slices if slice_.fan_out in place),
            key=lambda slice_: (slice_.window, place[slice_.fan_out]),
        )
        numbered = enumerate(known)
        grouped = groupby(
            numbered, key=lambda pair: (pair[1].window, place[pair[1].fan_out] - pair[0])
        )
        return [[slice_ for _, slice_ in block] for _, block in grouped]

    def range_tags(self, block: Sequence[Slice]) -> dict[str, str]:
        """Return the tags that make one run out of a block of neighbours."""
        ends = {RANGE_START_TAG: block[0].key, RANGE_END_TAG: block[-1].key}
        return {**ends, PARTITIONS_TAG: _in_words(block)}


def _in_words(block: Sequence[Slice]) -> str:
    """`2026-11-28, 4 partitions`, with the first and the last window; or the only key."""
    first, last = block[0], block[-1]
    if first == last:
        return first.key
    windows = first.window if first.window == last.window else f"{first.window} to {last.window}"
    return f"{windows}, {len(block)} partitions".removeprefix(", ")
