"""What a settled task has to show, before a revision spells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mynth_dagster.simulator import invented
from mynth_dagster.simulator.draws import draw_whole
from mynth_dagster.simulator.orders import Inspection, Order
from mynth_dagster.simulator.switches import Switches
from mynth_dagster.simulator.tasks import Task

if TYPE_CHECKING:
    from mynth_dagster.simulator.destinations import DestinationStore
    from mynth_dagster.simulator.scenario import Scenario


class View(NamedTuple):
    """
    Under which choices a task is spelled.

    Args:
        base_url: Scheme and host of image URLs, without a trailing slash.
        choices: The scenario's switches, filled.
        private_destinations: Destinations whose images have no public URL.
        failing_destinations: Destinations that take no image.
        unratable: Images of prompts that contain this cannot be rated.
        destinations: Users' own storage.
    """

    base_url: str
    choices: Switches
    private_destinations: tuple[str, ...] = ()
    failing_destinations: tuple[str, ...] = ()
    unratable: str | None = None
    destinations: DestinationStore | None = None

    @classmethod
    def under(cls, base_url: str, scenario: Scenario, destinations: DestinationStore) -> View:
        """What this scenario shows."""
        return cls(
            base_url,
            scenario.choices,
            scenario.private_destinations,
            scenario.failing_destinations,
            scenario.unratable,
            destinations,
        )

    def url_of(self, image: Image, task: Task) -> str | None:
        """
        Public URL of an image: the destination's if it went to one, else Mynth's.

        None if the destination did not take it or has no URLs.
        """
        name = image.destination
        if name in (*self.private_destinations, *self.failing_destinations):
            return None
        if name is None or self.destinations is None:
            return image.url
        try:
            return self.destinations.url_of(task, name, image.image_id, image.format)
        except KeyError:  # of a revision that did not know whose destinations there are
            return image.url


@dataclass(frozen=True, slots=True)
class Image:
    """
    One image of a settled task.

    Args:
        image_id: ``img_…``.
        url: Where its bytes are, without a key.
        pixels: ``"1024x1024"``.
        cost: Units of 10⁻⁸ USD.
        level: Value of the rating scale; None: not rated.
        error_code: Upper case; None: the image succeeded.
        format: ``webp``, ``png`` or ``jpg``.
        destination: Slug of the user's own storage that it went to, or None.
    """

    image_id: str
    url: str
    pixels: str
    cost: int
    level: str | None
    error_code: str | None
    format: str
    destination: str | None


def images_of(task: Task, base_url: str) -> Iterator[Image]:
    """The images of a task that shows any, in order."""
    order, outcome = task.order, task.outcome
    assert not isinstance(order, Inspection)
    failed = frozenset(outcome.failed)
    for i in range(task.n_images):
        image_id = task.image_id(i)
        yield Image(
            image_id=image_id,
            url=f"{base_url}/cdn/{image_id}.{outcome.format}",
            pixels=outcome.pixels,
            cost=task.image_share(i),
            level=_level(order.rating_levels, task.seed, order.prompt, i)
            if isinstance(order, Order)
            else None,
            error_code=outcome.code if i in failed else None,
            format=outcome.format,
            destination=order.destination,
        )


def ratings_of(task: Task) -> Iterator[tuple[str, str]]:
    """Each URL of a rating task with its level."""
    assert isinstance(task.order, Inspection)
    for i, url in enumerate(task.order.urls):
        yield url, _level(task.order.levels, task.seed, url, i) or ""


def enhanced_prompt(order: Order) -> str:
    """What enhancement makes of a prompt."""
    return order.prompt + invented.MAGIC_SUFFIX


def motif_of(task: Task, image_index: int) -> int:
    """The number that an image is drawn from."""
    order = task.order
    subject = order.prompt if isinstance(order, Order) else order.urls[0]
    return draw_whole(task.seed, "picture", subject, task.outcome.model, image_index)


def describe(task: Task, url: str) -> str:
    """An alt text."""
    return invented.ALT_TEXTS[draw_whole(task.seed, "alt", url) % len(invented.ALT_TEXTS)]


def score(task: Task, url: str) -> int:
    """A review's score: 2 to 4."""
    return 2 + draw_whole(task.seed, "score", url) % 3


def message_of(code: str) -> str:
    """Prose for a task's or an image's error code."""
    texts = {
        "RESTRICTED_CONTENT": invented.RESTRICTED_TEXT,
        "CAPABILITY_NOT_SUPPORTED": invented.CAPABILITY_TEXT,
        "OUTPUT_TOO_LARGE": invented.OUTPUT_TOO_LARGE_TEXT,
    }
    return texts.get(code.upper(), invented.FAILED_TEXT)


def _level(levels: tuple[str, ...] | None, seed: int, text: str, index: int) -> str | None:
    if levels is None:
        return None
    toss = draw_whole(seed, "rating", text, index)
    return levels[0] if toss % 4 else levels[toss // 4 % len(levels)]
