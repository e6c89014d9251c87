"""Between Dagster's partition keys and the package's slices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import dagster as dg

from mynth_dagster.models.batch import Batch
from mynth_dagster.models.partition import Slice

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
_DIMENSION_TAG = "dagster/partition/"
LAYOUT_KEY = "mynth/layout"


@dataclass(frozen=True)
class Layout:
    """Where a table's partitions lie, as told to whoever reads it; metadata of every asset."""

    batch: str
    table: str
    window_dimension: str
    has_windows: bool
    has_fan_out: bool

    def to_metadata(self) -> dict[str, Any]:
        """Under one key, for the asset's definition; one line, since people see it too."""
        return {LAYOUT_KEY: json.dumps(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Layout | None:
        """The inverse; None for an asset that is not ours."""
        stored = metadata.get(LAYOUT_KEY)
        text = getattr(stored, "value", stored)
        return cls(**json.loads(text)) if isinstance(text, str) else None

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
        """What the assets are partitioned by; None for an unpartitioned batch."""
        keys = self.batch.fan_out_keys
        if not keys:
            return self.windows
        fan_out = dg.StaticPartitionsDefinition(keys)
        if self.windows is None:
            return fan_out
        dimensions = {self.batch.window_dimension: self.windows, self.batch.fan_out: fan_out}
        return dg.MultiPartitionsDefinition(dimensions)

    @property
    def is_product(self) -> bool:
        return self.windows is not None and bool(self.batch.fan_out_keys)

    def layout(self, table: str) -> Layout:
        """Where one of the batch's tables lies."""
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
        """The tags that tell the dimensions of an event that is logged by hand."""
        if not self.is_product:
            return {}
        return {
            f"{_DIMENSION_TAG}{slice_.window_dimension}": slice_.window,
            f"{_DIMENSION_TAG}{slice_.fan_out_dimension}": slice_.fan_out,
        }

    def in_run(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> list[Slice]:
        """
        The slices that a run is for.

        Raises:
            Failure: A range whose start is after its end holds nothing.
        """
        if self.definition is None:
            return [self.batch.slice()]
        keys = list(context.partition_keys)
        if not keys:
            start = context.run.tags.get(RANGE_START_TAG)
            end = context.run.tags.get(RANGE_END_TAG)
            raise dg.Failure(
                f"no partition lies between {start!r} ({RANGE_START_TAG}) and {end!r} "
                f"({RANGE_END_TAG}): is the range reversed? Nothing was done.",
                allow_retries=False,
            )
        return [self.slice_of(key) for key in keys]

    def blocks(self, slices: Iterable[Slice]) -> list[list[Slice]]:
        """Slices in blocks that one range can name: neighbours of the fan-out in one window."""
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
        """The tags that make one run out of a block of neighbours."""
        return {RANGE_START_TAG: block[0].key, RANGE_END_TAG: block[-1].key}
