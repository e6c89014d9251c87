"""The command `mynth-dagster` and its sub-commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from mynth_dagster.cli import ledger, results, run, tools, webhook
from mynth_dagster.cli.output import CommandGroup

app = typer.Typer(
    cls=CommandGroup,
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
app.command("status")(results.status)
app.command("receipt")(results.receipt)
app.add_typer(ledger.account_app, name="account")
app.add_typer(ledger.app, name="ledger")
app.command("follow-up")(results.follow_up)
app.command("task")(results.task)
app.command("resolve")(ledger.resolve)
app.command("stop")(run.stop)
app.command("resume")(run.resume)
app.command("doctor")(tools.doctor)
app.command("catalogue")(tools.catalogue)
app.command("webhook")(webhook.webhook)
app.command("webhook-register")(webhook.webhook_register)
app.command("simulate")(tools.simulate)


def main() -> None:
    """Entry point of the distribution."""
    app()
