"""`mynth-dagster simulate`: Mynth on a local port."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mynth_dagster.cli.failing import EXIT_INPUT, say
from mynth_dagster.limits import REVISIONS


def simulate(
    port: Annotated[int, typer.Option(help="TCP port; 0 takes any free one.")] = 8787,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    revision: Annotated[
        str, typer.Option(help=f"API revision: {', '.join(REVISIONS)}.")
    ] = REVISIONS[-1],
    scenario: Annotated[
        Path | None,
        typer.Option(help="JSON file with the scenario's fields.", exists=True, dir_okay=False),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="File that keeps the tasks for the next time.", dir_okay=False),
    ] = None,
) -> None:
    """
    Run a faithful stand-in for Mynth: tasks take time, money is reserved, errors are as documented.

    Prices, sizes and timings are invented. Its log is served under /_simulator/log.
    """
    from mynth_dagster.simulator import Scenario, ScenarioError, serve  # noqa: PLC0415 - Pillow

    console = Console(stderr=True)
    try:
        fields: dict[str, Any] = json.loads(scenario.read_text("utf-8")) if scenario else {}
        played = Scenario.from_dict({"revision": revision, **fields})
        serve(played, host=host, port=port, keep=keep)
    except (ScenarioError, ValueError, OSError) as error:
        say(console, f"simulate: {error}")
        raise typer.Exit(EXIT_INPUT) from None
