"""What a person asks for beyond what is missing, and when that needs a second word. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from mynth_dagster.errors import ConfirmationNeededError
from mynth_dagster.limits import RESEND_GUARD_ROWS, RESEND_GUARD_SHARE
from mynth_dagster.models.failure import is_retryable
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.money import format_usd
from mynth_dagster.models.transitions import FINAL, IntentState

CONFIRM = "confirm it (`--confirm`, or `confirm: true` in the run's configuration)."


class Retry(str, Enum):
    """Which finished rows are asked for again, as a new generation that is paid for."""

    NONE = "none"
    RETRYABLE = "retryable"
    FAILED = "failed"
    PARTIAL = "partial"


@dataclass(frozen=True)
class Asking:
    """
    A person's wishes for one run.

    Args:
        retry: `retryable` (failed or refused, and may end otherwise), `failed` (all failed and
            refused rows), `partial` (also rows of which some images failed).
        force: Ask for every finished row again, delivered or not.
        prompt_ids: Only rows with these ids are sent at all; empty means every row.
        confirm: The run may pay again for a large part of a partition.
        begun_at_us: Since when rows are asked for again, by the ledger's clock: what was claimed
            at or after it is left alone. None: a wish of this run alone.
    """

    retry: Retry = Retry.NONE
    force: bool = False
    prompt_ids: frozenset[str] = frozenset()
    confirm: bool = False
    begun_at_us: int | None = None

    @property
    def pays_again(self) -> bool:
        """Whether finished rows are asked for again, so that a repetition would pay once more."""
        return self.force or self.retry is not Retry.NONE

    @property
    def is_special(self) -> bool:
        """Whether delivered rows may be asked for again, or some rows are left out."""
        return self.force or bool(self.prompt_ids)

    def covers(self, prompt_id: str) -> bool:
        """Whether the run is for this row."""
        return not self.prompt_ids or prompt_id in self.prompt_ids

    def wants_again(self, intent: Intent) -> bool:
        """Whether a finished row is to be asked for anew."""
        if intent.state not in FINAL or self._was_asked_since(intent):
            return False
        if self.force:
            return True
        if intent.state is IntentState.COMPLETED or self.retry is Retry.NONE:
            return False
        if intent.state is IntentState.PARTIAL:
            return self.retry is Retry.PARTIAL
        return self.retry is not Retry.RETRYABLE or is_retryable(intent)

    def _was_asked_since(self, intent: Intent) -> bool:
        return self.begun_at_us is not None and intent.claimed_at_us >= self.begun_at_us


NOTHING_SPECIAL = Asking()


@dataclass
class PaidAgain:
    """
    How much of one partition would be paid for again.

    `n_paid` rows have a task; `n_again` of them would be sent anew; `n_present` of them are in
    the prompt table; `n_new` rows to send were never asked for under their key.
    """

    n_paid: int = 0
    n_again: int = 0
    n_present: int = 0
    n_new: int = 0

    @property
    def n_suspect(self) -> int:
        """Rows paid again: asked anew, or gone while as many new ones came (another key)."""
        return self.n_again + max(0, min(self.n_new, self.n_paid - self.n_present))

    @property
    def needs_confirmation(self) -> bool:
        too_many = self.n_suspect > RESEND_GUARD_ROWS
        return too_many and self.n_suspect > RESEND_GUARD_SHARE * self.n_paid


@dataclass(frozen=True)
class Stake:
    """
    What would be paid again because models or defaults are not those of the last submission.

    Units of 10⁻⁸ USD; `units` is None where a price is not known.
    """

    units: int | None
    limit_units: int

    @property
    def needs_confirmation(self) -> bool:
        return self.units is None or self.units > self.limit_units


NOTHING_AT_STAKE = Stake(0, 0)


def require_confirmed(
    asking: Asking,
    by_partition: Mapping[str, PaidAgain],
    quoted_units: int | None,
    stake: Stake = NOTHING_AT_STAKE,
) -> None:
    """
    Stop before a large part of a partition is paid for again, unless a person said so.

    After a change of models or defaults a small sum is enough.

    Raises:
        ConfirmationNeededError: Names partitions, figures and price; nothing was sent.
    """
    if asking.confirm:
        return
    suspects = {
        key: paid
        for key, paid in by_partition.items()
        if paid.needs_confirmation or (paid.n_suspect and stake.needs_confirmation)
    }
    if not suspects:
        return
    raise ConfirmationNeededError(
        "confirmation_needed",
        f"This would pay again for rows that were paid before: {_in_words(suspects)}. "
        "Did a default, a model or the prompt ids change?",
        money=f"nothing was sent; the run would reserve {format_usd(quoted_units)}.",
        next_step=f"undo the change, or {CONFIRM}",
    )


def _in_words(suspects: Mapping[str, PaidAgain]) -> str:
    shown: Sequence[str] = [
        f"{paid.n_suspect} of {paid.n_paid} in {key}" for key, paid in list(suspects.items())[:5]
    ]
    more = len(suspects) - len(shown)
    return ", ".join(shown) + (f" and {more} more partitions" if more > 0 else "")
