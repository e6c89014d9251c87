"""Mynth's tasks and their images, and the catalogue and account, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mynth_dagster.models.transitions import Event

IMAGE_TASK = "image.generate"
"""The type of a task that makes images."""

MYNTH_TASKS = frozenset(
    {
        *(IMAGE_TASK, "image.rate", "image.alt", "image.review"),
        *("image.remove_background", "image.upscale", "video.generate"),
    }
)
"""The types of tasks that Mynth documents."""


class TaskStatus(str, Enum):
    """The three states that Mynth knows."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self is not TaskStatus.PENDING


@dataclass(frozen=True)
class Fault:
    """Why a task or an image failed: a code in lower snake case, and prose where there is any."""

    code: str
    message: str | None = None


@dataclass(frozen=True)
class CreatedTask:
    """The response to a paid POST. Money in units of 10⁻⁸ USD, None if it is not reported."""

    task_id: str
    reserved_units: int | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PublicAccessToken:
    """
    A secret that opens one task's status and result.

    `expires_at_us` follows from the revision's documented lifetime; Mynth does not return it.
    """

    token: str = field(repr=False)
    expires_at_us: int


@dataclass(frozen=True)
class ListedTask:
    """One entry of the task list; `status` is None where it is none that Mynth documents."""

    task_id: str
    type: str
    status: TaskStatus | None
    cost_units: int | None


@dataclass(frozen=True)
class ImageOutcome:
    """
    One image of a task, delivered or failed.

    Args:
        index: 0-based in the task's order.
        rating_error: Code of a rating that failed; the image was made all the same.
        destination_error: Code of a delivery to the destination that failed.
    """

    index: int
    image_id: str | None = None
    url: str | None = None
    mynth_url: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    cost_units: int | None = None
    rating_level: str | None = None
    rating_error: str | None = None
    destination: str | None = None
    destination_status: str | None = None
    destination_error: str | None = None
    fault: Fault | None = None

    @property
    def delivered(self) -> bool:
        return self.fault is None


@dataclass(frozen=True)
class Task:
    """
    A task as its owner reads it.

    `updated_at_us` of a finished task is when it finished. `metadata` is what we sent along.
    `prompt_asked` is as the request has it, `prompt_sent` as Mynth enhanced it.
    `cost_units` is None until known. A follow-up has no images:
    `image_url` is the image that it is about, and `findings` what it says, in Mynth's words.
    """

    task_id: str
    status: TaskStatus
    created_at_us: int
    updated_at_us: int
    model: str | None = None
    images: tuple[ImageOutcome, ...] = ()
    faults: tuple[Fault, ...] = ()
    cost_units: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prompt_asked: str | None = field(default=None, compare=False)
    prompt_sent: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    type: str = IMAGE_TASK
    image_url: str | None = None
    findings: Mapping[str, Any] | None = None

    @property
    def n_delivered(self) -> int:
        """Images, or the findings of a follow-up."""
        if self.findings is not None:
            return 1
        return sum(image.delivered for image in self.images)

    @property
    def first_fault(self) -> Fault | None:
        """Why it failed: the task's own fault, else that of its first failed image."""
        faults = [*self.faults, *(image.fault for image in self.images if image.fault)]
        return faults[0] if faults else None


@dataclass(frozen=True)
class TaskEvent:
    """
    What a webhook says of a task of ours.

    `task` is the finished task where the event tells all of it; None: it has to be read.
    """

    task_id: str
    status: TaskStatus
    metadata: Mapping[str, Any] = field(default_factory=dict)
    task: Task | None = None


@dataclass(frozen=True)
class ModelInputs:
    """
    How many input images a model takes in one request.

    Args:
        at_least: Fewer are not enough, where there are any.
        at_most: 0: it takes none; None: as many as the revision allows.
    """

    at_least: int = 0
    at_most: int | None = None


@dataclass(frozen=True)
class CatalogModel:
    """
    A model of the catalogue; prices in units of 10⁻⁸ USD per image, None where unknown.

    Args:
        has_4k: Whether it makes 4k sizes; None: not in the catalogue.
        takes_text: Whether a prompt alone is enough; None: not in the catalogue.
        inputs: The input images that it takes; None: not in the catalogue.
    """

    model_id: str
    display_name: str | None = None
    base_units: int | None = None
    base_4k_units: int | None = None
    per_input_units: int | None = None
    has_4k: bool | None = None
    takes_text: bool | None = None
    inputs: ModelInputs | None = None


@dataclass(frozen=True)
class Offers:
    """
    The models and destinations that the server lists, as far as they could be read.

    Args:
        catalog: Its models by id; None: not known.
        destinations: The account's own storage by name; None: not known.
    """

    catalog: Mapping[str, CatalogModel] | None = None
    destinations: frozenset[str] | None = None

    def model(self, model_id: str) -> CatalogModel | None:
        """Return a model of the catalogue; None if nothing is known of it."""
        return (self.catalog or {}).get(model_id)


NOTHING_LISTED = Offers()


@dataclass(frozen=True)
class Estimate:
    """What one request will reserve; `exact` is False for an upper bound."""

    units: int
    exact: bool


@dataclass(frozen=True)
class Account:
    """
    The account of a key and what the key may do, as far as the revision returns it.

    Args:
        scopes: What the key may do, such as ``generate`` and ``manage``; None: not known.
        spending: What the key may spend; None: not known.
    """

    user_id: str
    key_id: str | None = None
    scopes: frozenset[str] | None = None
    spending: SpendingLimit | None = None

    def may(self, scope: str) -> bool:
        """Whether the key has a scope; True if its scopes are not known."""
        return self.scopes is None or scope in self.scopes


@dataclass(frozen=True)
class SpendingLimit:
    """
    The spending limit of one key in a period, in units of 10⁻⁸ USD.

    Args:
        limit_units: None: without a limit.
        period: ``day``, ``week`` or ``month``.
    """

    limit_units: int | None = None
    period: str | None = None
    used_units: int | None = None
    remaining_units: int | None = None


@dataclass(frozen=True)
class RegisteredWebhook:
    """A webhook of the account; only its creation returns the secret."""

    webhook_id: str
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Balance:
    """An account's money in units of 10⁻⁸ USD."""

    balance_units: int
    reserved_units: int
    available_units: int


def outcome_event(task: Task, n_asked: int) -> Event:
    """
    Return the event that a finished task is for its intent.

    A completed task that delivered nothing is a failure of the row: Mynth does not document when
    such a task is called `failed`.
    """
    if task.status is TaskStatus.FAILED or task.n_delivered == 0:
        return Event.FAIL
    return Event.COMPLETE if task.n_delivered >= n_asked else Event.DELIVER_PARTLY
