"""`mynth-dagster ledger`: which ledger the tables belong to, and going on with another one."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say
from mynth_dagster.cli.options import Ledger, Root
from mynth_dagster.engine.session import ledger_url_in
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.tables.files import TableStore
from mynth_dagster.tables.ledger_mark import LedgerMark, read_mark, write_mark

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


def _in_words(mark: LedgerMark) -> str:
    return f"{mark.ledger_id} at number {mark.number}"


async def _mark_of(url: str) -> LedgerMark:
    opened = OpenLedger.open(url)
    try:
        return LedgerMark(opened.ledger_id, await opened.newest_number())
    finally:
        opened.close()
