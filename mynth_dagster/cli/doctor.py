"""`mynth-dagster doctor`: is everything there that a run needs?"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.failing import EXIT_OK, EXIT_OTHER, errors_as_exit_codes, say, say_json
from mynth_dagster.cli.options import BaseUrl, Ledger, Revision, Root
from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.engine.health import Finding, Level, examine
from mynth_dagster.engine.session import EngineSettings, ledger_url_in
from mynth_dagster.wire import AUTO_REVISION

_SIGNS = {Level.OK: "ok     ", Level.NOTE: "note   ", Level.PROBLEM: "PROBLEM"}


def doctor(
    root: Root,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Look at tables, ledger, API, key, clock and webhooks; sends and spends nothing.

    The API key is read from MYNTH_API_KEY.
    Exit codes: 0 all well or only notes, 1 a problem, 2 wrong settings.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        settings = EngineSettings(
            client=ClientSettings(
                base_url=base_url, api_key=os.environ.get("MYNTH_API_KEY") or None
            ),
            ledger_url=ledger or ledger_url_in(root, must_exist=True),
            root=root,
            api_revision=api_revision,
        )
        findings = asyncio.run(examine(settings))
    if as_json:
        say_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    has_problem = any(finding.level is Level.PROBLEM for finding in findings)
    raise typer.Exit(EXIT_OTHER if has_problem else EXIT_OK)


def _print(findings: list[Finding]) -> None:
    console = Console()
    for finding in findings:
        say(console, f"{_SIGNS[finding.level]}  {finding.subject}: {finding.said}")
        if finding.next_step:
            say(console, f"         next: {finding.next_step}")
