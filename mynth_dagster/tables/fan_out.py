"""Which slice each request row belongs to: always exactly one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from mynth_dagster.models.batch import MODEL_DIMENSION, Batch, shard_keys
from mynth_dagster.models.intent import shard_of


class FanOut:
    """Splits request rows by the batch's fan-out, keeping their order."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._keys = batch.fan_out_keys
        self._shard_keys = shard_keys(batch.shards)

    def split(self, rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rows of each slice that has any, under its fan-out key."""
        if len(self._keys) <= 1:
            yield (self._keys[0] if self._keys else ""), rows
            return
        places: dict[str, list[int]] = {}
        for place, key in enumerate(self._keys_of(rows)):
            places.setdefault(key, []).append(place)
        for key, chosen in places.items():
            yield key, rows.take(pa.array(chosen, pa.int32()))

    def _keys_of(self, rows: pa.RecordBatch) -> Sequence[str]:
        if self._batch.fan_out != MODEL_DIMENSION:
            ids = rows.column("prompt_id").to_pylist()
            return [self._shard_keys[shard_of(name, self._batch.shards)] for name in ids]
        # A row of another model has no slice of its own: it is accounted for in the first.
        known, first = set(self._keys), self._keys[0]
        models = rows.column("model").to_pylist()
        return [model if model in known else first for model in models]
