"""`mynth-dagster ledger`: which ledger the tables belong to, and going on with another one."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say
from mynth_dagster.cli.options import (
    BaseUrl,
    Identity,
    Ledger,
    Revision,
    Root,
    Window,
    engine_settings,
    written_batch,
)
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.recover import Rebuilt, rebuild
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.manifest import LedgerMark, read_mark, write_mark
from mynth_dagster.tables.store import PROMPTS, TableStore
from mynth_dagster.wire import AUTO_REVISION

app = typer.Typer(no_args_is_help=True, help="The ledger that tables belong to.")

BatchName = Annotated[str, typer.Option("--batch", help="Name of the batch.")]


@app.command("show")
def show(root: Root, batch: BatchName, ledger: Ledger = None) -> None:
    """Show which ledger the tables of a batch know, and which one is here."""
    console = Console()
    with errors_as_exit_codes(Console(stderr=True)):
        here = asyncio.run(_mark_of(ledger or ledger_url_in(root, must_exist=True)))
        known = read_mark(TableStore(root, batch))
        known_in_words = _in_words(known) if known else "no ledger"
        say(console, f"The tables know {known_in_words}; here is {_in_words(here)}.")


@app.command("adopt")
def adopt(root: Root, batch: BatchName, ledger: Ledger = None) -> None:
    """
    Let the tables of a batch belong to this ledger from now on.

    Rows that it does not know are then sent, and paid for, although they may have been before.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        here = asyncio.run(_mark_of(ledger or ledger_url_in(root)))
        write_mark(TableStore(root, batch), here)
        say(Console(), f"The tables of {batch} belong to {_in_words(here)} from now on.")


@app.command("rebuild")
def rebuild_ledger(
    root: Root,
    batch: BatchName,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    identity: Identity = None,
    window: Window = None,
) -> None:
    """
    Make a lost ledger anew from the tables and Mynth's task list; sends nothing.

    The API key is read from MYNTH_API_KEY.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        url = ledger or ledger_url_in(root)
        key = os.environ.get("MYNTH_API_KEY")
        settings = engine_settings(root, url, base_url, api_revision, key, 16)
        wanted = written_batch(root, batch, PROMPTS, window=window, identity=identity)
        found = asyncio.run(_rebuild(settings, wanted))
        say(
            Console(),
            f"{found.ledger_id}: {found.n_from_tables} requests from the tables, "
            f"{found.n_from_list} from the task list; {found.n_unplaced} tasks belong to no row "
            "of the prompt tables. The next run reads what became of them, free of charge.",
        )


async def _rebuild(settings: EngineSettings, batch: Batch) -> Rebuilt:
    async with open_session(settings) as session:
        return await rebuild(session, batch)


def _in_words(mark: LedgerMark) -> str:
    return f"{mark.ledger_id} at number {mark.number}"


async def _mark_of(url: str) -> LedgerMark:
    opened = OpenLedger.open(url)
    try:
        return LedgerMark(opened.ledger_id, await opened.newest_number())
    finally:
        opened.close()
