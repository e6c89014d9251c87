"""A batch, its partitions, and what it is called in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from mynth_dagster.errors import ConfigError, cut
from mynth_dagster.limits import FOLDER_NAME_MAX_BYTES, SHARDS_MAX
from mynth_dagster.models.batch_settings import Delivery, ImageRequest, Prompts, Spending
from mynth_dagster.models.request import KINDS_BY_TABLE, FollowUpKind

# One cell of the work: a time window (or file), and one part of its fan-out.
#
# In paths the fan-out is always called `fan_out`: a folder called `shard=` or `model=` would clash
# with the result tables' own columns of these names, and pyarrow and pandas refuse such a folder.


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
        window_dimension: The window's name in paths: `date`, `file`, `partition`.
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
        """The name for people and for Dagster: `2026-11-22|003`, `2026-11-22`, `003` or `all`."""
        return "|".join(part for part in (self.window, self.fan_out) if part) or "all"


def shard_keys(n_shards: int) -> list[str]:
    """Return the names of the shards, `000` to one less than their number."""
    return [f"{index:03d}" for index in range(n_shards)]


def _require_storable(dimension: str, key: str) -> None:
    """Require a key that both the ledger and a folder's name can hold."""
    if not key:
        return
    try:
        n_bytes = len(f"{dimension}={_escaped(key)}")
    except UnicodeEncodeError:
        raise ConfigError("partition", f"the key {key!r} is not valid Unicode") from None
    if "\0" in key:
        raise ConfigError("partition", f"the key {key!r} has a NUL character")
    if n_bytes > FOLDER_NAME_MAX_BYTES:
        message = f"{cut(key, 40)!r} makes a folder's name of {n_bytes} bytes, which can have "
        raise ConfigError("partition", f"{message}{FOLDER_NAME_MAX_BYTES}: use a shorter key")


def _escaped(key: str) -> str:
    return quote(key, safe=" ,()[]@!$&'+;~-_.")


@dataclass(frozen=True)
class Batch:
    """
    A named table of prompts and how it becomes images.

    Args:
        name: Names the assets, the folder of the tables and (unless `prompts.identity` is given)
            the rows in the ledger; letters, digits, underscores.
        prompts: Where the rows come from, how they are read, and what identifies them.
        request: What is asked of Mynth.
        spending: Prices, caps, retries, what to do with unresolved rows.
        delivery: How results are waited for, and what is kept of them.
        fan_out: Number of shards that the rows are spread over by a stable hash, 1 to 1000; or
            `model`, for one partition per model.
        window_dimension: The window's name in paths: `date`, `file`, `key`, `partition`.

    Raises:
        ConfigError: A value is wrong; says which and what is allowed.
    """

    name: str
    prompts: Prompts = Prompts()
    request: ImageRequest = ImageRequest()
    spending: Spending = Spending()
    delivery: Delivery = Delivery()
    fan_out: int | Literal["model"] = 1
    window_dimension: str = "date"

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.fan_out != MODEL_DIMENSION and not (
            isinstance(self.fan_out, int) and 1 <= self.fan_out <= SHARDS_MAX
        ):
            reason = f"{self.fan_out!r} is neither 1 to {SHARDS_MAX} shards nor 'model'"
            raise ConfigError("fan_out", reason)

    @property
    def ledger_name(self) -> str:
        """The batch's part of a row's identity."""
        return self.prompts.identity or self.name

    @property
    def marks_absent(self) -> bool:
        return self.spending.on_unresolved == "resubmit"

    @property
    def has_several_models(self) -> bool:
        return len(self.request.models) > 1

    @property
    def fan_out_keys(self) -> list[str]:
        """The partition keys of the fan-out; empty if there is none."""
        if self.fan_out == "model":
            return list(self.request.models)
        return shard_keys(self.fan_out) if self.fan_out > 1 else []

    @property
    def fan_out_dimension(self) -> str:
        """What the partitions of a window differ by: `model` or `shard`."""
        return MODEL_DIMENSION if self.fan_out == "model" else SHARD_DIMENSION

    def slice(self, window: str = "", fan_out: str = "") -> Slice:
        """Return the partition of this batch with these keys."""
        return Slice(window, fan_out, self.window_dimension, self.fan_out_dimension)

    def slices(self, window: str = "") -> list[Slice]:
        """Return all partitions of one window."""
        return [self.slice(window, key) for key in self.fan_out_keys or [""]]


def follow_up_name(ledger_name: str, kind: FollowUpKind) -> str:
    """What a batch's follow-ups of a kind are called in the ledger."""
    return f"{ledger_name}/{kind.table}"


def batch_of(ledger_name: str) -> str:
    """The batch that a name in the ledger belongs to: follow-ups belong to that of their images."""
    batch, _, table = ledger_name.rpartition("/")
    return batch if table in KINDS_BY_TABLE else ledger_name


def _check_name(name: str) -> None:
    allowed = all(char.isalnum() or char == "_" for char in name)
    if not name or not allowed or not name.isascii():
        raise ConfigError("name", f"{name!r}: letters, digits and underscores only")
    if len(name) > FOLDER_NAME_MAX_BYTES:
        message = f"{cut(name, 40)!r} has {len(name)} characters, a folder's name can have "
        raise ConfigError("name", f"{message}{FOLDER_NAME_MAX_BYTES}")
