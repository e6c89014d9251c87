"""
Everything that is made up. None of it is a fact about Mynth.

Mynth publishes neither a complete price list, nor a table of pixel sizes, nor any timing, nor the
wording of its messages. A simulator needs all of these, so they are invented here, in one place.
Prices, pixels, the ceiling, latencies and balances can be replaced in the `Scenario`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from types import MappingProxyType
from typing import ClassVar, Final, Literal

from mynth_dagster.limits import AUTO_CEILING_USD as _CEILING_OF_2026_10
from mynth_dagster.limits import MIB

# How long things take: a distribution of seconds over a uniform number.


_SMALLEST = 1e-12  # keeps the inverse of the normal distribution finite


@dataclass(frozen=True)
class Distribution:
    """
    Seconds, never negative.

    Args:
        kind: ``fixed`` uses ``value_s``; ``uniform`` uses ``low_s`` and ``high_s``;
            ``lognormal`` uses ``median_s``, ``sigma`` and, as its upper bound, ``high_s``.
        value_s: The one duration of ``fixed``, seconds. A bare number in JSON means this.
        low_s: Least duration of ``uniform``, seconds.
        high_s: Greatest duration of ``uniform`` and ``lognormal``, seconds.
        median_s: Half of all ``lognormal`` durations are shorter, seconds.
        sigma: Standard deviation of the logarithm, without unit.
    """

    short_form: ClassVar[str] = "value_s"

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    value_s: float = 0.0
    low_s: float = 0.0
    high_s: float = 0.0
    median_s: float = 1.0
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if min(self.value_s, self.low_s, self.high_s, self.sigma) < 0 or self.median_s <= 0:
            raise ValueError("durations must not be negative")
        if self.high_s < self.low_s:
            raise ValueError("low_s must not exceed high_s")

    @property
    def is_nothing(self) -> bool:
        """Whether every duration is zero."""
        return self.kind == "fixed" and not self.value_s

    def at(self, share: float) -> float:
        """The duration below which ``share`` of all durations lie; ``share`` is in ``[0, 1)``."""
        if self.kind == "fixed":
            return self.value_s
        if self.kind == "uniform":
            return self.low_s + share * (self.high_s - self.low_s)
        deviate = NormalDist().inv_cdf(max(share, _SMALLEST))
        duration_s = self.median_s * math.exp(self.sigma * deviate)
        return min(duration_s, self.high_s) if self.high_s else duration_s


NOTICE: Final = (
    "This is a simulator. Prices, pixel sizes, timings, moderation, ratings and the wording of "
    "messages are invented; only the shapes and rules follow Mynth's documentation."
)

API_KEY: Final = "mak_simulator"
USER_ID: Final = "user_simulator"
BALANCE_USD: Final = "1000"
LATENCY: Final = Distribution("uniform", low_s=1.0, high_s=10.0)
WEBHOOK_SECRET: Final = "wbs_simulator"  # noqa: S105 - of an endpoint of the scenario
STANDARD_WEBHOOK_SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
"""The public example of Standard Webhooks, which signs for an endpoint of a scenario in 2026-10."""

RETRY_FIRST_S: Final = 5.0  # documented for 2026-10; earlier revisions say only "exponential"
RETRY_MAX_S: Final = 3600.0  # the same
TOKEN_SECRET: Final = b"a secret that signs only simulated tokens"
NO_DELAY: Final = Distribution()

LIST_PAGE_DEFAULT: Final = 20  # documented for 2026-08; here because no client needs it
MAX_BODY_BYTES: Final = 4 * MIB
MAX_UPLOAD_BODY_BYTES: Final = 101 * MIB  # ten files of 10 MiB and their envelope
UPLOADS_KEPT_BYTES: Final = 256 * MIB  # older uploads are forgotten
PICTURES_KEPT: Final = 64  # rendered pictures in memory
KEEP_ALIVE_S: Final = 75

# -- prices -----------------------------------------------------------------------------------

AUTO_CEILING_USD: Final = _CEILING_OF_2026_10
RATE_USD: Final = "0.0002"  # as in an official example
ALT_USD: Final = "0.0004"  # as in an official example
REVIEW_USD: Final = "0.02"  # as in an official example
REVIEW_LOW_USD: Final = "0.01"  # 2026-10; that it is cheaper is documented, by how much is not
REMOVE_BACKGROUND_USD: Final = "0.02"  # as in an official example
UPSCALE_USD: Final = MappingProxyType(
    {
        (2, "low"): "0.03",  # as in an official example
        (2, "high"): "0.1",
        (4, "low"): "0.06",
        (4, "high"): "0.15",  # as in an official example
    }
)
VIDEO_PRICES_USD: Final[Mapping[str, tuple[Mapping[str, str], str | None]]] = MappingProxyType(
    {  # per second by resolution, and what sound adds; the first two as in official examples
        "bytedance/seedance-2.0-mini": ({"480p": "0.036", "720p": "0.081"}, None),
        "google/gemini-omni-flash-1.1": (
            {"720p": "0.1", "1080p": "0.15", "4k": "0.3"},
            "0.002",
        ),
        "prunaai/p-video": ({"720p": "0.02", "1080p": "0.04"}, None),
    }
)

PRICE_USD: Final = "0.02"  # every model without a line of its own
PRICE_4K_FACTOR: Final = 2
PRICE_PER_INPUT_USD: Final = "0.002"
PRICES_USD: Final = MappingProxyType(
    {
        "black-forest-labs/flux.1-dev": "0.004",  # half of an official example of two
        "black-forest-labs/flux-1-schnell": "0.002",
        "black-forest-labs/flux.2-dev": "0.01",  # as in an official example
        "black-forest-labs/flux.2-pro": "0.05",  # as in an official example; another has 0.03
        "black-forest-labs/flux.2-flex": "0.06",
        "black-forest-labs/flux.2-max": "0.08",
        "black-forest-labs/flux.2-klein-4b": "0.003",
        "google/gemini-3.1-flash-image": "0.0125",  # as in an official example
        "google/gemini-3-pro-image-preview": "0.09",
        "openai/gpt-image-2": "0.06",
        "recraft/recraft-v4": "0.04",
        "recraft/recraft-v4-pro": "0.08",
        "tongyi-mai/z-image-turbo": "0.0025",
    }
)
INPUT_PRICES_USD: Final = MappingProxyType(
    {
        "black-forest-labs/flux.2-pro": "0.01",  # as in an official example
        "black-forest-labs/flux.2-dev": "0.002",  # as in an official example
    }
)
AUTO_CANDIDATES: Final = (
    "google/gemini-3.1-flash-image",
    "black-forest-labs/flux.2-dev",
    "black-forest-labs/flux.2-pro",
    "tongyi-mai/z-image-turbo",
)
"""What ``auto`` may resolve to; the first takes both input images and 4k."""

# -- models of 2026-10 ------------------------------------------------------------------------

FAILURE_CODES: Final = MappingProxyType(
    {"2026-04": "GENERATION_FAILED", "2026-08": "GENERATION_FAILED", "2026-10": "PROVIDER_ERROR"}
)
"""What failed work is called, unless a rule says so; the last one is documented."""

PROVIDER_ERROR: Final = "PROVIDER_ERROR"
PROVIDER_FORMATS: Final = MappingProxyType(
    {
        "black-forest-labs": "jpg",
        "bytedance": "jpg",
        "krea": "jpg",
        "recraft": "webp",
        "ideogram": "webp",
    }
)
INPUTS_MAX: Final = 8  # of a model without a line below; as in an official example
SPLIT_INPUTS_MAX: Final = MappingProxyType(
    {  # sources, references
        "luma/uni-1": (1, 5),
        "luma/uni-1-max": (1, 5),
        "google/gemini-3-pro-image-preview": (1, 5),  # as in an official example
    }
)


def provider_format(model_id: str) -> str:
    """The file format in which a model makes images that nobody asked a format of."""
    return PROVIDER_FORMATS.get(model_id.partition("/")[0], "png")


def inputs_max(model_id: str) -> int:
    """How many inputs a model takes that takes any."""
    return sum(SPLIT_INPUTS_MAX.get(model_id, (INPUTS_MAX,)))


# -- pixels -----------------------------------------------------------------------------------

PIXELS: Final = MappingProxyType(
    {
        "square": "1024x1024",
        "portrait": "1024x1536",
        "landscape": "1536x1024",  # as in an official example
        "portrait_tall": "864x1536",
        "landscape_wide": "1536x864",
        "1:1": "1024x1024",
        "2:3": "832x1248",
        "3:2": "1248x832",
        "3:4": "864x1152",
        "4:3": "1152x864",
        "4:5": "896x1120",
        "5:4": "1120x896",
        "9:16": "720x1280",
        "16:9": "1280x720",
        "21:9": "1512x648",
        "2:1": "1408x704",
        "1:2": "704x1408",
    }
)
FACTOR_4K: Final = 2.5  # each side; a simulated 4k picture stays quick to draw
AUTO_SIZES: Final = ("square", "square", "5:4", "4:5")
MAX_SIDE_PX: Final = 8192
SOURCE_PIXELS: Final = "1024x768"  # of an image to upscale that is none of the simulator's
QUALITY: Final = 80  # of files whose request does not choose it


def read_pixels(text: str) -> tuple[int, int]:
    """
    Width and height of ``"1536x1024"``, pixels.

    Raises:
        ValueError: The text is not of that form, or a side is 0 or above 8192.
    """
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(0 < side <= MAX_SIDE_PX for side in sides):
        raise ValueError(f"{text!r} is not a size in pixels such as '1536x1024'")
    return sides


# -- words ------------------------------------------------------------------------------------

UNAUTHORIZED_TEXT: Final = "The API key is missing or invalid."
WRONG_BEARER_TEXT: Final = "This public access token does not allow that."
EXPIRED_TEXT: Final = "This public access token has expired."
OAUTH_ONLY_TEXT: Final = "API keys cannot manage webhooks; sign in instead."
NOT_FOUND_TEXT: Final = "There is no such resource."
NO_TASK_TEXT: Final = "There is no such task."
METHOD_TEXT: Final = "This method is not allowed here."
TOO_LARGE_TEXT: Final = "The request body is too large."
BALANCE_TEXT: Final = "The available balance is too low to create this task."
LIMIT_TEXT: Final = "The spending limit of this API key is used up for the period."
RESTRICTED_TEXT: Final = "The content was blocked by moderation."
FAILED_TEXT: Final = "The image could not be generated."
CAPABILITY_TEXT: Final = "The model lacks a requested capability."
RATING_FAILED: Final = "RATING_FAILED"
DESTINATION_FAILED: Final = "DESTINATION_FAILED"
DESTINATION_TEXT: Final = "The destination did not take the image."
RATE_TEXT: Final = "Too many requests; try again later."
OUTPUT_TOO_LARGE_TEXT: Final = "The result would exceed 4096 x 4096 pixels."
SCOPE_TEXT: Final = "This API key lacks the scope that this needs."
TOKEN_FAILED_TEXT: Final = "The task was created, but its public access token was not."  # noqa: S105
NO_DESTINATION_TEXT: Final = "is not a destination of this account"
PROVIDERS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "s3": {"bucket": "pictures", "region": "eu-central-1"},
        "r2": {"account_id": "account-1", "bucket": "pictures"},
        "bunny": {"storage_zone": "pictures", "region": "de"},
    }
)
"""What a destination of the scenario tells of its storage."""

PROVIDER_RESPONSE: Final = "<Error><Code>AccessDenied</Code></Error>"
SERVER_TEXT: Final = "Something went wrong on our side."
HTML_PAGE: Final = (
    b"<html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)
GARBAGE: Final = b'{"data":{"taskId": \x00 <<<not json'

MAGIC_SUFFIX: Final = ", soft morning light, fine detail, balanced composition"
ALT_TEXTS: Final = (
    "A stylised landscape with rolling hills under a coloured sky.",
    "Layered hills and a round sun, drawn in flat colours.",
    "An abstract view over hills at dusk.",
)
REVIEW_FINDING: Final = MappingProxyType(
    {
        "finding": "The horizon is slightly tilted.",
        "category": "composition",
        "severity": "minor",
        "where": "centre",
        "confidence": "medium",
    }
)
REVIEW_STRENGTH: Final = MappingProxyType({"strength": "Calm palette.", "confidence": "high"})
REVIEW_SUMMARY: Final = "Usable; one minor remark."


# Money as whole numbers of 10⁻⁸ USD, and the two ways the API writes it.
#
# No float ever holds an amount here, so sums are exact under any order of events.


UNITS_PER_USD = 10**8


def units_of(text: str) -> int:
    """
    The units of a decimal string in USD.

    Raises:
        ValueError: The text is no finite number, or is finer than 10⁻⁸ USD.
    """
    try:
        units = Decimal(text) * UNITS_PER_USD
        whole = int(units)
    except (ArithmeticError, ValueError) as exc:
        raise ValueError(f"{text!r} is not an amount in USD") from exc
    if whole != units:
        raise ValueError(f"{text!r} is finer than 0.00000001 USD")
    return whole


def format_cost(units: int) -> str:
    """Eight decimals, as final costs are written: ``0.01250000``."""
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), UNITS_PER_USD)
    return f"{sign}{whole}.{rest:08d}"


def format_price(units: int) -> str:
    """No trailing zeros, as estimates, balances and prices are written: ``0.0125``, ``12``."""
    return format_cost(units).rstrip("0").rstrip(".")
