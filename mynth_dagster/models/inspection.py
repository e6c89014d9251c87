"""One wish to have an image looked at: rated, described or reviewed; `wire` spells it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

from mynth_dagster.models.request import ImageRequest, InputImage, Rating, RatingLevel
from mynth_dagster.models.task import IMAGE_TASK

HASH_VERSION = 1


class InspectionKind(str, Enum):
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
    InspectionKind.RATE: "ratings",
    InspectionKind.ALT: "alt_texts",
    InspectionKind.REVIEW: "reviews",
}
INSPECTION_TASKS = tuple(kind.task_type for kind in InspectionKind)
"""The types of the tasks that look at images."""


def task_type_of(model: str) -> str:
    """The type of the task that is made for this model; a look at an image has its own for one."""
    return model if model in INSPECTION_TASKS else IMAGE_TASK


KINDS_BY_TABLE = {table: kind for kind, table in _TABLES.items()}
EFFORTS = ("low", "high")


@dataclass(frozen=True)
class InspectionSettings:
    """
    What is asked about each image of a batch.

    Args:
        levels: Own levels of a rating, mildest first; none: Mynth's sfw and nsfw.
        effort: Of a review, `low` or `high`; None: as Mynth does.
    """

    kind: InspectionKind
    levels: tuple[RatingLevel, ...] = ()
    effort: str | None = None


@dataclass(frozen=True)
class Inspection:
    """
    What is asked about one image.

    It costs the same whatever the image: the attributes that a price depends on are constants.

    Args:
        url: Where Mynth reads the image.
        subject: Names the image, whatever its URL: its intent and its index.
    """

    settings: InspectionSettings
    url: str
    subject: str

    count: ClassVar[int] = 1
    size: ClassVar[str | None] = None
    inputs: ClassVar[tuple[InputImage, ...]] = ()
    enhance: ClassVar[str | None] = None
    rating: ClassVar[Rating | None] = None

    @property
    def model(self) -> str:
        """What prices and budgets know it by."""
        return self.settings.kind.task_type


Wish = ImageRequest | Inspection
"""What one paid request asks for."""


def inspection_hash(settings: InspectionSettings, subject: str) -> str:
    """
    What makes two inspections the same wish: the image, and what is asked about it.

    Returns ``"<version>:<32 hex>"``, as `request_hash` does.
    """
    levels = [[level.value, level.description] for level in settings.levels]
    covered = [settings.kind.value, subject, levels, settings.effort]
    text = json.dumps(covered, ensure_ascii=True, separators=(",", ":"))
    return f"{HASH_VERSION}:{hashlib.sha256(text.encode('ascii')).hexdigest()[:32]}"


def doing_of(wish: Wish) -> str:
    """The last word of the route that a wish is sent to."""
    return wish.settings.kind.value if isinstance(wish, Inspection) else "generate"


def normal_url(url: str) -> str:
    """A URL as it is compared: scheme and host in lower case, escapes resolved, no fragment."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), path, parts.query, ""))
