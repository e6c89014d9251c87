"""`mynth-dagster webhook` and `webhook-register`: receive events, and have them sent."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Annotated

import typer

from mynth_dagster.cli.options import (
    BaseUrl,
    Ledger,
    Revision,
    Root,
    engine_settings,
)
from mynth_dagster.cli.output import EXIT_OTHER, AsJson, CommandOutput
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.health import Registration, register
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import WEBHOOK_PORT
from mynth_dagster.wire import AUTO_REVISION

SECRET, TOKEN, PREVIOUS = "MYNTH_WEBHOOK_SECRET", "MYNTH_WEBHOOK_TOKEN", "_PREVIOUS"


def webhook(
    root: Root,
    port: Annotated[int, typer.Option(help="TCP port; 0 takes any free one.")] = WEBHOOK_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """
    Receive Mynth's webhooks into the ledger; runs and sensors then poll less.

    MYNTH_WEBHOOK_SECRET holds the secret of the registered webhook, and
    MYNTH_WEBHOOK_SECRET_PREVIOUS the one that it replaces; deliveries of every revision are
    understood, and each of the two may be of any. MYNTH_WEBHOOK_TOKEN (and
    MYNTH_WEBHOOK_TOKEN_PREVIOUS) opens the path /custom/<token> for endpoints that requests name.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        from mynth_dagster.webhook import WebhookSettings  # noqa: PLC0415 - an extra
        from mynth_dagster.webhook.server import serve  # noqa: PLC0415 - the same

        settings = WebhookSettings(
            ledger or "", secrets=_from_environment(SECRET), tokens=_from_environment(TOKEN)
        )
        settings = replace(settings, ledger_url=ledger or ledger_url_in(root))

        def announce(url: str) -> None:
            signed = ["signed events at /"] if settings.secrets else []
            unsigned = ["unsigned ones at /custom/<token>"] if settings.tokens else []
            output.result(
                {"url": url, "takes_signed": bool(signed), "takes_unsigned": bool(unsigned)},
                f"receiving webhooks at {url}: {', '.join(signed + unsigned)}",
            )

        try:
            serve(settings, host=host, port=port, announce=announce)
        except OSError as error:
            raise ConfigError("webhook", str(error)) from None


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
    as_json: AsJson = False,
) -> None:
    """
    Register the receiver at Mynth, if the API key may do that; else show what to do.

    Prints the secret once; the API never returns it again.
    In revision 2026-10 the API key needs the scope manage, and --id replaces
    the whole registration: api_key_ids and include_session_tasks go back to
    their defaults.
    The API key is read from MYNTH_API_KEY.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        settings = engine_settings(root, ledger, base_url, api_revision, 1)
        made = asyncio.run(_register(settings, url, webhook_id))
    output.note(made.note or f"Webhook {made.webhook_id} is enabled for {url}.")
    output.result(
        {"webhook_id": made.webhook_id, "url": url, "secret": made.secret, "note": made.note},
        *([f"{SECRET}={made.secret}"] if made.secret else []),
    )
    if made.note:
        raise typer.Exit(EXIT_OTHER)


async def _register(settings: EngineSettings, url: str, webhook_id: str | None) -> Registration:
    async with open_session(settings) as session:
        return await register(session, url, webhook_id)


def _from_environment(name: str) -> list[str]:
    values = (os.environ.get(name), os.environ.get(name + PREVIOUS))
    return [value for value in values if value]
