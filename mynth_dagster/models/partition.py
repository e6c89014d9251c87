"""
One cell of the work: a time window (or file), and one part of its fan-out.

In paths the fan-out is always called `fan_out`: a folder called `shard=` or `model=` would clash
with the result tables' own columns of these names, and pyarrow and pandas refuse such a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from mynth_dagster.errors import ConfigError, cut
from mynth_dagster.limits import FOLDER_NAME_MAX_BYTES

SHARD_DIMENSION = "shard"
MODEL_DIMENSION = "model"
FAN_OUT_FOLDER = "fan_out"


@dataclass(frozen=True, order=True)
class Slice:
    """
    A partition of a batch.

    Args:
        window: Key of the window (`2026-11-22`), or empty where the batch has none.
        fan_out: Key within the fan-out (`003`, or a model id), or empty.
        window_dimension: What the window is called in paths: `date`, `file`, `partition`.
        fan_out_dimension: `shard` or `model`.

    Raises:
        ConfigError: A key that the ledger or a file system cannot hold.
    """

    window: str = ""
    fan_out: str = ""
    window_dimension: str = "date"
    fan_out_dimension: str = SHARD_DIMENSION

    def __post_init__(self) -> None:
        _require_storable(self.window_dimension, self.window)
        _require_storable(FAN_OUT_FOLDER, self.fan_out)

    @property
    def path(self) -> str:
        """Hive-style folders, `date=2026-11-22/fan_out=003`; empty for the whole batch."""
        parts = []
        if self.window:
            parts.append(f"{self.window_dimension}={_escaped(self.window)}")
        if self.fan_out:
            parts.append(f"{FAN_OUT_FOLDER}={_escaped(self.fan_out)}")
        return "/".join(parts)

    @property
    def key(self) -> str:
        """For people and for Dagster: `2026-11-22|003`, `2026-11-22`, `003` or `all`."""
        return "|".join(part for part in (self.window, self.fan_out) if part) or "all"


def shard_keys(n_shards: int) -> list[str]:
    """The names of the shards, `000` to one less than their number."""
    return [f"{index:03d}" for index in range(n_shards)]


def _require_storable(dimension: str, key: str) -> None:
    """A key is text of the ledger and part of a folder's name: both have to hold it."""
    if not key:
        return
    try:
        n_bytes = len(f"{dimension}={_escaped(key)}")
    except UnicodeEncodeError:
        raise ConfigError("partition", f"the key {key!r} is not valid Unicode") from None
    if "\0" in key:
        raise ConfigError("partition", f"the key {key!r} has a NUL character")
    if n_bytes > FOLDER_NAME_MAX_BYTES:
        said = f"{cut(key, 40)!r} makes a folder's name of {n_bytes} bytes, which can have "
        raise ConfigError("partition", f"{said}{FOLDER_NAME_MAX_BYTES}: use a shorter key")


def _escaped(key: str) -> str:
    return quote(key, safe=" ,()[]@!$&'+;~-_.")
