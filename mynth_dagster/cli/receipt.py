"""`mynth-dagster receipt`: what each batch has cost, and what it may yet cost."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say, say_json
from mynth_dagster.cli.options import BaseUrl, Ledger, Revision, Root, engine_settings
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.run import receipt_json
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.errors import RefusedError
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.models.money import NO_MONEY, Receipt, format_usd
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
            say_json(known)
        else:
            for name, found in receipts.items():
                for line in _in_lines(name, found):
                    say(console, line)
        if dedicated_key:
            key = os.environ.get("MYNTH_API_KEY")
            settings = engine_settings(root, url, base_url, api_revision, key, 1)
            all_batches = sum(_receipts(url, None).values(), NO_MONEY)
            say(Console(stderr=True), asyncio.run(_compare(settings, all_batches)))


def _receipts(url: str, batch: str | None) -> dict[str, Receipt]:
    opened = OpenLedger.open(url)
    try:
        names = opened.read.batches() if batch is None else [opened.read.require_batch(batch)]
        return {name: opened.money.receipt(name) for name in names}
    finally:
        opened.close()


def _in_lines(name: str, found: Receipt) -> list[str]:
    """One batch, an amount a line, with what it means."""
    amounts = [
        ("quoted", found.quoted, "expected of the requests that were sent"),
        ("reserved", found.reserved, "held by Mynth for the tasks it accepted"),
        ("charged", found.charged, f"for {found.n_charged} tasks"),
        ("refunded", found.refunded, "reserved for what cost less, or nothing"),
        ("open", found.open, "held for tasks that are not finished"),
        ("unknown", found.unknown, f"at most, in {found.n_unknown} requests of unknown outcome"),
    ]
    lines = [f"{label:>10}  {format_usd(units):>12}  {said}" for label, units, said in amounts]
    unpriced = f", {found.n_unpriced} were sent without a known price" if found.n_unpriced else ""
    return [name, *lines, f"{found.n_not_charged} requests cost nothing{unpriced}."]


async def _compare(settings: EngineSettings, ours: Receipt) -> str:
    """What Mynth holds beside what the ledger explains."""
    async with open_session(settings) as session:
        if not session.client.profile.HAS_ACCOUNT:
            return f"Revision {session.client.profile.REVISION} does not tell the balance."
        await session.account.number()
        try:
            balance = await session.client.get_balance()
        except RefusedError as error:
            # What the key may not see says nothing of what it may send.
            return f"The balance is not told to this key ({error.reason}): nothing to compare."
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
