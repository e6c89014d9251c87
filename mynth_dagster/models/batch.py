"""A batch and its settings, which turn prompt rows into requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from mynth_dagster.errors import ConfigError, cut
from mynth_dagster.limits import (
    AUTO_MODEL,
    CONFIRM_ABOVE_USD,
    DOWNLOAD_CONCURRENCY,
    DOWNLOAD_CONCURRENCY_MAX,
    FOLDER_NAME_MAX_BYTES,
    PICTURE_MAX_BYTES,
    PICTURE_MAX_PIXELS,
    TASK_DEADLINE_S,
    RevisionLimits,
)
from mynth_dagster.models.money import NO_BUDGET, Budget
from mynth_dagster.models.request import (
    EFFORTS,
    KINDS_BY_TABLE,
    FollowUpKind,
    FollowUpSettings,
    Rating,
)

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


# Whether and how the files of images are kept.


@dataclass(frozen=True)
class FileSettings:
    """
    What a batch does with the files of its images.

    Args:
        store: Folder or fsspec URL under which they are kept; empty: the root of the tables.
        concurrency: Downloads at once, 1 to 64; each holds about 7 MiB, 25 with an object store.
        max_bytes: A larger file is refused.
        max_pixels: An image of more pixels is refused, by its header.
    """

    store: str = ""
    concurrency: int = DOWNLOAD_CONCURRENCY
    max_bytes: int = PICTURE_MAX_BYTES
    max_pixels: int = PICTURE_MAX_PIXELS

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= DOWNLOAD_CONCURRENCY_MAX:
            reason = f"{self.concurrency} is not between 1 and {DOWNLOAD_CONCURRENCY_MAX}"
            raise ConfigError("files.concurrency", reason)
        for name in ("max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"files.{name}", f"{getattr(self, name)} is not above 0")


PROMPT_COLUMNS = (
    "prompt",
    "prompt_id",
    "negative_prompt",
    "model",
    "size",
    "count",
    "inputs",
    "input_key",
    "output_format",
    "output_quality",
    "enhance",
    "magic_prompt",
    "destination",
    "metadata",
)
"""The columns of a prompt table that mean something to us; all others are carried through."""


HOLD, RESUBMIT = "hold", "resubmit"
RETRIES_MAX = 10


@dataclass(frozen=True)
class RequestDefaults:
    """
    The values of columns that a row leaves empty; None leaves them to Mynth.

    Args:
        negative_prompt: What to avoid.
        size: A preset, a ratio, `…_4k`, or `auto`.
        count: Images per row.
        output_format: `png`, `jpg` or `webp`.
        output_quality: Up to 100.
        enhance: `magic` or `native`, as the revision has.
        rating: Whether and how each image's content is rated; `Rating()`: by Mynth's own levels.
        destination: Name of a destination at Mynth.
        webhook_urls: Up to five endpoints.
        mute_registered_webhooks: Whether the webhooks registered at Mynth are not called.
        public_access_tokens: Whether `tasks` has each task's public access token, so that browsers
            may poll; the tokens are secrets.
    """

    negative_prompt: str | None = None
    size: str | None = None
    count: int = 1
    output_format: str | None = None
    output_quality: int | None = None
    enhance: str | None = None
    rating: Rating | None = None
    destination: str | None = None
    webhook_urls: tuple[str, ...] = ()
    mute_registered_webhooks: bool = False
    public_access_tokens: bool = False


@dataclass(frozen=True)
class Batch:
    """
    A named table of prompts and how it becomes images.

    Args:
        name: Names the assets, the folder of the tables and (unless `identity` is given)
            the rows in the ledger.
        models: Every prompt row without a model of its own becomes a request to each of these.
        fan_out: `shard` (stable hash of the row) or `model` (one partition per model).
        shards: Number of shards; 1 means no fan-out.
        columns: Our column name -> the table's own, where they differ; None: the table's column
            of our name is one of the user's, and carried.
        defaults: The values of columns that a row leaves empty.
        deadline_s: Seconds after acceptance at which a pending task is called stalled.
        prices_usd: USD per image by model id, used where Mynth offers no price.
        identity: What identifies the batch in the ledger, to survive a rename.
        window_dimension: The window's name in paths: `date`, `file`, `key`, `partition`.
        budget: Caps on money; rows beyond them are not sent.
        confirm_above_usd: Where models or defaults changed: more than this, for rows that were
            paid for before, is not sent unless a person confirms it.
        on_unresolved: `resubmit` sends a row again once it is proved that its request was not
            accepted, where the revision has a task list; `hold` leaves that to a person.
        retries: How often a row whose task failed is sent and paid for again automatically, where
            another try may end otherwise.
        files: Whether and how the files of images are kept; None: only their URLs.
        url_lifetime_s: Seconds for which Mynth serves an image after its completion; None: as
            the revision documents, which those before 2026-10 do not.
        inputs_root: Folder, any fsspec URL, at which the paths of input files start and outside
            of which none is read; None: they start at the table's folder, and may lie anywhere.
        check_capabilities: Whether rows are rejected that need what their model is known to lack.
    """

    name: str
    models: tuple[str, ...] = (AUTO_MODEL,)
    fan_out: str = SHARD_DIMENSION
    shards: int = 1
    columns: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    defaults: RequestDefaults = RequestDefaults()
    deadline_s: float = TASK_DEADLINE_S
    prices_usd: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}))
    identity: str | None = None
    window_dimension: str = "date"
    budget: Budget = NO_BUDGET
    confirm_above_usd: Decimal = CONFIRM_ABOVE_USD
    on_unresolved: str = RESUBMIT
    retries: int = 0
    files: FileSettings | None = None
    url_lifetime_s: float | None = None
    inputs_root: str | None = None
    check_capabilities: bool = True

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not self.models or len(set(self.models)) != len(self.models):
            raise ConfigError("models", "one or more different model ids are needed")
        if self.fan_out not in (SHARD_DIMENSION, MODEL_DIMENSION):
            raise ConfigError("fan_out", f"{self.fan_out!r} is neither 'shard' nor 'model'")
        if not 1 <= self.shards <= 1000:
            raise ConfigError("shards", f"{self.shards} is not between 1 and 1000")
        require_sound_retries(self.retries)
        if self.url_lifetime_s is not None and not 0 < self.url_lifetime_s < math.inf:
            raise ConfigError("url_lifetime_s", f"{self.url_lifetime_s} is not above 0")
        if not self.confirm_above_usd.is_finite() or self.confirm_above_usd < 0:
            raise ConfigError("confirm_above_usd", f"{self.confirm_above_usd} is no amount in USD")
        if self.on_unresolved not in (HOLD, RESUBMIT):
            known = f"neither {HOLD} nor {RESUBMIT}"
            raise ConfigError("on_unresolved", f"{self.on_unresolved!r} is {known}")
        unknown = sorted(set(self.columns) - set(PROMPT_COLUMNS))
        if unknown:
            known = ", ".join(PROMPT_COLUMNS)
            raise ConfigError("columns", f"{unknown[0]!r} is no column of ours; they are {known}")
        if self.columns.get("prompt", "") is None:
            raise ConfigError("columns", "a table without prompts asks for nothing")

    @property
    def ledger_name(self) -> str:
        """The batch's part of a row's identity."""
        return self.identity or self.name

    @property
    def marks_absent(self) -> bool:
        return self.on_unresolved == RESUBMIT

    @property
    def has_several_models(self) -> bool:
        return len(self.models) > 1

    @property
    def fan_out_keys(self) -> list[str]:
        """The partition keys of the fan-out; empty if there is none."""
        if self.fan_out == MODEL_DIMENSION:
            return list(self.models)
        return shard_keys(self.shards) if self.shards > 1 else []

    def slice(self, window: str = "", fan_out: str = "") -> Slice:
        """Return the partition of this batch with these keys."""
        return Slice(window, fan_out, self.window_dimension, self.fan_out)

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


def require_sound_retries(retries: int) -> None:
    """Raise a ConfigError where a row would be asked for again too often."""
    if not 0 <= retries <= RETRIES_MAX:
        raise ConfigError("retries", f"{retries} is not between 0 and {RETRIES_MAX}")


def _check_name(name: str) -> None:
    allowed = all(char.isalnum() or char == "_" for char in name)
    if not name or not allowed or not name.isascii():
        raise ConfigError("name", f"{name!r}: letters, digits and underscores only")
    if len(name) > FOLDER_NAME_MAX_BYTES:
        message = f"{cut(name, 40)!r} has {len(name)} characters, a folder's name can have "
        raise ConfigError("name", f"{message}{FOLDER_NAME_MAX_BYTES}")


# The limits of a batch's defaults, by revision; checked before anything is read or sent.


def require_within_limits(defaults: RequestDefaults, limits: RevisionLimits) -> None:
    """
    Check the settings that no column of the table can hold: rating levels and webhooks.

    Raises:
        ConfigError: Names the setting, what it is, and what the revision allows.
    """
    if defaults.rating is not None:
        _require_sound_rating(defaults.rating, limits)
    _require_sound_webhooks(defaults.webhook_urls, limits)


def require_sound_follow_up(settings: FollowUpSettings, limits: RevisionLimits) -> None:
    """
    Check what is asked about images.

    Raises:
        ConfigError: Names the setting, what it is, and what the revision allows.
    """
    if settings.effort not in (None, *EFFORTS):
        raise ConfigError("effort", f"{settings.effort!r} is none of {', '.join(EFFORTS)}")
    if settings.effort is not None and settings.kind is not FollowUpKind.REVIEW:
        raise ConfigError("effort", "only reviews have an effort")
    if settings.levels and settings.kind is not FollowUpKind.RATE:
        raise ConfigError("levels", "only ratings have levels")
    _require_sound_rating(Rating(settings.levels), limits, setting="levels")


def _require_sound_rating(
    rating: Rating, limits: RevisionLimits, setting: str = "defaults.rating"
) -> None:
    levels = rating.levels
    if not levels:
        return
    least, most = limits.rating_levels_min, limits.rating_levels_max
    if not least <= len(levels) <= most:
        raise ConfigError(setting, f"{len(levels)} levels; {least} to {most} are allowed")
    values = [level.value for level in levels]
    if len(set(values)) < len(values):
        raise ConfigError(setting, "two levels have the same value")
    for level in levels:
        _require_length(
            f"{setting} value {level.value!r}",
            level.value,
            (limits.rating_value_min_chars, limits.rating_value_max_chars),
        )
        _require_length(
            f"{setting} description of {level.value!r}",
            level.description,
            (limits.rating_description_min_chars, limits.rating_description_max_chars),
        )


def _require_length(setting: str, text: str, allowed: tuple[int, int]) -> None:
    least, most = allowed
    if not least <= len(text) <= most:
        raise ConfigError(setting, f"{len(text)} characters; {least} to {most} are allowed")


def _require_sound_webhooks(urls: tuple[str, ...], limits: RevisionLimits) -> None:
    setting, most = "defaults.webhook_urls", limits.custom_webhooks_max
    if len(urls) > most:
        raise ConfigError(setting, f"{len(urls)} endpoints; at most {most} are allowed")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(setting, "each must be an http or https URL")
