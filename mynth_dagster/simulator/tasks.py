"""One task of the simulated API, from its creation to its end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from mynth_dagster.clock import US_PER_S, utc_from_us

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key


# What a request asks for, in the simulator's own words, whichever revision it came in.


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


# Chance that repeats: every draw is a hash of the seed and of what it is drawn for.
#
# No generator is shared, so the order of concurrent requests cannot change who is unlucky.


_SPAN = 2**64


def draw_whole(seed: int, *parts: object) -> int:
    """A whole number in ``[0, 2**64)`` for ``parts``."""
    text = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def draw(seed: int, *parts: object) -> float:
    """A number in ``[0, 1)`` for ``parts``."""
    return (draw_whole(seed, *parts) >> 11) / (_SPAN >> 11)


# Spelling of times: ISO-8601 in UTC with milliseconds and ``Z``, as the API writes them.


US_PER_MS = 1_000


def spell_instant(at_us: int) -> str:
    """A microsecond timestamp as ``2026-11-22T06:42:00.123Z``."""
    seconds, rest_us = divmod(at_us, US_PER_S)
    return f"{_spell_second(seconds)}.{rest_us // US_PER_MS:03d}Z"


@lru_cache(maxsize=1024)
def _spell_second(seconds: int) -> str:
    return utc_from_us(seconds * US_PER_S).strftime("%Y-%m-%dT%H:%M:%S")


# Ids as the API shapes them: a prefix and 26 characters of a ULID.
#
# A ULID is 48 bits of milliseconds and 80 bits of noise. Here the noise is the task's running
# number (40 bits), 33 bits that depend on seed and number, and 7 bits that count a task's images.
# So ids grow in the order of creation, an image's id leads back to its task, and nothing has to be
# stored to find either.


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's, without I, L, O and U
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_BODY_CHARS = 26
_INDEX_BITS = 7
_NOISE_BITS = 33


def compose_ulid(at_us: int, number: int, seed: int, image_index: int = -1) -> str:
    """
    The 26 characters for the ``number``-th task, or for one of its images.

    Args:
        at_us: Time of creation, UTC microseconds.
        number: Running number of the task, 0-based.
        seed: The scenario's seed.
        image_index: 0-based index of the image; -1 for the task itself.
    """
    noise = draw_whole(seed, "id", number) >> (64 - _NOISE_BITS)
    value = at_us // US_PER_MS
    value = (value << 40) | number
    value = (value << _NOISE_BITS) | noise
    value = (value << _INDEX_BITS) | (image_index + 1)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def read_ulid(body: str) -> tuple[int, int] | None:
    """The running number and image index (-1: a task) of 26 characters; None if malformed."""
    if len(body) != _BODY_CHARS or not all(letter in _VALUES for letter in body):
        return None
    value = 0
    for letter in body:
        value = (value << 5) | _VALUES[letter]
    index = (value & ((1 << _INDEX_BITS) - 1)) - 1
    number = (value >> (_INDEX_BITS + _NOISE_BITS)) & ((1 << 40) - 1)
    return number, index


def compose_id(prefix: str, seed: int, *parts: object) -> str:
    """An id for what is not a task: a webhook (``wh_``), an upload."""
    value = (draw_whole(seed, prefix, *parts) << 64) | draw_whole(seed, prefix, "low", *parts)
    pairs = [_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)]
    return prefix + "".join(pairs)[:_BODY_CHARS]


Status = Literal["pending", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What will become of a task; drawn when it is made, shown when it ends.

    Args:
        model: Concrete model id; never ``auto``.
        pixels: Width and height of every image, such as ``1024x1024``.
        failed: 0-based indexes of the images that fail, ascending.
        code: Error code of the failure, upper case; None: nothing fails.
        fails_whole: Whether the task fails before it has any image.
        keeps_images: Whether a task without a good image still shows the bad ones.
        is_stuck: Whether the task stays pending until completed by its id.
        format: File format of every image: ``webp``, ``png`` or ``jpg``.
    """

    model: str = ""
    pixels: str = ""
    failed: tuple[int, ...] = ()
    code: str | None = None
    fails_whole: bool = False
    keeps_images: bool = False
    is_stuck: bool = False
    format: str = "webp"


class Task:
    """
    A task: what was asked, by whom, what it holds, and what became of it.

    Amounts are units of 10⁻⁸ USD, times UTC microseconds.
    ``reserved`` is what is held, ``price`` what it costs if everything succeeds (never more).
    ``cost`` and ``finished_us`` are None while the task is pending; ``cost`` of a failed task is 0.
    """

    __slots__ = (
        "body",
        "cost",
        "created_us",
        "due_s",
        "finished_s",
        "finished_us",
        "key",
        "latency_s",
        "number",
        "order",
        "outcome",
        "price",
        "reserved",
        "seed",
        "shows_images",
        "status",
        "task_id",
    )

    def __init__(
        self,
        *,
        number: int,
        seed: int,
        key: Key,
        order: Order | Inspection | Rework,
        body: bytes,
        reserved: int,
        price: int,
        created_us: int,
    ) -> None:
        self.number = number
        self.seed = seed
        self.key = key
        self.order = order
        self.body = body
        self.reserved = reserved
        self.price = price
        self.created_us = created_us
        self.task_id = "tsk_" + compose_ulid(created_us, number, seed)
        self.status: Status = "pending"
        self.outcome = Outcome()
        self.latency_s = 0.0
        self.due_s = 0.0
        self.cost: int | None = None
        self.finished_us: int | None = None
        self.finished_s = 0.0
        self.shows_images = False

    @property
    def type(self) -> TaskType:
        """Kind of the task, as the API names it."""
        return self.order.type

    @property
    def updated_us(self) -> int:
        """Time of the last change: its end, else creation."""
        return self.created_us if self.finished_us is None else self.finished_us

    @property
    def is_pending(self) -> bool:
        """Whether the task has not ended."""
        return self.status == "pending"

    @property
    def n_images(self) -> int:
        """How many images were asked for; 0 for a task that only looks at images."""
        return self.order.n_images

    @property
    def event_id(self) -> str:
        """Id of the one event that tells of its end, the same for every endpoint and attempt."""
        return "evt_" + compose_ulid(self.updated_us, self.number, self.seed)

    def image_id(self, image_index: int) -> str:
        """Id of an image, 0-based."""
        return "img_" + compose_ulid(self.created_us, self.number, self.seed, image_index)

    def image_share(self, image_index: int) -> int:
        """What an image costs if it succeeds: its part of the price, the remainder on the first."""
        each, rest = divmod(self.price, self.n_images)
        return each + (rest if image_index == 0 else 0)
