"""One task of the simulated API, from its creation to its settlement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mynth_dagster.simulator.ids import compose_ulid
from mynth_dagster.simulator.orders import Inspection, Order, Rework, TaskType

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key

Status = Literal["pending", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What will become of a task; drawn when it is made, shown when it settles.

    Args:
        model: Concrete model id; never ``auto``.
        pixels: Width and height of every image, such as ``1024x1024``.
        failed: 0-based indexes of the images that fail, ascending.
        code: Error code of the failure, upper case; None: nothing fails.
        fails_whole: Whether the task fails before it has any image.
        keeps_images: Whether a task without a good image still shows the bad ones.
        is_stuck: Whether the task stays pending until settled by its id.
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
    ``cost`` and ``settled_us`` are None while the task is pending; ``cost`` of a failed task is 0.
    """

    __slots__ = (
        "body",
        "cost",
        "created_us",
        "due_s",
        "key",
        "latency_s",
        "number",
        "order",
        "outcome",
        "price",
        "reserved",
        "seed",
        "settled_s",
        "settled_us",
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
        self.settled_us: int | None = None
        self.settled_s = 0.0
        self.shows_images = False

    @property
    def type(self) -> TaskType:
        """Kind of the task, as the API names it."""
        return self.order.type

    @property
    def updated_us(self) -> int:
        """Time of the last change: settlement, else creation."""
        return self.created_us if self.settled_us is None else self.settled_us

    @property
    def is_pending(self) -> bool:
        """Whether the task has not settled."""
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
