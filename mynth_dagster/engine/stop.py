"""The reasons to stop sending, the circuit breaker, and stops that a person sets and lifts."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from mynth_dagster.client.limiter import backoff_s
from mynth_dagster.client.outcome import Cause, Refused, Unknown
from mynth_dagster.clock import Clock, utc_from_us
from mynth_dagster.errors import (
    ConfigError,
    NoAnswerError,
    NotSentError,
    RateLimitedError,
    RevisionUnknownError,
    ServerFaultError,
    UnauthorizedError,
    name_some,
)
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.stops import Stop
from mynth_dagster.limits import (
    EQUAL_REFUSALS_MAX,
    NOT_SENT_RETRIES_MAX,
    REFUSALS_MAX,
    REFUSALS_WITHIN,
    RETRY_AFTER_MAX_S,
    UNKNOWN_IN_A_ROW_MAX,
)
from mynth_dagster.models.batch import Slice

RERUN = "run it again: only what is still missing is sent."


@dataclass(frozen=True)
class StopReason:
    """Why no more is sent: a code for programs, sentences for people."""

    code: str
    message: str
    next_step: str = RERUN


CANCELLED = StopReason("cancelled", "The run was cancelled; answers in flight were recorded.")


def shut_out(why: str) -> StopReason:
    """Return the reason of a run that was fenced in the ledger: it has ended."""
    return StopReason("cancelled", f"The run may send nothing more: {why}")


def stopped_by(stop: Stop) -> StopReason:
    """Return the reason of a run whose rows a person stopped."""
    of = f"--batch {stop.batch}" if stop.batch else "--all"
    return StopReason(
        "stopped",
        f"{stop.who} stopped it at {utc_from_us(stop.at_us):%F %T} UTC: {stop.reason.rstrip('.')}.",
        f"lift it with `mynth-dagster resume {of}` or the batch's job `…_stop`, then {RERUN}",
    )


class CancelToken:
    """
    The flag that stops a run from sending; the first reason stays.

    A cancelled run also stops waiting for tasks that were sent. `halted` are partitions that a
    person stopped while the others go on.
    """

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.is_cancelled = False
        self.halted: dict[Slice, StopReason] = {}

    @property
    def is_set(self) -> bool:
        return self.reason is not None

    def set(self, reason: StopReason) -> None:
        """Send nothing more, for this reason."""
        self.is_cancelled = self.is_cancelled or reason.code == CANCELLED.code
        if self.reason is None:
            self.reason = reason


_STOPS_BY_CAUSE: dict[Cause, tuple[str, str]] = {
    Cause.KEY: ("unauthorized", "check the API key, then "),
    Cause.BALANCE: ("insufficient_balance", "top up the account, then "),
    Cause.LIMIT: ("spending_limit_exceeded", "raise the key's limit or wait for its period, then "),
    Cause.CONFIG: (
        "configuration",
        "leave api_revision at auto or pin the one that `mynth-dagster doctor` names, then ",
    ),
    Cause.GATEWAY: ("gateway", "find out what answers in Mynth's place, then "),
}


def key_refused(error: UnauthorizedError) -> StopReason:
    """Return the reason of a run whose key was valid at its start and is refused now."""
    code, advice = _STOPS_BY_CAUSE[Cause.KEY]
    return StopReason(code, _refused(error.reason), advice + RERUN)


def _refused(reason: str) -> str:
    return f"Mynth refused: {reason.rstrip('.')}."


def passing_reason(error: BaseException | None) -> StopReason | None:
    """Return the reason behind an error that passes by itself; None if something must change."""
    while error is not None:
        if isinstance(error, RateLimitedError):
            return StopReason("rate_limited", _GIVEN_UP["rate_limited"], f"later {RERUN}")
        is_away = isinstance(error, NotSentError | NoAnswerError | ServerFaultError)
        if is_away or (isinstance(error, RevisionUnknownError) and error.may_pass):
            return StopReason(UNREACHABLE, f"Mynth was not reached ({error}).", f"later {RERUN}")
        error = error.__cause__
    return None


UNREACHABLE = "unreachable"
_GIVEN_UP = {
    "unreachable": "Mynth could not be reached for a while.",
    "rate_limited": "Mynth kept answering 429, too many requests.",
}
_ONCE_SETTLED = (
    "where the revision has a task list they are settled by themselves, else by a webhook or "
    f"`mynth-dagster resolve`; then {RERUN}"
)
RETRY_AFTER_RETRIES_MAX = 4 * NOT_SENT_RETRIES_MAX
"""Rounds of 429 with a `Retry-After`: such a server is alive."""


@dataclass
class CircuitBreaker:
    """
    Counts equal outcomes in a row, so that a revoked key does not affect ten thousand rows.

    Pure bookkeeping: it returns the reason to stop, or None; the caller acts on it.
    """

    max_unresolved: int
    refusals: dict[str, int] = field(default_factory=dict)
    newest: deque[bool] = field(default_factory=lambda: deque(maxlen=REFUSALS_WITHIN))
    """For each of the newest responses, whether it was a refusal."""
    unknown_in_a_row: int = 0
    unresolved: int = 0
    silent_rounds: int = 0
    silent_until_s: float = 0.0

    def note_accepted(self) -> None:
        """Note that a task was created: nothing is in a row any more."""
        self.newest.append(False)
        self.refusals.clear()
        self.unknown_in_a_row = 0
        self.silent_rounds = 0

    def note_refusal(self, refused: Refused) -> StopReason | None:
        """
        Note a refusal; stops at once for key, balance or limit, after ten equal ones in a row, and
        if many of the newest responses were refusals.
        """
        self.unknown_in_a_row = 0
        error = refused.error
        if refused.cause in _STOPS_BY_CAUSE:
            code, advice = _STOPS_BY_CAUSE[refused.cause]
            if error.code == "insufficient_scope":
                advice = "use a key with the scope `generate`, then "
            return StopReason(code, _refused(error.reason), advice + RERUN)
        code = error.code or f"http_{error.status}"
        self.refusals = {code: self.refusals.get(code, 0) + 1}
        if self.refusals[code] >= EQUAL_REFUSALS_MAX:
            message = f"{EQUAL_REFUSALS_MAX} rows in a row were refused alike: {error.reason}."
            return StopReason("refused_repeatedly", message, "mend what it names, then " + RERUN)
        self.newest.append(True)
        if sum(self.newest) >= REFUSALS_MAX:
            message = (
                f"{REFUSALS_MAX} of the last {len(self.newest)} rows were refused, the last one: "
                f"{error.reason}."
            )
            return StopReason("refused_repeatedly", message, "mend what they name, then " + RERUN)
        return None

    def note_unknown(self, unknown: Unknown) -> StopReason | None:
        """Note an unknown outcome; stops at once if something else answered in Mynth's place."""
        self.unknown_in_a_row += 1
        self.unresolved += 1
        if unknown.is_foreign:
            code, advice = _STOPS_BY_CAUSE[Cause.GATEWAY]
            message = f"Something else than Mynth answered: {unknown.error.reason.rstrip('.')}."
            return StopReason(code, message, advice + _ONCE_SETTLED)
        in_a_row = self.unknown_in_a_row >= UNKNOWN_IN_A_ROW_MAX
        if not in_a_row and self.unresolved < self.max_unresolved:
            return None
        message = f"{self.unresolved} answers were lost, last: {unknown.error.reason}."
        return StopReason("outcomes_unknown", message, _ONCE_SETTLED)

    def note_silence(
        self, now_s: float, retry_after_s: float | None, *, code: str = "unreachable"
    ) -> float | StopReason:
        """
        Note no connection, or 429; return seconds to pause, shared by all, or the reason to stop.

        Failures within one pause count as one round.

        Args:
            retry_after_s: `Retry-After` in seconds; None where there was none.
            code: `unreachable` or `rate_limited`; of the reason, if the run must stop.
        """
        if retry_after_s is not None and retry_after_s > RETRY_AFTER_MAX_S:
            message = f"Mynth asks to come back in {retry_after_s:.0f} s."
            return StopReason(code, message, f"in {retry_after_s:.0f} s {RERUN}")
        if now_s >= self.silent_until_s:
            self.silent_rounds += 1
            rounds_max = NOT_SENT_RETRIES_MAX if retry_after_s is None else RETRY_AFTER_RETRIES_MAX
            if self.silent_rounds > rounds_max:
                return StopReason(code, _GIVEN_UP[code], f"in a few minutes {RERUN}")
            self.silent_until_s = now_s + max(retry_after_s or 0.0, backoff_s(self.silent_rounds))
        elif retry_after_s is not None:
            self.silent_until_s = max(self.silent_until_s, now_s + retry_after_s)
        return self.silent_until_s - now_s


# Stopping and resuming by a person, from the command line or from a job.


@dataclass(frozen=True)
class StopTarget:
    """
    The target of a stop.

    Args:
        batch: The batch's identity in the ledger; empty: every batch.
        partition: Key of one partition of the batch; None: all.
    """

    batch: str
    partition: str | None = None

    def __str__(self) -> str:
        of = f"batch {self.batch!r}" if self.batch else "any batch"
        return of if self.partition is None else f"partition {self.partition!r} of {of}"

    @property
    def resume_command(self) -> str:
        """The command that lifts the stop."""
        of = f"--batch {self.batch}" if self.batch else "--all"
        only = "" if self.partition is None else f" --partition '{self.partition}'"
        return f"mynth-dagster resume {of}{only}"


async def stop_sending(
    ledger: Ledger, target: StopTarget, *, who: str, reason: str, clock: Clock
) -> Stop:
    """
    Stop the target: once this returns, no run claims a further row of it.

    Raises:
        ConfigError: The ledger knows no such batch or partition; nothing was stopped.
    """
    window, fan_out = await asyncio.to_thread(_place, ledger, target)
    message = reason or "no reason given"
    stop = Stop(target.batch, window, fan_out, who, message, clock.now_us())
    await ledger.stops.stop(stop, clock.instant())
    return stop


async def lift_stops(
    ledger: Ledger, target: StopTarget, *, who: str, clock: Clock
) -> tuple[list[Stop], list[str]]:
    """
    Lift the stops of the target; return those lifted, and descriptions of those that remain.

    Raises:
        ConfigError: The ledger knows no such batch or partition.
    """
    window, fan_out = await asyncio.to_thread(_place, ledger, target)
    lifted = await ledger.stops.lift(target.batch, window, fan_out, who=who, now=clock.instant())
    return lifted, await asyncio.to_thread(stops_of, ledger, target.batch)


def stops_of(ledger: Ledger, batch: str) -> list[str]:
    """Describe the stops of a batch or of parts of it; empty if there are none."""
    return [in_words(stop) for stop in ledger.stops.active() if stop.batch in ("", batch)]


def in_words(stop: Stop) -> str:
    """Describe a stop in one line: what, by whom, when, why."""
    of = f"batch {stop.batch}" if stop.batch else "everything"
    if stop.window is not None:
        of = f"partition {Slice(stop.window, stop.fan_out or '').key} of {of}"
    return f"{of}, by {stop.who} at {utc_from_us(stop.at_us):%F %T} UTC: {stop.reason}"


def _place(ledger: Ledger, target: StopTarget) -> tuple[str | None, str | None]:
    if not target.batch:
        return None, None
    ledger.read.require_batch(target.batch)
    if target.partition is None:
        return None, None
    rows = ledger.read.partitions(target.batch)
    keys = {Slice(row.window, row.fan_out).key: (row.window, row.fan_out) for row in rows}
    if target.partition not in keys:
        known = name_some(list(keys))
        raise ConfigError(
            "partition", f"{target.batch} has no partition {target.partition!r}; it has {known}"
        )
    return keys[target.partition]
