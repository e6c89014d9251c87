"""`mynth-dagster status`: what the ledger knows."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mynth_dagster.cli.failing import errors_as_exit_codes, say, say_json
from mynth_dagster.cli.options import Ledger, Root
from mynth_dagster.engine.session import REVISION_META, ledger_url_in
from mynth_dagster.engine.stop import in_words
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.ledger.queries import LedgerReader, StateCount
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import format_usd, usd_from_units
from mynth_dagster.printable import printable


def status(
    root: Root,
    ledger: Ledger = None,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show, by batch and partition, what was asked, what came back and what it cost."""
    console = Console()
    with errors_as_exit_codes(Console(stderr=True)):
        opened = OpenLedger.open(ledger or ledger_url_in(root, must_exist=True))
        try:
            known = _known(opened.read, batch)
            revisions = opened.read.facts(REVISION_META)
            waited_for = _waited_for(opened)
            stops = [in_words(stop) for stop in opened.stops.active()]
            ledger_id = opened.ledger_id
        finally:
            opened.close()
    if as_json:
        told = {
            "ledger_id": ledger_id,
            "api_revisions": revisions,
            "awaited_at": waited_for,
            "stops": stops,
            "batches": _as_json(known),
        }
        say_json(told)
        return
    say(console, f"Ledger {ledger_id}")
    for url, revision in revisions.items():
        say(console, f"{url} spoke API revision {revision} when it was last asked")
    for url, n in waited_for.items():
        say(console, f"{n} tasks were made at {url}: a session there collects them")
    for stop in stops:
        say(console, f"Stopped: {stop}")
    console.print(_as_table(known))


def _waited_for(ledger: OpenLedger) -> dict[str, int]:
    """By base URL, how many tasks are to be collected there; only where there are several."""
    url_of = {account.number: account.base_url for account in ledger.accounts.all()}
    if len(set(url_of.values())) < 2:
        return {}
    n_at: dict[str, int] = {}
    for account, n in ledger.accounts.n_awaited().items():
        n_at[url_of[account]] = n_at.get(url_of[account], 0) + n
    return n_at


def _known(reader: LedgerReader, batch: str | None) -> dict[str, list[StateCount]]:
    names = reader.batches() if batch is None else [reader.require_batch(batch)]
    return {name: reader.counts(name) for name in names}


def _as_table(known: dict[str, list[StateCount]]) -> Table:
    table = Table("batch", "partition", "state", "rows", "reserved", "charged")
    for name, counts in known.items():
        for count in counts:
            key = Slice(count.window, count.fan_out).key
            money = (format_usd(count.reserved_units), format_usd(count.charged_units))
            cells = (name, key, _state(count), str(count.n_intents), *money)
            table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _as_json(known: dict[str, list[StateCount]]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {
                "window": count.window,
                "fan_out": count.fan_out,
                "state": _state(count),
                "rows": count.n_intents,
                "reserved_usd": f"{usd_from_units(count.reserved_units):f}",
                "charged_usd": f"{usd_from_units(count.charged_units):f}",
            }
            for count in counts
        ]
        for name, counts in known.items()
    }


def _state(count: StateCount) -> str:
    is_unread = count.finished_remotely and count.state.value == "accepted"
    return "accepted (finished, not read)" if is_unread else count.state.value
