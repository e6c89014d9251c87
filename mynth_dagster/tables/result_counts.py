"""Running totals of the result tables of one slice, and samples of them for people."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from mynth_dagster.clock import US_PER_S
from mynth_dagster.models.failure import NOT_SUBMITTED, REJECTED_INPUT, Failure, MoneyOutcome
from mynth_dagster.models.intent import Intent, SurplusTask
from mynth_dagster.models.transitions import FINAL, STALLED, IntentState
from mynth_dagster.tables.accounting import AskedRow, DeliveredImage, RowAccount

SAMPLE_IMAGES = 24
UNRATED = "(not rated)"
EXAMPLES_PER_CODE = 3

_S = IntentState
_UNSENT_IN_WORDS = {
    REJECTED_INPUT: "rejected",
    NOT_SUBMITTED: "not sent",
    _S.WITHHELD.value: "not sent",
    _S.CLEARED.value: "not sent",
}
_SENT_IN_WORDS = {
    _S.COMPLETED.value: "delivered",
    _S.PARTIAL.value: "delivered in part",
    _S.FAILED.value: "failed",
    _S.REJECTED.value: "refused",
    _S.SENDING.value: "pending",
    _S.ACCEPTED.value: "pending",
    STALLED: "stalled",
}

_OPEN = frozenset({_S.UNRESOLVED.value, STALLED, _S.SENDING.value, _S.ACCEPTED.value})
_NEVER_CHARGED = frozenset({IntentState.WITHHELD, IntentState.CLEARED, IntentState.REJECTED})


@dataclass(frozen=True)
class SampleImage:
    """
    One of the first images of a slice.

    `intent_id` and `image_index` (0-based) name it; money is in units of 10⁻⁸ USD.
    """

    intent_id: str
    image_index: int
    prompt_id: str
    prompt: str
    model: str
    url: str | None
    mynth_url: str | None = None
    width: int | None = None
    height: int | None = None
    cost_units: int | None = None
    file_uri: str | None = None

    @property
    def link(self) -> str | None:
        """Where the full image is."""
        return self.url or self.mynth_url


@dataclass
class FailureKind:
    """
    Failures of one code: how many, the first ones' prompt ids, and one of them in words.

    `n_open`: of rows that wait for evidence or for their task.
    """

    code: str
    message: str
    next_step: str
    money: MoneyOutcome
    n_failures: int = 0
    n_retryable: int = 0
    examples: list[str] = field(default_factory=list)
    n_open: int = 0


class ResultCounts:
    """Running totals of a slice."""

    def __init__(self) -> None:
        self.n_rows = self.n_images_asked = self.n_images_missing = self.n_cost_unknown = 0
        self.n_files = self.n_undownloaded = self.n_images_beyond_asked = 0
        self.reserved_units = self.charged_units = 0
        self.statuses: Counter[str] = Counter()
        self.kinds: dict[str, FailureKind] = {}
        self.images: list[SampleImage] = []
        self.levels: Counter[str] = Counter()
        self.rows_by_level: dict[str, list[str]] = {}
        self._task_s = array("d")

    @property
    def codes(self) -> dict[str, int]:
        """Failures by code."""
        return {code: kind.n_failures for code, kind in sorted(self.kinds.items())}

    @property
    def median_task_s(self) -> float | None:
        """Seconds that a task took, by Mynth's clock; None where none ended."""
        return median(self._task_s) if self._task_s else None

    def add_intent(self, intent: Intent) -> None:
        if intent.charged_units is not None:
            self.charged_units += intent.charged_units
        elif intent.state not in _NEVER_CHARGED:
            self.n_cost_unknown += 1
        if intent.state not in FINAL:
            self.reserved_units += intent.reserved_units or 0

    def add_surplus(self, surplus: SurplusTask) -> None:
        cost = surplus.task.cost_units if surplus.task else None
        self.charged_units += cost or 0
        self.n_cost_unknown += cost is None

    def add_account(self, row: AskedRow, account: RowAccount) -> None:
        self.n_rows += 1
        self.statuses[account.status] += 1
        if row.problem[0] is None:
            self.n_images_asked += row.count or 0
            self.n_images_missing += max(0, (row.count or 0) - len(account.images))
        for failure in (*account.failures, *account.undownloaded):
            self._add_failure(row, failure)
        self.n_images_beyond_asked += max(0, len(account.images) - (row.count or 0))
        self.n_undownloaded += len(account.undownloaded)
        self.n_files += sum(image.file is not None for image in account.images)
        for level in filter(None, map(_level, account.images)):
            self.levels[level] += 1
            add_example(self.rows_by_level.setdefault(level, []), row.prompt_id)
        missing = SAMPLE_IMAGES - len(self.images)
        self.images += [_sampled(row, account, image) for image in account.images[:missing]]
        task = account.task
        if task is not None and task.status.is_final:
            self._task_s.append((task.updated_at_us - task.created_at_us) / US_PER_S)

    def _add_failure(self, row: AskedRow, failure: Failure) -> None:
        code = failure.error_code
        kind = self.kinds.get(code)
        if kind is None:
            kind = FailureKind(code, failure.error_message, failure.next_step, failure.money)
            self.kinds[code] = kind
        kind.n_failures += 1
        kind.n_retryable += failure.retryable
        kind.n_open += failure.status in _OPEN
        add_example(kind.examples, row.prompt_id)


def rows_in_words(by_status: Mapping[str, int]) -> str:
    """
    What became of prompt rows, by the statuses of all of them, as sums that add up.

    `8 rows = 1 rejected + 7 sent; 7 sent = 6 delivered + 1 failed`
    """
    unsent, sent = Counter[str](), Counter[str]()
    for status, n_rows in by_status.items():
        if status in _UNSENT_IN_WORDS:
            unsent[_UNSENT_IN_WORDS[status]] += n_rows
        else:
            sent[_SENT_IN_WORDS.get(status, status)] += n_rows
    rows = f"{unsent.total() + sent.total()} rows = {_added({**unsent, 'sent': sent.total()})}"
    return f"{rows}; {sent.total()} sent = {_added(sent)}" if sent.total() else rows


def add_example(examples: list[str], prompt_id: str) -> None:
    """Keep the first few rows, each once."""
    if len(examples) < EXAMPLES_PER_CODE and prompt_id not in examples:
        examples.append(prompt_id)


def _added(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{n} {what}" for what, n in counts.items())


def _level(image: DeliveredImage) -> str | None:
    """The content rating of an image; `UNRATED` where that failed, None where none was asked."""
    return image.outcome.rating_level or (UNRATED if image.outcome.rating_error else None)


def _sampled(row: AskedRow, account: RowAccount, image: DeliveredImage) -> SampleImage:
    outcome = image.outcome
    assert account.intent is not None
    resolved = account.task.model if account.task else None
    return SampleImage(
        intent_id=account.intent.intent_id,
        image_index=outcome.index,
        prompt_id=row.prompt_id,
        prompt=row.prompt or "",
        model=resolved or row.model or "",
        url=outcome.url,
        mynth_url=outcome.mynth_url,
        width=outcome.width,
        height=outcome.height,
        cost_units=image.cost_units,
        file_uri=image.file.uri if image.file else None,
    )
