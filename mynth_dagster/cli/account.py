"""`mynth-dagster account`: whose tasks the ledger knows, and taking in another key."""

from __future__ import annotations

import asyncio
import os

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say
from mynth_dagster.cli.options import BaseUrl, Ledger, Revision, Root, engine_settings
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.wire import AUTO_REVISION

app = typer.Typer(no_args_is_help=True, help="The accounts and keys that a ledger knows.")


@app.command("list")
def list_accounts(root: Root, ledger: Ledger = None) -> None:
    """List the keys that sent for this ledger, without the keys themselves."""
    with errors_as_exit_codes(Console(stderr=True)):
        opened = OpenLedger.open(ledger or ledger_url_in(root, must_exist=True))
        try:
            known = opened.accounts.all()
        finally:
            opened.close()
        console = Console()
        for row in known:
            user, key = row.user_id or "not known", row.key_id or "not known"
            say(console, f"{row.number}  {row.base_url}  account {user}, key {key}")


@app.command("adopt")
def adopt(
    root: Root,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
) -> None:
    """
    Take in the key of MYNTH_API_KEY although it may be another account's.

    What the ledger calls done stays done; what is missing is paid by this key's account. Tasks
    that the other account paid for cannot be read with it.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        url = ledger or ledger_url_in(root, must_exist=True)
        key = os.environ.get("MYNTH_API_KEY")
        settings = engine_settings(root, url, base_url, api_revision, key, 1)
        number = asyncio.run(_adopt(settings))
        say(Console(), f"This key is number {number} of the ledger from now on.")


async def _adopt(settings: EngineSettings) -> int:
    async with open_session(settings) as session:
        return await session.account.adopt()
