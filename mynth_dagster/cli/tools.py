"""`mynth-dagster simulate` and `doctor`: Mynth on a local port, and checks of an installation."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mynth_dagster.cli.options import (
    BaseUrl,
    Ledger,
    Revision,
    Root,
)
from mynth_dagster.cli.output import EXIT_OK, EXIT_OTHER, AsJson, CommandOutput
from mynth_dagster.client.client import MynthClient
from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.health import Finding, Level, examine
from mynth_dagster.engine.session import EngineSettings, find_revision, ledger_url_in
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import REVISIONS
from mynth_dagster.tables.catalogue import Catalogue, write_catalogue
from mynth_dagster.wire import AUTO_REVISION, profile_of


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
    as_json: AsJson = False,
) -> None:
    """
    Run a faithful stand-in for Mynth: tasks take time, money is reserved, errors are as documented.

    Prices, sizes and timings are invented. Its log is served under /_simulator/log.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        from mynth_dagster.simulator import Scenario, ScenarioError, serve  # noqa: PLC0415

        def announce(url: str, line: str) -> None:
            output.result({"url": url, "revision": played.revision}, line)

        try:
            fields: dict[str, Any] = json.loads(scenario.read_text("utf-8")) if scenario else {}
            played = Scenario.from_dict({"revision": revision, **fields})
            serve(played, host=host, port=port, keep=keep, announce=announce)
        except (ScenarioError, ValueError, OSError) as error:
            raise ConfigError("simulate", str(error)) from None


# `mynth-dagster doctor`: check everything that a run needs.


_SIGNS = {Level.OK: "ok     ", Level.NOTE: "note   ", Level.PROBLEM: "PROBLEM"}


def doctor(
    root: Root,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """
    Check tables, ledger, API, key, clock and webhooks; sends and spends nothing.

    The API key is read from MYNTH_API_KEY.
    Exit codes: 0 all well or only notes, 1 a problem, 2 wrong settings.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        settings = EngineSettings(
            client=ClientSettings(
                base_url=base_url, api_key=os.environ.get("MYNTH_API_KEY") or None
            ),
            ledger_url=ledger or ledger_url_in(root, must_exist=True),
            root=root,
            api_revision=api_revision,
        )
        findings = asyncio.run(examine(settings))
    output.result(
        {"findings": [asdict(finding) for finding in findings]},
        *(line for finding in findings for line in _in_lines(finding)),
    )
    has_problem = any(finding.level is Level.PROBLEM for finding in findings)
    raise typer.Exit(EXIT_OTHER if has_problem else EXIT_OK)


def _in_lines(finding: Finding) -> list[str]:
    lines = [f"{_SIGNS[finding.level]}  {finding.subject}: {finding.message}"]
    return [*lines, f"         next: {finding.next_step}"] if finding.next_step else lines


# `mynth-dagster catalogue`: keep the models and their prices beside the tables.


def catalogue(
    root: Root,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    as_json: AsJson = False,
) -> None:
    """
    Read Mynth's models and prices, and keep them in the root; sends and spends nothing.

    Definitions show the prices of a batch's models from there, without a network.

    The API key is read from MYNTH_API_KEY, if there is one: the catalogue needs none.
    Exit codes: 0 kept, 2 wrong settings, or an API without a catalogue, 1 anything else.
    """
    output = CommandOutput(as_json=as_json)

    async def refresh() -> Catalogue:
        key, clock = os.environ.get("MYNTH_API_KEY"), SystemClock()
        settings = ClientSettings(base_url=base_url, api_key=key or None)
        revision = api_revision
        if revision == AUTO_REVISION:
            revision = await find_revision(settings)
        profile = profile_of(revision)
        if not profile.HAS_CATALOG:
            raise ConfigError("--api-revision", f"API revision {revision} has no catalogue")
        client = MynthClient(settings, profile, clock)
        try:
            models = await client.get_catalog()
        finally:
            await client.aclose()
        return await asyncio.to_thread(
            write_catalogue, root, models, api_revision=revision, now_us=clock.now_us()
        )

    with output.errors_as_exit_codes():
        kept = asyncio.run(refresh())
    prices = {name: price and str(price) for name, price in kept.prices_usd.items()}
    output.result(
        {"read_at": kept.read_at, "api_revision": kept.api_revision, "prices_usd": prices},
        *(f"{name}: {price or 'price not known'}" for name, price in prices.items()),
        f"{len(prices)} models, USD per image, kept in {root}",
    )
