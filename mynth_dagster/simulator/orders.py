"""What a request asks for, in the simulator's own words, whichever revision it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Enhancement = Literal["off", "magic", "native"]
TaskType = Literal[
    "image.generate",
    "image.rate",
    "image.alt",
    "image.review",
    "image.upscale",
    "image.remove_background",
]


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
        format: ``webp``, ``png`` or ``jpg``; None: what the model makes.
        quality: 0 to 100; None: not asked for.
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
    format: str | None
    quality: int | None
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

    @property
    def n_images(self) -> int:
        """How many images it asks for."""
        return self.count


@dataclass(frozen=True, slots=True)
class Inspection:
    """
    One request to look at images: to rate, describe or review them.

    Args:
        type: ``image.rate``, ``image.alt`` or ``image.review``.
        urls: The images; one, but for the ratings of 2026-04.
        levels: Values of the rating scale, mildest first.
        effort: Of a review, if it has a price of its own: ``low`` or ``high``.
    """

    type: TaskType
    urls: tuple[str, ...]
    levels: tuple[str, ...] = ()
    effort: str | None = None

    @property
    def n_images(self) -> int:
        """It makes none."""
        return 0


@dataclass(frozen=True, slots=True)
class Rework:
    """
    One request to make one image of another: larger, or without its background.

    Args:
        type: ``image.upscale`` or ``image.remove_background``.
        url: The image.
        factor: How many times wider and higher the new one is; 1: as large.
        effort: Of an upscale: ``low`` or ``high``.
        format: ``webp``, ``png`` or ``jpg``; None: what the provider makes.
        wants_token: Whether a public access token is issued.
        destination: Slug of the user's own storage, or None.
        webhook_urls: Custom webhooks of this request.
        silences_registered: Whether the account's own webhooks stay silent.
        intent_tag: The client's own mark in the metadata, or None.
        source_pixels: Width and height of the image at the URL.
    """

    type: TaskType
    url: str
    factor: int
    effort: str | None
    format: str | None
    wants_token: bool
    destination: str | None
    webhook_urls: tuple[str, ...]
    silences_registered: bool
    intent_tag: str | None
    source_pixels: str = ""

    @property
    def urls(self) -> tuple[str, ...]:
        """The image, as of an inspection."""
        return (self.url,)

    @property
    def n_images(self) -> int:
        """It makes one."""
        return 1


@dataclass(frozen=True, slots=True)
class WebhookWish:
    """
    What a registered webhook shall be: body of its creation and of its replacement.

    ``api_key_ids`` None: tasks of all keys; ``include_session_tasks``: and those without a key.
    """

    enabled: bool
    url: str
    events: str | list[Any]
    api_key_ids: tuple[str, ...] | None = None
    include_session_tasks: bool = False
