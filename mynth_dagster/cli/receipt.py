"""`mynth-dagster receipt`: what each batch has cost, and what it may yet cost."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mynth_dagster.cli.failing import errors_as_exit_codes, say
from mynth_dagster.cli.options import BaseUrl, Ledger, Revision, Root, engine_settings
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.report import receipt_json
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.errors import ConfigError
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.models.money import format_usd
from mynth_dagster.models.receipt import NO_MONEY, Receipt
from mynth_dagster.wire import AUTO_REVISION


def receipt(
    root: Root,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    ledger: Ledger = None,
    dedicated_key: Annotated[
        bool,
        typer.Option(
            "--dedicated-key",
            help="Nobody else spends from this account: compare what Mynth holds with the ledger.",
        ),
    ] = False,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    What was quoted, reserved, charged, given back, is still held, and is not known.

    With --dedicated-key the API key is read from MYNTH_API_KEY and the balance is asked for.
    """
    console = Console()
    with errors_as_exit_codes(Console(stderr=True)):
        url = ledger or ledger_url_in(root, must_exist=True)
        receipts = _receipts(url, batch)
        if as_json:
            known = {name: receipt_json(found) for name, found in receipts.items()}
            typer.echo(json.dumps(known, indent=2))
        else:
            console.print(_as_table(receipts))
        if dedicated_key:
            key = os.environ.get("MYNTH_API_KEY")
            settings = engine_settings(root, url, base_url, api_revision, key, 1)
            all_batches = sum(_receipts(url, None).values(), NO_MONEY)
            say(Console(stderr=True), asyncio.run(_compare(settings, all_batches)))


def _receipts(url: str, batch: str | None) -> dict[str, Receipt]:
    opened = OpenLedger.open(url)
    try:
        names = opened.read.batches()
        if batch is not None and batch not in names:
            raise ConfigError("--batch", f"the ledger has no {batch!r}, it has {', '.join(names)}")
        return {name: opened.money.receipt(name) for name in names if batch in (None, name)}
    finally:
        opened.close()


def _as_table(receipts: dict[str, Receipt]) -> Table:
    amounts = ("quoted", "reserved", "charged", "refunded", "open", "unknown")
    table = Table("batch", *amounts, "not charged", "unknown tasks")
    for name, found in receipts.items():
        money = [format_usd(getattr(found, amount)) for amount in amounts]
        table.add_row(name, *money, str(found.n_not_charged), str(found.n_unknown))
    return table


async def _compare(settings: EngineSettings, ours: Receipt) -> str:
    """What Mynth holds beside what the ledger explains."""
    async with open_session(settings) as session:
        if not session.client.profile.HAS_ACCOUNT:
            return f"Revision {session.client.profile.REVISION} does not tell the balance."
        await session.account.number()
        balance = await session.client.get_balance()
    held, explained = balance.reserved_units, ours.open
    said = (
        f"Mynth holds {format_usd(held)}; open tasks of the ledger explain {format_usd(explained)}"
    )
    if held <= explained:
        return f"{said}."
    rest = held - explained
    return (
        f"{said}, {format_usd(rest)} is not explained. At most {format_usd(ours.unknown)} of it "
        "may be rows in doubt: see `mynth-dagster resolve`."
    )
