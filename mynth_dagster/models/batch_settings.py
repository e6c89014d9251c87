"""
The settings of a batch: small values that are arguments in Python and fields in YAML.

What a field means, its unit and its range stand here and nowhere else: the reference page and the
schema of a `defs.yaml` are made of these descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mynth_dagster.errors import ConfigError, cut
from mynth_dagster.limits import (
    AUTO_MODEL,
    CONFIRM_ABOVE_USD,
    DOWNLOAD_CONCURRENCY,
    DOWNLOAD_CONCURRENCY_MAX,
    PICTURE_MAX_BYTES,
    PICTURE_MAX_PIXELS,
    SENSOR_INTERVAL_S,
    TASK_DEADLINE_S,
    THUMBNAILS_MAX,
    RevisionLimits,
)
from mynth_dagster.models.money import Budget, budget_from_usd
from mynth_dagster.models.request import (
    KINDS_BY_TABLE,
    FollowUpSettings,
    Rating,
    RatingLevel,
)

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

RETRIES_MAX = 10

Usd = Annotated[Decimal, Field(ge=0)]
"""An amount in USD, in YAML a number or a text: 0.04 or "0.04"."""
Share = Annotated[float, Field(ge=0, le=1)]
Retries = Annotated[int, Field(ge=0, le=RETRIES_MAX)]
CapScope = Literal["partition", "window", "batch"]


def _sound(caps: Mapping[CapScope, Decimal]) -> Mapping[CapScope, Decimal]:
    budget_from_usd(caps)
    return caps


Caps = Annotated[Mapping[CapScope, Decimal], AfterValidator(_sound)]
"""The most that may be spent in each partition, in each window and in the whole batch, in USD."""


class Settings(BaseModel):
    """Immutable values; a wrong one is a `ConfigError` that names class, field and reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            _raise_config_error(type(self).__name__, type(self).model_fields, error)

    @field_validator("*", mode="after")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


def _raise_config_error(name: str, known: Mapping[str, Any], error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    field = ".".join([name, *map(str, first["loc"])]).removesuffix(".[key]")
    if first["type"] == "extra_forbidden":
        reason = f"there is no such field; {name} has {', '.join(known)}"
    elif first["type"] == "missing":
        reason = "it is needed"
    else:
        message = first["msg"].removeprefix("Value error, ")
        message = message.removeprefix("Input ")
        reason = f"{cut(repr(first['input']), 80)}: {message}"
    raise ConfigError(field, reason) from None


class Prompts(Settings):
    """Where the prompt rows come from, and how they are read."""

    location: str | None = Field(
        default=None,
        description="Parquet file, folder or pattern, any fsspec URL; `{window}` stands for the "
        "key of the window (`prompts/{window}/*.parquet`). Either this or `asset`.",
    )
    asset: Any = Field(
        default=None,
        description="Key of an asset that returns a DataFrame or an Arrow table (`catalogue/"
        "products`), unpartitioned or with windows as long or shorter. In Python also an "
        "`AssetKey`, or an `AssetIn` where its IO manager or partition mapping has to be named.",
    )
    columns: Mapping[str, str | None] = Field(
        default={},
        description="Our column name -> the table's own, where they differ: `{prompt_id: sku}`; "
        "null: the table's column of our name is one of your own, and carried.",
    )
    inputs_root: str | None = Field(
        default=None,
        description="Folder, any fsspec URL, at which paths of input files start and outside of "
        "which none is read. Left out: they start at the table's folder and may lie anywhere.",
    )
    identity: str | None = Field(
        default=None,
        description="What identifies the rows in the ledger, to survive a rename of the batch: "
        "rows of another identity are paid for again. Left out: the batch's name.",
    )

    @field_validator("columns")
    @classmethod
    def _columns_of_ours(cls, columns: Mapping[str, str | None]) -> Mapping[str, str | None]:
        unknown = sorted(set(columns) - set(PROMPT_COLUMNS))
        if unknown:
            known = ", ".join(PROMPT_COLUMNS)
            raise ValueError(f"{unknown[0]!r} is no column of ours; they are {known}")
        if columns.get("prompt", "") is None:
            raise ValueError("a table without prompts asks for nothing")
        return columns

    @model_validator(mode="after")
    def _one_source(self) -> Prompts:
        if self.location is not None and self.asset is not None:
            raise ConfigError("prompts", "location and asset are both given; one is needed")
        return self


class FollowUp(Settings):
    """One follow-up of each image, as an asset of its own: a paid task for each image."""

    table: Literal["ratings", "alt_texts", "reviews"] = Field(
        description="What is asked, and the last part of the asset's key."
    )
    levels: Sequence[RatingLevel] = Field(
        default=(),
        description="Own levels of `ratings`, 2 to 7, mildest first. Left out: sfw and nsfw.",
    )
    effort: Literal["low", "high"] | None = Field(
        default=None, description="Of `reviews`. Left out: as Mynth does."
    )
    budget_usd: Caps = Field(
        default={},
        description="Caps in USD, beside those of the images; needs `prices_usd` of "
        "`image.rate`, `image.alt` or `image.review`.",
    )
    retries: Retries = Field(
        default=0,
        description="How often a follow-up that failed is asked for again automatically.",
    )
    automatic: bool = Field(
        default=False,
        description="Request the asset, and pay for it, whenever its images have landed. Dagster's "
        "sensor `default_automation_condition_sensor` does this; it is off until you switch it on.",
    )

    @model_validator(mode="after")
    def _fields_of_its_table(self) -> FollowUp:
        if self.effort is not None and self.table != "reviews":
            raise ConfigError("follow_ups.effort", "only reviews have an effort")
        if self.levels and self.table != "ratings":
            raise ConfigError("follow_ups.levels", "only ratings have levels")
        return self

    @property
    def budget(self) -> Budget:
        return budget_from_usd(self.budget_usd)

    @property
    def settings(self) -> FollowUpSettings:
        """What is asked, without what it may cost."""
        return FollowUpSettings(KINDS_BY_TABLE[self.table], tuple(self.levels), self.effort)


EVERY_FOLLOW_UP = (
    FollowUp(table="ratings"),
    FollowUp(table="alt_texts"),
    FollowUp(table="reviews"),
)


class ImageRequest(Settings):
    """What is asked of Mynth: the values of columns that a row leaves empty, and follow-ups."""

    models: Sequence[str] = Field(
        default=(AUTO_MODEL,),
        description="Each prompt without a model of its own is sent to each of these.",
    )
    negative_prompt: str | None = Field(default=None, description="What to avoid.")
    size: str | None = Field(
        default=None, description="A preset, a ratio, `…_4k`, or `auto`. Left out: as Mynth does."
    )
    count: int = Field(default=1, description="Images per row.")
    output_format: str | None = Field(default=None, description="`png`, `jpg` or `webp`.")
    output_quality: int | None = Field(
        default=None, description="Up to 100; revision 2026-10 has none."
    )
    enhance: str | None = Field(
        default=None, description="`magic` or `native`, as the revision has."
    )
    rating: Rating | None = Field(
        default=None,
        description="Whether and how each image's content is rated: true, or `levels` of your "
        "own, 2 to 7, each with `value` and `description`, mildest first.",
    )
    destination: str | None = Field(
        default=None, description="Name of a destination at Mynth, your own storage."
    )
    check_capabilities: bool = Field(
        default=True,
        description="Whether rows are rejected that need what their model is known to lack: "
        "input images, 4k.",
    )
    follow_ups: Sequence[FollowUp] = Field(
        default=(),
        description="What is asked about each finished image, a paid task each, as assets "
        "`ratings`, `alt_texts` and `reviews`; revision 2026-04 has none.",
    )

    @field_validator("models", mode="after")
    @classmethod
    def _different_models(cls, models: Sequence[str]) -> Sequence[str]:
        if not models or len(set(models)) != len(models):
            raise ValueError("one or more different model ids are needed")
        return models

    @field_validator("rating", mode="before")
    @classmethod
    def _rating_or_not(cls, rating: Any) -> Any:
        return {True: Rating(), False: None}[rating] if isinstance(rating, bool) else rating

    @field_validator("follow_ups", mode="after")
    @classmethod
    def _each_table_once(cls, follow_ups: Sequence[FollowUp]) -> Sequence[FollowUp]:
        if len({one.table for one in follow_ups}) < len(follow_ups):
            raise ValueError("each table at most once")
        return follow_ups


class Spending(Settings):
    """What may be paid, and when a row is paid for again."""

    prices_usd: Mapping[str, Usd] = Field(
        default={}, description="USD per image by model, where Mynth gives no price."
    )
    budget_usd: Caps = Field(
        default={},
        description="Caps in USD: what is spent, reserved and unknown together. Rows beyond them "
        "are withheld.",
    )
    confirm_above_usd: Usd = Field(
        default=CONFIRM_ABOVE_USD,
        description="Where models or defaults changed since rows were paid for: more than this is "
        "paid for them again only with `confirm: true`.",
    )
    retries: Retries = Field(
        default=0,
        description="How often a row whose task failed is sent again automatically, where another "
        "try may end otherwise; each is paid for if it succeeds.",
    )
    on_unresolved: Literal["resubmit", "hold"] = Field(
        default="resubmit",
        description="`resubmit`: a row whose request is proved not to have been accepted is sent "
        "again, where the revision has a task list; `hold`: a person decides.",
    )
    auto_resubmit: bool = Field(
        default=True,
        description="Whether the sensor starts a run by itself for rows that were not sent because "
        "of a rate limit or an outage, or were proved not accepted; never for money or a refused "
        "key.",
    )

    @property
    def budget(self) -> Budget:
        return budget_from_usd(self.budget_usd)


class Files(Settings):
    """Where the files of images are kept, and which are refused."""

    store: str = Field(
        default="",
        description="Folder or fsspec URL under which they are kept; empty: the root of the "
        "tables.",
    )
    concurrency: int = Field(
        default=DOWNLOAD_CONCURRENCY,
        ge=1,
        le=DOWNLOAD_CONCURRENCY_MAX,
        description="Downloads at once; about 7 MiB of memory each, 25 with an object store.",
    )
    max_bytes: int = Field(default=PICTURE_MAX_BYTES, ge=1, description="A larger file is refused.")
    max_pixels: int = Field(
        default=PICTURE_MAX_PIXELS, ge=1, description="An image of more pixels is refused."
    )


class Delivery(Settings):
    """How results are waited for, and what is kept of them."""

    wait: Literal["sensor", "run"] = Field(
        default="sensor",
        description="`sensor`: the run ends after sending and a sensor collects, no worker waits; "
        "`run`: collection waits inside the run.",
    )
    deadline_s: float = Field(
        default=TASK_DEADLINE_S,
        ge=0,
        description="Seconds after acceptance at which a pending task counts as stalled.",
    )
    sensor_interval_s: int = Field(
        default=SENSOR_INTERVAL_S, ge=1, description="Seconds between two ticks of a sensor."
    )
    files: Files | None = Field(
        default=None,
        description="Whether and how the files of images are kept, as an asset `files`; `{}` keeps "
        "them beside the tables. Left out: only their URLs are.",
    )
    previews: int = Field(
        default=0,
        ge=0,
        le=THUMBNAILS_MAX,
        description="Thumbnails made of each partition while collecting and shown in the UI; about "
        "4 KB of metadata each, kept with every materialization.",
    )
    url_lifetime_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds for which Mynth serves an image after its completion, if you know it: "
        "7 days in 2026-10, not documented before. Left out: as the revision documents, and "
        "`url_expires_at` is null if it does not.",
    )
    webhook_urls: Sequence[str] = Field(
        default=(), description="Up to five endpoints that Mynth calls about each task."
    )
    mute_registered_webhooks: bool = Field(
        default=False, description="Whether the webhooks registered at Mynth are not called."
    )
    public_access_tokens: bool = Field(
        default=False,
        description="Whether `tasks` has each task's public access token, so that browsers may "
        "poll; the tokens are secrets.",
    )


class Freshness(Settings):
    """How old `images` may be: within so many hours, or by a moment of each day."""

    fail_after_hours: float | None = Field(
        default=None, gt=1 / 60, description="Hours without new images that are a failure."
    )
    warn_after_hours: float | None = Field(
        default=None,
        gt=1 / 60,
        description="Hours that are a warning; fewer than `fail_after_hours`.",
    )
    deadline_cron: str | None = Field(
        default=None,
        description="Instead: cron expression of the moment at which new images must be there, "
        "such as `0 7 * * *`.",
    )
    lower_bound_hours: float = Field(
        default=24,
        gt=0,
        description="With `deadline_cron`: how many hours before that moment they may be made.",
    )
    timezone: str = Field(default="UTC", description="IANA name of the time zone of the cron.")

    @model_validator(mode="after")
    def _one_kind(self) -> Freshness:
        fail, warn = self.fail_after_hours, self.warn_after_hours
        if (fail is None) == (self.deadline_cron is None):
            raise ConfigError("freshness", "one of fail_after_hours and deadline_cron is needed")
        if warn is not None and (fail is None or warn >= fail):
            reason = f"{warn} and {fail}: warn_after_hours < fail_after_hours is needed"
            raise ConfigError("freshness", reason)
        return self


class Checks(Settings):
    """What the checks allow before they warn or fail. Rates are shares of one partition, 0 to 1."""

    rejected_rate_warn: Share = Field(
        default=0.0, description="More rejected prompt rows than this share are a warning."
    )
    rejected_rate_error: Share = Field(
        default=1.0, description="The same share; more are an error."
    )
    failure_rate_warn: Share = Field(
        default=0.05,
        description="Share of the images that valid rows ask for; more missing ones are a warning.",
    )
    failure_rate_error: Share = Field(default=0.5, description="The same share; more are an error.")
    missing_file_rate_warn: Share = Field(
        default=0.0,
        description="Share of the images; more without a file are a warning, where files are kept.",
    )
    missing_file_rate_error: Share = Field(
        default=1.0, description="The same share; more are an error."
    )
    budget_usd_per_window: Decimal | None = Field(
        default=None,
        gt=0,
        description="USD that a window may be charged in all its partitions. Judged afterwards; it "
        "stops nothing. Left out: the window's cap in `budget_usd`, else there is no such check.",
    )
    forbidden_levels: Sequence[str] = Field(
        default=(),
        description="Levels of the content rating that no image may have, such as `nsfw`.",
    )
    unrated_share_warn: Share = Field(
        default=0.0,
        description="Share of the images; more whose rating failed are a warning.",
    )
    freshness: Freshness | None = Field(
        default=None, description="How old `images` may be. Left out: no policy."
    )

    @model_validator(mode="after")
    def _warn_before_error(self) -> Checks:
        for name in ("rejected_rate", "failure_rate", "missing_file_rate"):
            warn, error = getattr(self, f"{name}_warn"), getattr(self, f"{name}_error")
            if warn > error:
                reason = f"{warn} and {error}: {name}_warn ≤ {name}_error is needed"
                raise ConfigError(f"checks.{name}_warn", reason)
        return self


# The limits of these values by revision, checked before anything is read or sent.


def require_within_limits(
    request: ImageRequest, delivery: Delivery, limits: RevisionLimits
) -> None:
    """
    Check the settings that no column of the table can hold: rating levels and webhooks.

    Raises:
        ConfigError: Names the setting, what it is, and what the revision allows.
    """
    if request.rating is not None:
        _require_sound_rating(request.rating, limits)
    setting, most = "delivery.webhook_urls", limits.custom_webhooks_max
    if len(delivery.webhook_urls) > most:
        reason = f"{len(delivery.webhook_urls)} endpoints; at most {most} are allowed"
        raise ConfigError(setting, reason)
    for url in delivery.webhook_urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(setting, "each must be an http or https URL")


def require_sound_follow_up(settings: FollowUpSettings, limits: RevisionLimits) -> None:
    """
    Check the levels of a rating.

    Raises:
        ConfigError: Names the setting, what it is, and what the revision allows.
    """
    _require_sound_rating(Rating(settings.levels), limits, setting="levels")


def _require_sound_rating(
    rating: Rating, limits: RevisionLimits, setting: str = "request.rating"
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
