"""Conversion of our errors to Dagster's failures: reason, fate of the money, and next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from mynth_dagster.engine.stop import RERUN, passing_reason
from mynth_dagster.errors import (
    LedgerUnavailableError,
    MynthError,
    RunStoppedError,
    UnauthorizedError,
)

NOTHING_SENT = "nothing was sent and nothing was charged."


def in_words(
    error: MynthError, *, money: str = NOTHING_SENT, rerun: str = RERUN, next_step: str = ""
) -> str:
    """
    Describe an error in one line: reason, money, next step.

    Args:
        money: What became of it; a `RunStoppedError` has its own.
        rerun: How to go on once the cause is gone.
        next_step: Instead of the error's own.
    """
    if isinstance(error, RunStoppedError):
        return str(error)
    why = str(error).rstrip(".")
    return f"{why}. Money: {money} Next: {next_step or _next_step(error, rerun)}"


def _next_step(error: MynthError, rerun: str) -> str:
    if isinstance(error, UnauthorizedError):
        return f"check the API key, then {rerun}"
    return f"later {rerun}" if is_passing(error) else f"mend what it names, then {rerun}"


def is_passing(error: MynthError) -> bool:
    """Whether another try may end otherwise with nothing changed."""
    return isinstance(error, LedgerUnavailableError) or passing_reason(error) is not None


def tick_in_words(error: MynthError) -> str:
    """Describe why a sensor's tick was skipped; a tick only reads."""
    again = "the next tick tries again."
    next_step = again if is_passing(error) else f"mend what it names; {again}"
    return in_words(error, money="looking is free, and nothing is lost.", next_step=next_step)


@contextmanager
def errors_as_failures(
    *, money: Callable[[MynthError], str] = lambda _: NOTHING_SENT, rerun: str = RERUN
) -> Iterator[None]:
    """Turn errors that this package raises on purpose into failures, without a retry."""
    try:
        yield
    except MynthError as error:
        message = in_words(error, money=money(error), rerun=rerun)
        raise dg.Failure(message, allow_retries=False) from error
