"""Options that several commands share, and the settings that are made from them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, RunOptions
from mynth_dagster.engine.session import EngineSettings, ledger_url_in
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.errors import (
    ConfigError,
    ConfirmationNeededError,
    MynthError,
    PriceUnknownError,
    TableError,
    UnauthorizedError,
)
from mynth_dagster.models.batch import Batch
from mynth_dagster.printable import printable
from mynth_dagster.tables.store import TableStore

Root = Annotated[str, typer.Option("--root", help="Folder or URL of the tables.")]
Ledger = Annotated[
    str | None,
    typer.Option(help="URL of the ledger; by default a SQLite file in the root."),
]
BaseUrl = Annotated[str, typer.Option(envvar="MYNTH_BASE_URL", help="Where the API is.")]
Revision = Annotated[
    str,
    typer.Option("--api-revision", help="2026-10, 2026-08, 2026-04, or auto to detect it."),
]

Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        help="Name of the windows: partition, date, file or key; by default as the folders.",
    ),
]
Identity = Annotated[
    str | None, typer.Option("--identity", help="The batch's identity, if it has one.")
]


def written_batch(
    root: str, name: str, table: str, *, window: str | None, identity: str | None, **fields: Any
) -> Batch:
    """
    Return a batch whose tables lie in the root; its windows have the name that the folders have.

    Raises:
        TableError: The folders have several names, and none is named.
    """
    batch = Batch(name=name, identity=identity, **fields)
    called = window or TableStore(root, name).window_dimension(table)
    return replace(batch, window_dimension=called) if called else batch


def engine_settings(
    root: str, ledger: str | None, base_url: str, revision: str, key: str | None, concurrency: int
) -> EngineSettings:
    """
    Make the settings of a session from options.

    Raises:
        ConfigError: The key is missing, or the ledger's place cannot be derived.
    """
    if not key:
        raise ConfigError("MYNTH_API_KEY", "the environment variable holds no API key")
    return EngineSettings(
        client=ClientSettings(base_url=base_url, api_key=key, concurrency=concurrency),
        ledger_url=ledger or ledger_url_in(root),
        root=root,
        api_revision=revision,
    )


def batch_name(prompts: str) -> str:
    """Derive a batch's name from the name of its prompt table."""
    stem = Path(prompts.rstrip("/")).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_") or "images"


def columns(pairs: list[str]) -> dict[str, str | None]:
    """Parse `ours=theirs` pairs; `ours=` makes the column the user's own."""
    own = [pair[:-1] for pair in pairs if pair.endswith("=") and pair.count("=") == 1]
    named = [pair for pair in pairs if pair[:-1] not in own]
    mapped = mapping("--column", named, "ours=theirs, or ours= where it is your own")
    return {**mapped, **{name: None for name in own if name}}


def prices(pairs: list[str]) -> dict[str, Decimal]:
    """Parse `model=USD` pairs as prices by model."""
    by_model = mapping("--price-usd", pairs, "model=0.04")
    try:
        return {model: Decimal(price) for model, price in by_model.items()}
    except InvalidOperation:
        raise ConfigError("--price-usd", "amounts are numbers such as 0.04") from None


def amount(option: str, usd: str) -> Decimal:
    """Parse an amount in USD."""
    try:
        return Decimal(usd)
    except InvalidOperation:
        raise ConfigError(option, f"{usd!r} is no number such as 0.04") from None


def mapping(option: str, pairs: list[str], form: str) -> dict[str, str]:
    """Parse `left=right` pairs of an option; ``form`` shows how they are written."""
    split = [pair.partition("=") for pair in pairs]
    bad = [pair for pair, parts in zip(pairs, split, strict=True) if not all(parts)]
    if bad:
        raise ConfigError(option, f"{bad[0]!r}: write it as {form}")
    return {left: right for left, _, right in split}


# Errors as exit codes and one clear paragraph; never a traceback for what we raise ourselves.


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
    "Leave out --force and --retry to go on: with them, the rows that this run sent again would "
    "be paid for once more. Rows that it did not reach stay as they were."
)

_INPUT_ERRORS = (ConfigError, ConfirmationNeededError, TableError, UnauthorizedError)


@contextmanager
def errors_as_exit_codes(
    console: Console,
    n_posts: Callable[[], int] = lambda: 0,
    *,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> Iterator[None]:
    """
    Print errors that this package raises on purpose, and exit with their codes.

    ``n_posts`` returns how many paid requests were made by then: an unusable table is an input
    error only before the first. ``options`` is what a repetition would pay for again.
    """

    def then() -> str:
        return f"\n{PAYS_AGAIN}" if options.pays_again and n_posts() > 0 else ""

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


def ask_if_needed(console: Console, work: Callable[[RunOptions], T], options: RunOptions) -> T:
    """Do the work; if it needs a confirmation and there is a terminal, ask, then do it."""
    try:
        return work(options)
    except ConfirmationNeededError as error:
        if not (console.is_terminal and sys.stdin.isatty()):
            raise
        say(console, str(error))
        if not typer.confirm("Pay for them again?", err=True):
            say(console, NOTHING_SENT)
            raise typer.Exit(EXIT_INPUT) from None
        return work(replace(options, confirm=True))


def say(console: Console, text: str) -> None:
    """Print plain text: data is not interpreted as markup, and lines are not wrapped."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def say_json(value: object) -> None:
    """Print JSON on standard output, without characters that a terminal interprets."""
    typer.echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


# Signals: the first ends the sending and lets responses in flight be recorded, the second kills.


def drain_on_signals(stop: CancelToken) -> None:
    """Have SIGINT and SIGTERM cancel the token; call it on the loop of the work."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _cancel, stop, number)


def _cancel(stop: CancelToken, number: int) -> None:
    if stop.is_cancelled:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    stop.set(CANCELLED)
    say(Console(stderr=True), "Stopping: no new requests; recording the answers in flight …")
