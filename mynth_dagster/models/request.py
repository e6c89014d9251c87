"""One request for images as a value; `wire` spells it for a revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

from mynth_dagster.limits import AUTO_MODEL
from mynth_dagster.models.task import IMAGE_TASK


@dataclass(frozen=True)
class InputImage:
    """
    An image that a request starts from.

    Args:
        url: Where Mynth reads it; or a file, local or remote, that has to be uploaded first.
        role: What it is for, as the revision names it.
        identity: Stands for the content where the URL does not: `file_identity` of a file, or
            `key_identity` where a row names its inputs itself.
    """

    url: str
    role: str | None = None
    identity: str | None = None

    @property
    def content_hash(self) -> str | None:
        """SHA-256 (hex) of the file to be uploaded; None if Mynth reads the URL itself."""
        kind, _, rest = (self.identity or "").partition(":")
        return rest if kind == _FILE else None


_FILE, _KEY = "sha256", "key"


def is_data_uri(url: str) -> bool:
    """Whether an input contains its bytes instead of an address."""
    return url[:5].lower() == "data:"


def file_identity(content_hash: str) -> str:
    """Return the identity of an input file: its content, whatever its name and place."""
    return f"{_FILE}:{content_hash}"


def key_identity(key: str, index: int) -> str:
    """Return the identity of an input whose row has a key that stands for its inputs."""
    return f"{_KEY}:{key}:{index}"


@dataclass(frozen=True)
class RatingLevel:
    """
    One level of a custom content rating.

    Args:
        value: The level's name, such as `nsfw`.
        description: What an image of this level shows.
    """

    value: str
    description: str


@dataclass(frozen=True)
class Rating:
    """
    Content rating during generation.

    Args:
        levels: Own levels, mildest first, 2 to 7; none: Mynth's sfw and nsfw.
    """

    levels: tuple[RatingLevel, ...] = ()


@dataclass(frozen=True)
class Routing:
    """The parts of a request that do not change pixels; they are not part of its identity."""

    metadata_json: str | None = None
    destination: str | None = None
    webhook_urls: tuple[str, ...] = ()
    mute_registered_webhooks: bool = False
    with_token: bool = False


@dataclass(frozen=True)
class RowRequest:
    """
    The request for one row's images, with the revision's defaults left open.

    `None` means "as Mynth does by default". `enhance` is `"magic"` (Mynth rewrites the prompt),
    `"native"` (the model's own way) or None.
    """

    prompt: str
    negative_prompt: str | None = None
    model: str = AUTO_MODEL
    size: str | None = None
    count: int = 1
    inputs: tuple[InputImage, ...] = ()
    output_format: str | None = None
    output_quality: int | None = None
    enhance: str | None = None
    rating: Rating | None = None
    routing: Routing = Routing()


_COMPACT_ASCII = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))

HASH_VERSION = 1
"""The version of `request_hash` that new intents are stored with."""


def request_hash(request: RowRequest, version: int = HASH_VERSION) -> str:
    """
    Hash everything in a request that changes pixels.

    Returns ``"<version>:<32 hex>"``. Stored hashes are compared by the function of their own
    version for ever, so that an upgrade never pays for a table again.
    Not covered: metadata, destination, webhooks, tokens.

    Raises:
        KeyError: A version that no release has written.
    """
    text = _COMPACT_ASCII.encode(_COVERED_BY_VERSION[version](request))
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()
    return f"{version}:{digest[:32]}"


def hash_version(stored: str) -> int:
    """Return the version that a stored hash was made with."""
    return int(stored.partition(":")[0])


def _covered_v1(request: RowRequest) -> list[object]:
    rating = request.rating
    return [
        request.prompt,
        request.negative_prompt,
        request.model,
        request.size,
        request.count,
        [[image.identity or image.url, image.role] for image in request.inputs],
        request.output_format,
        request.output_quality,
        request.enhance,
        None if rating is None else [[level.value, level.description] for level in rating.levels],
    ]


_COVERED_BY_VERSION: dict[int, Callable[[RowRequest], list[object]]] = {1: _covered_v1}


# A follow-up: to have an image rated, described or reviewed; `wire` spells the request.


class FollowUpKind(str, Enum):
    """What is asked about an image; the value is the word of routes and task types."""

    RATE = "rate"
    ALT = "alt"
    REVIEW = "review"

    @property
    def task_type(self) -> str:
        """As Mynth names the task, and as prices are configured."""
        return f"image.{self.value}"

    @property
    def table(self) -> str:
        """The table, and the asset, that holds the answers."""
        return _TABLES[self]


_TABLES = {
    FollowUpKind.RATE: "ratings",
    FollowUpKind.ALT: "alt_texts",
    FollowUpKind.REVIEW: "reviews",
}
FOLLOW_UP_TASKS = tuple(kind.task_type for kind in FollowUpKind)
"""The types of the tasks that follow up images."""


def task_type_of(model: str) -> str:
    """The type of the task that is made for this model; a follow-up names its type there."""
    return model if model in FOLLOW_UP_TASKS else IMAGE_TASK


KINDS_BY_TABLE = {table: kind for kind, table in _TABLES.items()}


@dataclass(frozen=True)
class FollowUpSettings:
    """
    What is asked about each image of a batch.

    Args:
        levels: Own levels of a rating, mildest first; none: Mynth's sfw and nsfw.
        effort: Of a review, `low` or `high`; None: as Mynth does.
    """

    kind: FollowUpKind
    levels: tuple[RatingLevel, ...] = ()
    effort: str | None = None


@dataclass(frozen=True)
class FollowUpRequest:
    """
    What is asked about one image.

    It costs the same whatever the image: the attributes that a price depends on are constants.

    Args:
        url: Where Mynth reads the image.
        image: The image's `image_name`.
    """

    settings: FollowUpSettings
    url: str
    image: str

    count: ClassVar[int] = 1
    size: ClassVar[str | None] = None
    inputs: ClassVar[tuple[InputImage, ...]] = ()
    enhance: ClassVar[str | None] = None
    rating: ClassVar[Rating | None] = None

    @property
    def model(self) -> str:
        """What prices and budgets know it by."""
        return self.settings.kind.task_type


PaidRequest = RowRequest | FollowUpRequest
"""What one paid request asks for."""


def follow_up_key(request_key: str, image_index: int) -> str:
    """The key of an image's follow-ups within its window."""
    return f"{request_key}#{image_index}"


def image_name(intent_id: str, image_index: int) -> str:
    """The name of an image, whatever its URL: what `follow_up_hash` knows it by."""
    return f"{intent_id}/{image_index}"


def follow_up_hash(settings: FollowUpSettings, image: str) -> str:
    """
    Return what two equal follow-ups share: the image, and the settings.

    Returns ``"<version>:<32 hex>"``, as `request_hash` does.
    """
    levels = [[level.value, level.description] for level in settings.levels]
    covered = [settings.kind.value, image, levels, settings.effort]
    text = json.dumps(covered, ensure_ascii=True, separators=(",", ":"))
    return f"{HASH_VERSION}:{hashlib.sha256(text.encode('ascii')).hexdigest()[:32]}"


def doing_of(request: PaidRequest) -> str:
    """Return the last part of the route that a request is sent to."""
    return request.settings.kind.value if isinstance(request, FollowUpRequest) else "generate"


def normal_url(url: str) -> str:
    """Normalise a URL to compare it: scheme and host in lower case, no escapes, no fragment."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), path, parts.query, ""))
