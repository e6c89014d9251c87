"""`mynth-dagster webhook` and `webhook-register`: receive events, and have them sent."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.options import (
    EXIT_INPUT,
    EXIT_OTHER,
    BaseUrl,
    Ledger,
    Revision,
    Root,
    engine_settings,
    errors_as_exit_codes,
    say,
)
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.health import Registration, register
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.limits import WEBHOOK_PORT
from mynth_dagster.printable import printable
from mynth_dagster.wire import AUTO_REVISION

SECRET, TOKEN, PREVIOUS = "MYNTH_WEBHOOK_SECRET", "MYNTH_WEBHOOK_TOKEN", "_PREVIOUS"


def webhook(
    root: Root,
    port: Annotated[int, typer.Option(help="TCP port; 0 takes any free one.")] = WEBHOOK_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ledger: Ledger = None,
) -> None:
    """
    Receive Mynth's webhooks into the ledger; runs and sensors then poll less.

    MYNTH_WEBHOOK_SECRET holds the secret of the registered webhook, and
    MYNTH_WEBHOOK_SECRET_PREVIOUS the one that it replaces; deliveries of every revision are
    understood, and each of the two may be of any. MYNTH_WEBHOOK_TOKEN (and
    MYNTH_WEBHOOK_TOKEN_PREVIOUS) opens the path /custom/<token> for endpoints that requests name.
    """
    console = Console(stderr=True)
    with errors_as_exit_codes(console):
        from mynth_dagster.webhook import WebhookSettings  # noqa: PLC0415 - an extra
        from mynth_dagster.webhook.server import serve  # noqa: PLC0415 - the same

        settings = WebhookSettings(
            ledger or "", secrets=_from_environment(SECRET), tokens=_from_environment(TOKEN)
        )
        settings = replace(settings, ledger_url=ledger or ledger_url_in(root))
        try:
            serve(settings, host=host, port=port, announce=lambda url: _announce(settings, url))
        except OSError as error:
            say(console, f"webhook: {error}")
            raise typer.Exit(EXIT_INPUT) from None


def webhook_register(
    url: Annotated[str, typer.Argument(help="Where Mynth shall send events: https://…/")],
    root: Root,
    webhook_id: Annotated[
        str | None,
        typer.Option("--id", help="Of a webhook: enable or move this one; its secret stays."),
    ] = None,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
) -> None:
    """
    Register the receiver at Mynth, if the API key may do that; else show what to do.

    Prints the secret once; the API never returns it again.
    In revision 2026-10 the API key needs the scope manage, and --id replaces
    the whole registration: api_key_ids and include_session_tasks go back to
    their defaults.
    The API key is read from MYNTH_API_KEY.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        key = os.environ.get("MYNTH_API_KEY")
        settings = engine_settings(root, ledger, base_url, api_revision, key, 1)
        made = asyncio.run(_register(settings, url, webhook_id))
    if made.note:
        say(Console(stderr=True), made.note)
        raise typer.Exit(EXIT_OTHER)
    say(Console(stderr=True), f"Webhook {made.webhook_id} is enabled for {url}.")
    if made.secret:
        typer.echo(printable(f"{SECRET}={made.secret}"))


async def _register(settings: EngineSettings, url: str, webhook_id: str | None) -> Registration:
    async with open_session(settings) as session:
        return await register(session, url, webhook_id)


def _from_environment(name: str) -> list[str]:
    values = (os.environ.get(name), os.environ.get(name + PREVIOUS))
    return [value for value in values if value]


def _announce(settings: object, url: str) -> None:
    has_secret = bool(getattr(settings, "secrets", ()))
    has_token = bool(getattr(settings, "tokens", ()))
    kinds = ["signed events at /"] * has_secret + ["unsigned ones at /custom/<token>"] * has_token
    typer.echo(f"receiving webhooks at {url}: {', '.join(kinds)}")
