"""`mynth-dagster resolve`: list what is in doubt, and settle it."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say
from mynth_dagster.cli.options import BaseUrl, Ledger, Revision, Root, engine_settings
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.resolve import InDoubt, attach, give_up, list_in_doubt
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.errors import ConfigError
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import format_usd
from mynth_dagster.wire import AUTO_REVISION


def resolve(
    root: Root,
    intent_id: Annotated[
        str | None, typer.Argument(help="int_…; without it, all in doubt are listed.")
    ] = None,
    attach_task: Annotated[
        str | None, typer.Option("--attach", help="It was this task (tsk_…); it is read.")
    ] = None,
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="Send the row anew: it may then be paid twice.")
    ] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give the row up.")] = False,
    batch: Annotated[str | None, typer.Option(help="List only this batch.")] = None,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
) -> None:
    """
    List rows whose paid request has an unknown outcome, or settle one of them.

    The API key is read from MYNTH_API_KEY, for --attach alone.
    """
    console = Console()
    with errors_as_exit_codes(Console(stderr=True)):
        url = ledger or ledger_url_in(root, must_exist=True)
        choice = _one_of(attach=attach_task is not None, resubmit=resubmit, abandon=abandon)
        if choice is None:
            _list(console, url, batch)
        elif intent_id is None:
            raise ConfigError("INTENT_ID", f"--{choice} needs the id of one intent")
        elif attach_task is not None:
            key = os.environ.get("MYNTH_API_KEY")
            settings = engine_settings(root, url, base_url, api_revision, key, 1)
            said = asyncio.run(_attach(settings, intent_id, attach_task))
            say(console, f"{intent_id}: {attach_task} {said}; the next collection reads it.")
        else:
            asyncio.run(_give_up(url, intent_id, ask_again=resubmit))
            then = "the next run sends its row anew" if resubmit else "it is not waited for"
            say(console, f"{intent_id} is abandoned; {then}.")


def _one_of(**chosen: bool) -> str | None:
    names = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(names) > 1:
        raise ConfigError("resolve", f"choose one of --{', --'.join(names)}")
    return names[0] if names else None


def _list(console: Console, url: str, batch: str | None) -> None:
    opened = OpenLedger.open(url)
    try:
        if batch is not None:
            opened.read.require_batch(batch)
        rows = list_in_doubt(opened, batch, now_us=SystemClock().now_us())
    finally:
        opened.close()
    for row in rows:
        _describe(console, row)
    known = [row.exposure_units for row in rows if row.exposure_units is not None]
    unknown = f", {len(rows) - len(known)} of unknown price" if len(known) < len(rows) else ""
    say(console, f"{len(rows)} in doubt, at most {format_usd(sum(known))} exposed{unknown}.")


def _describe(console: Console, row: InDoubt) -> None:
    intent = row.intent
    where = Slice(intent.row.window, intent.fan_out).key
    say(
        console,
        f"{intent.intent_id}  {intent.state.value}  {intent.row.batch} {where} "
        f"{intent.row.request_key}  {row.age_s / 60:.0f} min old, "
        f"exposed {format_usd(row.exposure_units)}",
    )
    for seen in row.evidence:
        status = f"HTTP {seen.http_status}, " if seen.http_status else ""
        say(console, f"    attempt {seen.attempt}: {seen.outcome}, {status}{seen.detail or ''}")


async def _attach(settings: EngineSettings, intent_id: str, task_id: str) -> str:
    async with open_session(settings) as session:
        return (await attach(session, intent_id, task_id)).value


async def _give_up(url: str, intent_id: str, *, ask_again: bool) -> None:
    ledger = OpenLedger.open(url)
    try:
        await give_up(ledger, intent_id, ask_again=ask_again)
    finally:
        ledger.close()
