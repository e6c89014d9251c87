"""What a batch's defaults may ask for, by revision; checked before anything is read or sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import RevisionLimits
from mynth_dagster.models.batch import RequestDefaults
from mynth_dagster.models.inspection import EFFORTS, InspectionKind, InspectionSettings
from mynth_dagster.models.request import Rating


def require_within_limits(defaults: RequestDefaults, limits: RevisionLimits) -> None:
    """
    Check the settings that no column of the table can hold: rating levels and webhooks.

    Raises:
        ConfigError: Names the setting, what it is, and what the revision allows.
    """
    if defaults.rating is not None:
        _require_sound_rating(defaults.rating, limits)
    _require_sound_webhooks(defaults.webhook_urls, limits)


def require_sound_inspection(settings: InspectionSettings, limits: RevisionLimits) -> None:
    """
    Check what is asked about images.

    Raises:
        ConfigError: Names the setting, what it is, and what the revision allows.
    """
    if settings.effort not in (None, *EFFORTS):
        raise ConfigError("effort", f"{settings.effort!r} is none of {', '.join(EFFORTS)}")
    if settings.effort is not None and settings.kind is not InspectionKind.REVIEW:
        raise ConfigError("effort", "only reviews have an effort")
    if settings.levels and settings.kind is not InspectionKind.RATE:
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
