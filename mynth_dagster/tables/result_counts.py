"""Running totals of the result tables of one slice."""

from __future__ import annotations

from collections import Counter

from mynth_dagster.models.intent import Intent, SurplusTask
from mynth_dagster.models.transitions import FINAL, IntentState
from mynth_dagster.tables.accounting import AskedRow, RowAccount

SAMPLE_IMAGES = 12

_NEVER_CHARGED = frozenset({IntentState.WITHHELD, IntentState.CLEARED, IntentState.REJECTED})


class ResultCounts:
    """Running totals of a slice."""

    def __init__(self) -> None:
        self.n_rows = self.n_images_asked = self.n_cost_unknown = 0
        self.reserved_units = self.charged_units = 0
        self.statuses: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.sample: list[dict[str, str | None]] = []

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
        self.codes.update(failure.error_code for failure in account.failures)
        missing = SAMPLE_IMAGES - len(self.sample)
        self.sample += [
            {"prompt_id": row.prompt_id, "prompt": row.prompt, "url": image.outcome.url}
            for image in account.images[: max(missing, 0)]
        ]
