"""What a request asks for, in the simulator's own words, whichever revision it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Enhancement = Literal["off", "magic", "native"]
TaskType = Literal["image.generate", "image.rate", "image.alt", "image.review"]


@dataclass(frozen=True, slots=True)
class Order:
    """
    One request to generate images.

    Args:
        prompt: Positive prompt, as sent.
        negative_prompt: As sent, or None.
        model: Model id as asked for, or ``auto``.
        size: Size word without ``_4k``: a preset, a ratio, or ``auto``.
        auto_size_by: Who chooses the size if it is ``auto``: ``mynth`` or ``native``, the model.
        is_4k: Whether 4k was asked for.
        count: Number of images, from 1.
        format: ``webp``, ``png`` or ``jpg``.
        quality: 0 to 100.
        n_inputs: Number of input images.
        enhancement: Who rewrites the prompt.
        rating_levels: Values of the rating scale, mildest first; None: no rating.
        rates_custom: Whether that scale is the caller's own.
        wants_token: Whether a public access token is issued.
        destination: Slug of the user's own storage, or None.
        webhook_urls: Custom webhooks of this request.
        silences_registered: Whether the account's own webhooks stay silent.
        intent_tag: The client's own mark in the metadata, or None.
    """

    prompt: str
    negative_prompt: str | None
    model: str
    size: str
    auto_size_by: str
    is_4k: bool
    count: int
    format: str
    quality: int
    n_inputs: int
    enhancement: Enhancement
    rating_levels: tuple[str, ...] | None
    rates_custom: bool
    wants_token: bool
    destination: str | None
    webhook_urls: tuple[str, ...]
    silences_registered: bool
    intent_tag: str | None

    @property
    def type(self) -> TaskType:
        """Kind of the task that it makes."""
        return "image.generate"


@dataclass(frozen=True, slots=True)
class Inspection:
    """
    One request to look at images: to rate, describe or review them.

    Args:
        type: ``image.rate``, ``image.alt`` or ``image.review``.
        urls: The images; one, but for the ratings of 2026-04.
        levels: Values of the rating scale, mildest first.
    """

    type: TaskType
    urls: tuple[str, ...]
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WebhookWish:
    """What a registered webhook shall be: body of its creation and of its replacement."""

    enabled: bool
    url: str
    events: str | list[Any]
