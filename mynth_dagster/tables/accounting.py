"""
What each prompt row came to: its images, or why there are none.

For each row, images and image-level failures together are as many as were asked for,
or there is exactly one failure of the whole request. This is checked, not hoped.
An image whose file could not be had was delivered and paid for all the same: it stays an image,
and its failed download is told beside, outside of that sum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mynth_dagster.limits import INTENT_TAG_KEY
from mynth_dagster.models.failure import (
    REJECTED_INPUT,
    Download,
    Failure,
    KeptFile,
    failure_not_submitted,
    failure_of_download,
    failure_of_image,
    failure_of_intent,
    failure_of_missing_image,
    failure_of_problem,
    is_readable,
    says_nothing_of_the_past,
)
from mynth_dagster.models.intent import Intent, choose_shown
from mynth_dagster.models.money import split_units
from mynth_dagster.models.task import ImageOutcome, Task
from mynth_dagster.models.transitions import IntentState

NO_DOWNLOADS: Mapping[str, Mapping[int, Download]] = MappingProxyType({})
DELIVERING = (IntentState.COMPLETED, IntentState.PARTIAL)


class UnaccountedRowError(AssertionError):
    """A prompt row would be in no table, or in too many; a fault of this package."""

    def __init__(self, request_key: str, counts: str) -> None:
        super().__init__(f"row {request_key!r} is not accounted for exactly: {counts}")
        self.request_key = request_key


@dataclass(frozen=True)
class AskedRow:
    """One row of the prompt table, as far as results need it; `problem` is its three cells."""

    prompt_id: str
    request_key: str
    request_hash: str | None
    prompt: str | None
    model: str | None
    count: int | None
    problem: tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class DeliveredImage:
    """
    An image, what it cost in units of 10⁻⁸ USD (None until known), and its file if kept.

    `cost_basis` is `image` where Mynth told its own cost, `allocated` where only a sum.
    """

    outcome: ImageOutcome
    cost_units: int | None
    cost_basis: str | None = None
    file: KeptFile | None = None


@dataclass(frozen=True)
class RowAccount:
    """
    All that became of one row; `status` is the shown intent's, or why there is none.

    `undownloaded` are failed downloads of `images`.
    """

    status: str
    images: tuple[DeliveredImage, ...] = ()
    failures: tuple[Failure, ...] = ()
    undownloaded: tuple[Failure, ...] = ()
    intent: Intent | None = None
    task: Task | None = None

    @property
    def metadata_json(self) -> str | None:
        """The user's metadata as it came back with the task; None where there was none."""
        metadata = dict(self.task.metadata) if self.task else {}
        metadata.pop(INTENT_TAG_KEY, None)
        return json.dumps(metadata, ensure_ascii=False, separators=(",", ":")) if metadata else None


def account_for(
    row: AskedRow,
    intents: Sequence[Intent],
    tasks: Mapping[str, Task],
    *,
    now_us: int,
    stop_code: str | None = None,
    downloads: Mapping[str, Mapping[int, Download]] = NO_DOWNLOADS,
) -> RowAccount:
    """
    What became of a row whose intents, of all generations, are given.

    `downloads` are by intent id and image index.

    Raises:
        UnaccountedRowError: The result would not account for the row exactly.
    """
    code, field, message = row.problem
    if code is None:
        assert row.request_hash is not None
        shown = choose_shown(intents, row.request_hash)
    else:
        shown = _delivered_before(row, intents) if says_nothing_of_the_past(code) else None
        if shown is None or shown.task_id not in tasks:
            failure = failure_of_problem(code, field, message or code)
            return RowAccount(REJECTED_INPUT, failures=(failure,))
    if shown is None:
        failure = failure_not_submitted(stop_code)
        return RowAccount(failure.status, failures=(failure,))
    task = tasks.get(shown.task_id or "")
    if shown.state not in DELIVERING or task is None:
        failure = failure_of_intent(shown, now_us=now_us, task=task)
        return RowAccount(failure.status, failures=(failure,), intent=shown, task=task)
    account = _account_for_task(shown, task, downloads.get(shown.intent_id, {}))
    _require_exact(row, account, n_outcomes=len(task.images))
    return account


def _delivered_before(row: AskedRow, intents: Sequence[Intent]) -> Intent | None:
    """
    What was paid for stays in the tables when its files are gone, or its revision.

    A row that still says what it asks for shows only what was delivered for just that.
    """
    code = row.problem[0] or ""
    if is_readable(code):
        shown = choose_shown(intents, row.request_hash) if row.request_hash else None
        return shown if shown is not None and shown.state in DELIVERING else None
    delivered = [i for i in intents if i.state in DELIVERING and i.n_asked == row.count]
    return max(delivered, key=lambda intent: intent.generation, default=None)


def _account_for_task(intent: Intent, task: Task, downloads: Mapping[int, Download]) -> RowAccount:
    delivered = [image for image in task.images if _is_reachable(image)]
    costs = _costs(intent, task, delivered)
    of_images = [downloads.get(image.index) for image in delivered]
    failures = [
        failure_of_image(intent, image) for image in task.images if not _is_reachable(image)
    ]
    mentioned = {image.index for image in task.images}
    failures += [
        failure_of_missing_image(intent, index)
        for index in range(intent.n_asked)
        if index not in mentioned
    ]
    return RowAccount(
        status=intent.state.value,
        images=tuple(map(_delivered, delivered, costs, of_images)),
        failures=tuple(sorted(failures, key=lambda failure: failure.image_index or 0)),
        undownloaded=tuple(failure_of_download(intent, d) for d in of_images if d and not d.file),
        intent=intent,
        task=task,
    )


def _delivered(
    image: ImageOutcome, cost_units: int | None, download: Download | None
) -> DeliveredImage:
    basis = "image" if image.cost_units is not None else "allocated"
    return DeliveredImage(
        image,
        cost_units,
        None if cost_units is None else basis,
        download.file if download else None,
    )


def _is_reachable(image: ImageOutcome) -> bool:
    """Whether the image was delivered somewhere: to Mynth's store or to the user's own."""
    lost = image.destination_status == "failed" and not image.url and not image.mynth_url
    return image.delivered and not lost


def _costs(intent: Intent, task: Task, delivered: Sequence[ImageOutcome]) -> list[int | None]:
    """Each image's own cost; where only a sum is known, what is left of it in equal shares."""
    known = [image.cost_units for image in delivered]
    n_unknown = known.count(None)
    total = intent.charged_units if task.cost_units is None else task.cost_units
    if not n_unknown or total is None:
        return known
    rest = total - sum(image.cost_units or 0 for image in task.images)
    if rest < 0:
        return known
    shares = iter(split_units(rest, n_unknown))
    return [next(shares) if cost is None else cost for cost in known]


def _require_exact(row: AskedRow, account: RowAccount, *, n_outcomes: int) -> None:
    # More outcomes than asked for would still be charged: they are all shown.
    expected = max(row.count or 0, n_outcomes)
    n_images, n_failures = len(account.images), len(account.failures)
    indices = {image.outcome.index for image in account.images}
    indices |= {failure.image_index or 0 for failure in account.failures}
    if n_images + n_failures != expected or len(indices) != expected:
        counts = f"{n_images} images and {n_failures} failures for {row.count} asked"
        raise UnaccountedRowError(row.request_key, counts)
