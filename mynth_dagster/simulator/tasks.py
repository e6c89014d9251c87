"""What a request asks for, in the simulator's own words, and the task that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.rng import make_ulid
from mynth_dagster.simulator.scenario import TaskType

Enhancement = Literal["off", "magic", "native"]
Status = Literal["pending", "completed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """
    What any request for a task has, whichever revision it came in.

    Args:
        type: Kind of the task that it makes.
        format: ``webp``, ``png`` or ``jpg``; None: what the model or provider makes.
        wants_token: Whether a public access token is issued.
        destination: Slug of the user's own storage, or None.
        webhook_urls: Custom webhooks of this request.
        silences_registered: Whether the account's own webhooks stay silent.
        intent_tag: The client's own mark in the metadata, or None.
    """

    type: TaskType
    format: str | None = None
    wants_token: bool = False
    destination: str | None = None
    webhook_urls: tuple[str, ...] = ()
    silences_registered: bool = False
    intent_tag: str | None = None

    @property
    def n_images(self) -> int:
        """How many images it asks for."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest(TaskRequest):
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
        quality: 0 to 100; None: not asked for.
        n_inputs: Number of input images.
        enhancement: Who rewrites the prompt.
        rating_levels: Values of the rating scale, mildest first; None: no rating.
        rates_custom: Whether that scale is the caller's own.
    """

    type: TaskType = "image.generate"
    prompt: str
    negative_prompt: str | None = None
    model: str
    size: str
    auto_size_by: str = "mynth"
    is_4k: bool = False
    count: int = 1
    quality: int | None = None
    n_inputs: int = 0
    enhancement: Enhancement = "off"
    rating_levels: tuple[str, ...] | None = None
    rates_custom: bool = False

    @property
    def n_images(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest(TaskRequest):
    """
    One request to rate, describe or review images; it makes none.

    Args:
        urls: The images; one, but for the ratings of 2026-04.
        levels: Values of the rating scale, mildest first.
        effort: Of a review, if it has a price of its own: ``low`` or ``high``.
    """

    urls: tuple[str, ...]
    levels: tuple[str, ...] = ()
    effort: str | None = None

    @property
    def n_images(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRequest(TaskRequest):
    """
    One request to make one image of another: larger, or without its background.

    Args:
        urls: The image, one.
        factor: How many times wider and higher the new one is; 1: as large.
        effort: Of an upscale: ``low`` or ``high``.
        source_pixels: Width and height of the image at the URL.
    """

    urls: tuple[str]
    factor: int = 1
    effort: str | None = None
    source_pixels: str = ""

    @property
    def n_images(self) -> int:
        return 1


AnyRequest = GenerateRequest | AnalysisRequest | EditRequest


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What will become of a task; chosen when it is made, shown when it ends.

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


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedTask:
    """
    A task: what was asked, by whom, what it holds, and what became of it.

    Amounts are units of 10⁻⁸ USD, times UTC microseconds; ``due_s`` and ``finished_s`` are on
    `Clock.elapsed_s`.
    ``reserved`` is what is held, ``price`` what it costs if everything succeeds (never more).
    ``cost`` and ``finished_us`` are None while the task is pending; ``cost`` of a failed task is 0.
    """

    number: int
    seed: int
    key: Key
    request: AnyRequest
    body: bytes
    reserved: int
    price: int
    created_us: int
    outcome: Outcome
    latency_s: float = 0.0
    due_s: float = 0.0
    task_id: str = ""
    status: Status = "pending"
    cost: int | None = None
    finished_us: int | None = None
    finished_s: float = 0.0
    shows_images: bool = False

    def __post_init__(self) -> None:
        self.task_id = "tsk_" + make_ulid(self.created_us, self.number, self.seed)

    @property
    def type(self) -> TaskType:
        """Kind of the task, as the API names it."""
        return self.request.type

    @property
    def updated_us(self) -> int:
        """Time of the last change: its end, else creation."""
        return self.created_us if self.finished_us is None else self.finished_us

    @property
    def is_pending(self) -> bool:
        """Whether the task has not ended."""
        return self.status == "pending"

    @property
    def event(self) -> str:
        """``task.image.generate.completed`` and its like; always the specific name."""
        return f"task.{self.type}.{self.status}"

    @property
    def event_id(self) -> str:
        """Id of the one event that tells of its end, the same for every endpoint and attempt."""
        return "evt_" + make_ulid(self.updated_us, self.number, self.seed)

    @property
    def n_images(self) -> int:
        """How many images were asked for; 0 for a task that only looks at images."""
        return self.request.n_images

    def image_id(self, image_index: int) -> str:
        """Id of an image, 0-based."""
        return "img_" + make_ulid(self.created_us, self.number, self.seed, image_index)

    def image_share(self, image_index: int) -> int:
        """What an image costs if it succeeds: its part of the price, the remainder on the first."""
        per_image, rest = divmod(self.price, self.n_images)
        return per_image + (rest if image_index == 0 else 0)

    def finish(self, all_failed: str | None, at_us: int, at_s: float) -> None:
        """Show the outcome; ``all_failed`` is the quirk about tasks without a good image."""
        outcome = self.outcome
        works = not outcome.fails_whole
        has_good_image = works and (not self.n_images or len(outcome.failed) < self.n_images)
        is_complete = has_good_image or (works and all_failed == "completed")
        keeps = works and (outcome.keeps_images or all_failed == "failed_with_images")
        lost = sum(map(self.image_share, outcome.failed))
        self.cost = self.price - lost if has_good_image else 0
        self.status = "completed" if is_complete else "failed"
        self.shows_images = self.n_images > 0 and (is_complete or keeps)
        self.finished_us, self.finished_s = at_us, at_s
