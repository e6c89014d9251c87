"""The command `mynth-dagster` and its sub-commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from mynth_dagster.cli import (
    account,
    doctor,
    inspect,
    ledger,
    receipt,
    resolve,
    run,
    simulate,
    status,
    stop,
    task,
    webhook,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tables of prompts into tables of images with Mynth, without paying twice.",
)


def _show_version(is_wanted: bool) -> None:  # noqa: FBT001
    if is_wanted:
        typer.echo(version("mynth-dagster"))
        raise typer.Exit


@app.callback()
def main_options(
    is_version: Annotated[
        bool,
        typer.Option("--version", help="Print it.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Tables of prompts into tables of images with Mynth, without paying twice."""


app.command("run")(run.run)
app.command("status")(status.status)
app.command("receipt")(receipt.receipt)
app.add_typer(account.app, name="account")
app.add_typer(ledger.app, name="ledger")
app.command("inspect")(inspect.inspect)
app.command("task")(task.task)
app.command("resolve")(resolve.resolve)
app.command("stop")(stop.stop)
app.command("resume")(stop.resume)
app.command("doctor")(doctor.doctor)
app.command("webhook")(webhook.webhook)
app.command("webhook-register")(webhook.webhook_register)
app.command("simulate")(simulate.simulate)


def main() -> None:
    """Entry point of the distribution."""
    app()
