"""
The options that every request for an image has in 2026-10, whatever it asks for.

Output format, webhooks, public access token, metadata, and the user's own storage.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mynth_dagster.limits import INTENT_TAG_KEY, LIMITS_BY_REVISION
from mynth_dagster.simulator import validation
from mynth_dagster.simulator.validation import Form, Path

LIMITS = LIMITS_BY_REVISION["2026-10"]
FIELDS = ("output", "webhook", "generate_public_access_token", "metadata", "destination")


@dataclass(frozen=True, slots=True)
class Options:
    """What a request says of its outcome and its echo; the names are those of `orders.Order`."""

    format: str | None
    wants_token: bool
    destination: str | None
    webhook_urls: tuple[str, ...]
    silences_registered: bool
    intent_tag: str | None


def read_options(form: Form, formats: Collection[str]) -> Options:
    """The options in a body; ``formats`` are those that the endpoint can make."""
    urls, silences = _read_webhook(form)
    return Options(
        format=_read_format(form, formats),
        wants_token=form.take("generate_public_access_token", validation.as_flag, fallback=False),
        destination=_read_destination(form),
        webhook_urls=urls,
        silences_registered=silences,
        intent_tag=_read_tag(form),
    )


def _read_format(form: Form, formats: Collection[str]) -> str | None:
    output = form.inner("output")
    if output is None:
        return None
    output.close(("format",))
    return output.take("format", validation.as_choice, "", allowed=formats) or None


def _read_webhook(form: Form) -> tuple[tuple[str, ...], bool]:
    webhook = form.inner("webhook")
    if webhook is None:
        return (), False
    webhook.close(("registered", "custom"))
    is_registered = webhook.take("registered", validation.as_flag, fallback=True)

    def read_target(steps: Path, entry: object) -> str:
        target = webhook.form_at(steps, entry)
        if target is None:
            return ""
        target.close(("url",))
        return target.take("url", validation.as_web_url, "", required=True)

    most = LIMITS.custom_webhooks_max
    return tuple(webhook.take_each("custom", read_target, most=most)), not is_registered


def _read_destination(form: Form) -> str | None:
    longest = LIMITS.destination_max_chars
    return form.take("destination", validation.as_slug, "", longest=longest) or None


def _read_tag(form: Form) -> str | None:
    empty: dict[str, Any] = {}
    most = LIMITS.metadata_max_bytes
    metadata = form.take("metadata", validation.as_metadata, empty, max_bytes=most)
    tag = metadata.get(INTENT_TAG_KEY)
    return tag if isinstance(tag, str) else None
