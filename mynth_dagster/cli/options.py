"""Options that several commands share, and the settings that are made from them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.console import Console

from mynth_dagster.cli.output import say
from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.engine.session import EngineSettings, ledger_url_in
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import CONCURRENCY_DEFAULT
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import Prompts
from mynth_dagster.tables.store import TableStore
from mynth_dagster.wire import AUTO_REVISION

Options = TypeVar("Options")

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


# Options of commands that have many: a dataclass whose fields typer reads.


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where Mynth, the tables and the ledger are."""

    root: Root
    base_url: BaseUrl = DEFAULT_BASE_URL
    api_revision: Revision = AUTO_REVISION
    ledger: Ledger = None
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = CONCURRENCY_DEFAULT

    def engine_settings(self) -> EngineSettings:
        """The settings of a session, as the function of this name makes them."""
        return engine_settings(
            self.root, self.ledger, self.base_url, self.api_revision, self.concurrency
        )


def takes(kind: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Have a command take its options as one value of a dataclass."""

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        hints = get_type_hints(kind, include_extras=True)

        @wraps(command)
        def with_options(**given: Any) -> None:
            command(kind(**given))

        with_options.__annotations__ = hints
        with_options.__signature__ = Signature(  # type: ignore[attr-defined]
            [
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.default is MISSING else field.default,
                    annotation=hints[field.name],
                )
                for field in fields(kind)  # type: ignore[arg-type]
            ]
        )
        return with_options

    return decorate


def written_batch(
    root: str, name: str, table: str, *, window: str | None, identity: str | None, **fields: Any
) -> Batch:
    """
    Return a batch whose tables lie in the root; its windows have the name that the folders have.

    Raises:
        TableError: The folders have several names, and none is named.
    """
    batch = Batch(name, Prompts(identity=identity), **fields)
    called = window or TableStore(root, name).window_dimension(table)
    return replace(batch, window_dimension=called) if called else batch


def engine_settings(
    root: str, ledger: str | None, base_url: str, revision: str, concurrency: int
) -> EngineSettings:
    """
    Make the settings of a session from options, with the API key of the environment.

    Raises:
        ConfigError: The key is missing, or the ledger's place cannot be derived.
    """
    key = os.environ.get("MYNTH_API_KEY")
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
