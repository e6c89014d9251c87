"""Errors as exit codes and one clear paragraph; never a traceback for what we raise ourselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import typer
from rich.console import Console

from mynth_dagster.engine.plan import NOTHING_SPECIAL, Asking
from mynth_dagster.errors import (
    ConfigError,
    ConfirmationNeededError,
    MynthError,
    PriceUnknownError,
    TableError,
    UnauthorizedError,
)
from mynth_dagster.printable import printable

T = TypeVar("T")

EXIT_OK = 0
EXIT_OTHER = 1
EXIT_INPUT = 2
EXIT_OPEN = 3

NOTHING_SENT = "Nothing was sent and nothing was charged."
AS_FAR_AS_IT_CAME = (
    "What was sent before is in the ledger. Run it again: only what is still missing is sent."
)
PAYS_AGAIN = (
    "Leave out --force and --retry to go on: with them, what this run asked for again would be "
    "paid for once more. Rows that it did not come to stay as they were."
)

_INPUT_ERRORS = (ConfigError, ConfirmationNeededError, TableError, UnauthorizedError)


@contextmanager
def errors_as_exit_codes(
    console: Console, n_posts: Callable[[], int] = lambda: 0, *, asking: Asking = NOTHING_SPECIAL
) -> Iterator[None]:
    """
    Print what this package raises on purpose, and exit with the code it stands for.

    ``n_posts`` tells how many paid requests were made by then: an unusable table is an input
    error only before the first. ``asking`` is what a repetition would ask for again.
    """

    def then() -> str:
        return f"\n{PAYS_AGAIN}" if asking.pays_again and n_posts() > 0 else ""

    try:
        yield
    except _INPUT_ERRORS as error:
        was_sent = n_posts() > 0
        say(console, f"{error}\n{AS_FAR_AS_IT_CAME if was_sent else NOTHING_SENT}{then()}")
        raise typer.Exit(EXIT_OTHER if was_sent else EXIT_INPUT) from None
    except MynthError as error:
        say(console, f"{error}{then()}")
        lacks_prices = isinstance(error, PriceUnknownError) and n_posts() == 0
        raise typer.Exit(EXIT_INPUT if lacks_prices else EXIT_OTHER) from None
    except OSError as error:
        say(console, f"{error}\n{AS_FAR_AS_IT_CAME}{then()}")
        raise typer.Exit(EXIT_OTHER) from None


def ask_if_needed(console: Console, work: Callable[[Asking], T], asking: Asking) -> T:
    """Do the work; where it would pay again and somebody sits at the terminal, ask, then do it."""
    try:
        return work(asking)
    except ConfirmationNeededError as error:
        if not (console.is_terminal and sys.stdin.isatty()):
            raise
        say(console, str(error))
        if not typer.confirm("Pay for them again?", err=True):
            say(console, NOTHING_SENT)
            raise typer.Exit(EXIT_INPUT) from None
        return work(replace(asking, confirm=True))


def say(console: Console, text: str) -> None:
    """Plain text on the console: nothing in data is obeyed, no line is broken by us."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def say_json(value: object) -> None:
    """JSON on standard output, in characters that no terminal obeys."""
    typer.echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))
