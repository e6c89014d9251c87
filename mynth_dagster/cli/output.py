"""What a command prints, for people or as JSON, and its exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console, RenderableType
from typer.core import TyperGroup

from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, RunOptions
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

JSON_OPTION = "--json"
AsJson = Annotated[
    bool, typer.Option(JSON_OPTION, help="Print one JSON document on stdout, errors too.")
]

EXIT_OK = 0
EXIT_OTHER = 1
EXIT_INPUT = 2
EXIT_OPEN = 3

NOTHING_SENT = "Nothing was sent and nothing was charged."
AS_FAR_AS_IT_CAME = (
    "What was sent before is in the ledger. Run it again: only what is still missing is sent."
)
PAYS_AGAIN = (
    "Leave out --force and --retry to go on: with them, the rows that this run sent again would "
    "be paid for once more. Rows that it did not reach stay as they were."
)

_INPUT_ERRORS = (ConfigError, ConfirmationNeededError, TableError, UnauthorizedError)


class CommandOutput:
    """
    The output of one command.

    Its result goes to stdout, as lines or with `--json` as one document; so does an error with
    `--json`. Progress, notes and questions go to stderr.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stderr = Console(stderr=True)

    def result(self, document: Mapping[str, Any], *lines: str | RenderableType) -> None:
        """Print the result: the document, or the lines that tell people the same."""
        if self.as_json:
            say_json(document)
            return
        console = Console()
        for line in lines:
            if isinstance(line, str):
                say(console, line)
            else:
                console.print(line)

    def note(self, text: str) -> None:
        """Print what is no part of the result."""
        say(self.stderr, text)

    @contextmanager
    def errors_as_exit_codes(
        self,
        n_posts: Callable[[], int] = lambda: 0,
        *,
        options: RunOptions = DEFAULT_RUN_OPTIONS,
    ) -> Iterator[None]:
        """
        Print errors that this package raises on purpose, and exit with their codes.

        ``n_posts`` returns how many paid requests were made by then: an unusable table is an input
        error only before the first. ``options`` is what a repetition would pay for again.
        """
        try:
            yield
        except _INPUT_ERRORS as error:
            was_sent = n_posts() > 0
            money = AS_FAR_AS_IT_CAME if was_sent else NOTHING_SENT
            code = EXIT_OTHER if was_sent else EXIT_INPUT
            self._fail(error, code, money, pays_again=options.pays_again and was_sent)
        except MynthError as error:
            lacks_prices = isinstance(error, PriceUnknownError) and n_posts() == 0
            code = EXIT_INPUT if lacks_prices else EXIT_OTHER
            self._fail(error, code, pays_again=options.pays_again and n_posts() > 0)
        except OSError as error:
            pays_again = options.pays_again and n_posts() > 0
            self._fail(error, EXIT_OTHER, AS_FAR_AS_IT_CAME, pays_again=pays_again)

    def _fail(
        self, error: Exception, code: int, money: str = "", *, pays_again: bool = False
    ) -> NoReturn:
        notes = [note for note in (money, PAYS_AGAIN if pays_again else "") if note]
        if self.as_json:
            say_json(error_document(error, str(error), code, notes))
        else:
            self.note("\n".join([str(error), *notes]))
        raise typer.Exit(code) from None

    def ask_if_needed(self, work: Callable[[RunOptions], T], options: RunOptions) -> T:
        """Do the work; if it needs a confirmation and there is a terminal, ask, then do it."""
        try:
            return work(options)
        except ConfirmationNeededError as error:
            if self.as_json or not (self.stderr.is_terminal and sys.stdin.isatty()):
                raise
            self.note(str(error))
            if not typer.confirm("Pay for them again?", err=True):
                self.note(NOTHING_SENT)
                raise typer.Exit(EXIT_INPUT) from None
            return work(replace(options, confirm=True))


def say(console: Console, text: str) -> None:
    """Print plain text: data is not interpreted as markup, and lines are not wrapped."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def say_json(document: Mapping[str, Any]) -> None:
    """Print JSON on standard output, without characters that a terminal interprets."""
    typer.echo(json.dumps(document, indent=2).replace("\x7f", "\\u007f"))


def error_document(
    error: BaseException, message: str, code: int, notes: list[str]
) -> dict[str, Any]:
    """Describe an error for machines; ``notes`` say what became of the money, and how to go on."""
    kind = type(error).__name__
    return {"error": {"type": kind, "message": message, "notes": notes, "exit_code": code}}


class CommandGroup(TyperGroup):
    """The commands. With `--json`, a wrong command line and a fault of ours are documents too."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Parse the command line, and run its command."""
        given = sys.argv[1:] if args is None else list(args)
        if JSON_OPTION not in given:
            return super().main(args, *rest, **settings)
        try:
            code = super().main(given, **{**settings, "standalone_mode": False})
        except typer.Abort as error:
            code = EXIT_OTHER
            say_json(error_document(error, "interrupted", code, [AS_FAR_AS_IT_CAME]))
        except Exception as error:  # noqa: BLE001 - reported, with its traceback on stderr
            # typer brings its parser, whose errors have these two, under changing names.
            code = getattr(error, "exit_code", EXIT_OTHER)
            if describe := getattr(error, "format_message", None):
                say_json(error_document(error, describe(), code, [NOTHING_SENT]))
            else:
                traceback.print_exc()
                say_json(error_document(error, str(error), code, [AS_FAR_AS_IT_CAME]))
        sys.exit(code or EXIT_OK)
