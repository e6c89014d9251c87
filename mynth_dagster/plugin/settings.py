"""The models of a `defs.yaml`: each field's meaning, and its value for `build_image_batch`."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal

import dagster as dg
from pydantic import Field

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch import FileSettings, RequestDefaults
from mynth_dagster.models.request import Rating, RatingLevel
from mynth_dagster.plugin.checks import CheckLimits
from mynth_dagster.plugin.follow_ups import FollowUp

Amount = str | float
"""An amount in USD; Dagster's templates turn a text that looks like a number into one."""

_LIMITS = CheckLimits()
_FILES = FileSettings()
_TIME_WINDOWS: dict[str, Callable[..., dg.PartitionsDefinition]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
}


class WindowsModel(dg.Model, dg.Resolvable):
    """The windows of a batch: time windows, or keys of your own."""

    type: Literal["hourly", "daily", "weekly", "monthly", "static", "files"] = Field(
        description="A time window; static: keys of your own; files: one partition for each file "
        "that appears, where prompts is a path such as inbox/{window}.parquet."
    )
    start_date: str | None = Field(
        default=None, description="First window of a time type, such as 2026-11-01."
    )
    timezone: str = Field(default="UTC", description="IANA name of the windows' time zone.")
    end_offset: int = Field(
        default=0, description="1: the window that is going on now is a partition already."
    )
    keys: list[str] = Field(default_factory=list, description="The partition keys of static.")

    def definition(self, batch: str) -> dg.PartitionsDefinition:
        """Dagster's definition of these windows."""
        if self.type == "files":
            return dg.DynamicPartitionsDefinition(name=f"{batch}_files")
        if self.type == "static":
            if not self.keys:
                raise ConfigError("windows.keys", "static windows need keys")
            return dg.StaticPartitionsDefinition(self.keys)
        if self.start_date is None:
            raise ConfigError("windows.start_date", f"{self.type} windows need a start date")
        make = _TIME_WINDOWS[self.type]
        try:
            return make(self.start_date, timezone=self.timezone, end_offset=self.end_offset)
        except ValueError as error:
            raise ConfigError("windows.start_date", f"{self.start_date!r}: {error}") from None
        except (LookupError, OSError, dg.DagsterError) as error:
            raise ConfigError("windows.timezone", f"{self.timezone!r}: {error}") from None


class RatingLevelModel(dg.Model, dg.Resolvable):
    """One level of a custom content rating."""

    value: str = Field(description="The level's name, such as nsfw.")
    description: str = Field(description="What an image of this level shows.")


class DefaultsModel(dg.Model, dg.Resolvable):
    """The values of columns that a row leaves empty."""

    negative_prompt: str | None = Field(default=None, description="What to avoid.")
    size: str | None = Field(default=None, description="A preset, a ratio, …_4k, or auto.")
    count: int = Field(default=1, description="Images per row.")
    output_format: str | None = Field(default=None, description="png, jpg or webp.")
    output_quality: int | None = Field(
        default=None, description="Up to 100; revision 2026-10 has none."
    )
    enhance: str | None = Field(default=None, description="magic or native, as the revision has.")
    rating: bool = Field(default=False, description="Rate each image's content.")
    rating_levels: list[RatingLevelModel] = Field(
        default_factory=list, description="Own levels, 2 to 7; none: Mynth's sfw and nsfw."
    )
    destination: str | None = Field(default=None, description="Name of a destination at Mynth.")
    webhook_urls: list[str] = Field(default_factory=list, description="Up to five endpoints.")
    mute_registered_webhooks: bool = Field(
        default=False, description="Do not call the webhooks registered at Mynth."
    )
    public_access_tokens: bool = Field(
        default=False,
        description="Write each task's public access token to tasks, so that browsers may poll; "
        "the tokens are secrets.",
    )

    def values(self) -> RequestDefaults:
        """As `build_image_batch` takes them."""
        fields = self.model_dump(exclude={"rating", "rating_levels", "webhook_urls"})
        levels = tuple(RatingLevel(level.value, level.description) for level in self.rating_levels)
        rating = Rating(levels) if self.rating or levels else None
        return RequestDefaults(**fields, rating=rating, webhook_urls=tuple(self.webhook_urls))


class FilesModel(dg.Model, dg.Resolvable):
    """Where the files of images are kept, and which are refused."""

    store: str = Field(
        default=_FILES.store,
        description="Folder or fsspec URL under which they are kept; empty: the root of the "
        "tables.",
    )
    concurrency: int = Field(
        default=_FILES.concurrency,
        description="Downloads at once, 1 to 64; about 7 MiB of memory each, 25 with an "
        "object store.",
    )
    max_bytes: int = Field(default=_FILES.max_bytes, description="A larger file is refused.")
    max_pixels: int = Field(
        default=_FILES.max_pixels, description="An image of more pixels is refused."
    )

    def settings(self) -> FileSettings:
        """As `build_image_batch` takes them."""
        return FileSettings(**self.model_dump())


class FollowUpModel(dg.Model, dg.Resolvable):
    """One follow-up of each image, as an asset of its own: a paid task for each image."""

    table: Literal["ratings", "alt_texts", "reviews"] = Field(
        description="ratings, alt_texts or reviews: what is asked, and the last part of the "
        "asset's key."
    )
    levels: list[RatingLevelModel] = Field(
        default_factory=list, description="Own levels of ratings, 2 to 7; none: sfw and nsfw."
    )
    effort: Literal["low", "high"] | None = Field(
        default=None, description="Of reviews, low or high; left out: as Mynth does."
    )
    budget_usd: dict[str, Amount] = Field(
        default_factory=dict,
        description="Caps in USD by partition, window and batch, beside those of the images; "
        "needs prices_usd of image.rate, image.alt or image.review.",
    )
    retries: int = Field(
        default=0, description="How often a follow-up that failed is asked for again by itself."
    )
    automatic: bool = Field(
        default=False,
        description="Request the asset, and pay for it, whenever its images have landed. Dagster's "
        "sensor default_automation_condition_sensor does this; it is off until you switch it on.",
    )

    def values(self) -> FollowUp:
        """As `build_image_batch` takes them."""
        levels = tuple(RatingLevel(level.value, level.description) for level in self.levels)
        caps = {s: usd_from_setting("follow_ups", cap) for s, cap in self.budget_usd.items()}
        return FollowUp(self.table, levels, self.effort, caps, self.retries, self.automatic)


class ChecksModel(dg.Model, dg.Resolvable):
    """What the checks allow before they warn or fail."""

    rejected_rate_warn: float = Field(
        default=_LIMITS.rejected_rate_warn,
        description="Share of a partition's rows, 0 to 1; more rejected rows are a warning.",
    )
    rejected_rate_error: float = Field(
        default=_LIMITS.rejected_rate_error, description="The same share; more are an error."
    )
    failure_rate_warn: float = Field(
        default=_LIMITS.failure_rate_warn,
        description="Share of the images that a partition's valid rows ask for, 0 to 1; more "
        "missing ones are a warning.",
    )
    failure_rate_error: float = Field(
        default=_LIMITS.failure_rate_error, description="The same share; more are an error."
    )
    missing_file_rate_warn: float = Field(
        default=_LIMITS.missing_file_rate_warn,
        description="Share of a partition's images, 0 to 1; more without a file are a warning.",
    )
    missing_file_rate_error: float = Field(
        default=_LIMITS.missing_file_rate_error,
        description="The same share; more are an error.",
    )
    budget_usd_per_window: Amount | None = Field(
        default=None,
        description="USD that a window may be charged in all its partitions, such as 25.00. "
        "Judged afterwards; it stops nothing. Left out: the window's cap in budget_usd.",
    )

    forbidden_levels: list[str] = Field(
        default_factory=list,
        description="Levels of the content rating that no image may have, such as nsfw.",
    )
    unrated_share_warn: float = Field(
        default=_LIMITS.unrated_share_warn,
        description="Share of a partition's images, 0 to 1; more images whose rating failed are a "
        "warning.",
    )

    def limits(self) -> CheckLimits:
        """As `build_image_batch` takes them."""
        fields = self.model_dump(exclude={"budget_usd_per_window", "forbidden_levels"})
        budget = self.budget_usd_per_window
        name = "checks.budget_usd_per_window"
        return CheckLimits(
            **fields,
            forbidden_levels=tuple(self.forbidden_levels),
            budget_usd_per_window=None if budget is None else usd_from_setting(name, budget),
        )


class FreshnessModel(dg.Model, dg.Resolvable):
    """How old `images` may be."""

    fail_after_hours: float = Field(description="Hours without new images that are a failure.")
    warn_after_hours: float | None = Field(
        default=None, description="Hours that are a warning; fewer than fail_after_hours."
    )

    def policy(self) -> dg.FreshnessPolicy:
        """Dagster's policy."""
        warn, fail = self.warn_after_hours, self.fail_after_hours
        if fail * 60 <= 1 or (warn is not None and not 1 < warn * 60 < fail * 60):
            reason = f"{warn} and {fail}: a minute < warn_after_hours < fail_after_hours"
            raise ConfigError("freshness", reason)
        return dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=fail),
            warn_window=None if warn is None else timedelta(hours=warn),
        )


def usd_from_setting(setting: str, amount: Amount | Decimal) -> Decimal:
    """
    Parse an amount that a user wrote.

    Raises:
        ConfigError: It is not a number; names the setting.
    """
    try:
        return Decimal(str(amount))
    except InvalidOperation:
        reason = f"{amount!r} is no amount in USD; amounts are written as 0.04"
        raise ConfigError(setting, reason) from None
