"""The command in this process against a simulator, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mynth_dagster.cli.main import app
from mynth_dagster.simulator import SimulatorServer
from tests.factories import KEY, MODEL, write_parquet


class Shell:
    """A terminal in a folder, with a key and a server in its environment."""

    def __init__(self, server: SimulatorServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.root = folder / "root"
        self.env = {"MYNTH_API_KEY": KEY, "MYNTH_BASE_URL": server.url}

    def prompts(self, rows: Any = 3, name: str = "kites.parquet") -> str:
        """A prompt table; its path."""
        return write_parquet(self.folder / name, rows)

    def call(self, *arguments: str, **env: str | None) -> Result:
        """`mynth-dagster …` in this process."""
        return CliRunner().invoke(app, list(arguments), env={**self.env, **env})

    def run(self, prompts: str, *arguments: str, **env: str | None) -> Result:
        """`mynth-dagster run` of a table into the root."""
        chosen = ["--root", str(self.root), "--model", MODEL, *arguments]
        return self.call("run", prompts, *chosen, **env)

    def report(self, prompts: str, *arguments: str) -> dict[str, Any]:
        """The JSON report of a run."""
        return dict(json.loads(self.run(prompts, "--json", *arguments).stdout))

    def start(self, prompts: str, *arguments: str) -> subprocess.Popen[str]:
        """`mynth-dagster run … --json` as a process of its own."""
        options = ["--root", str(self.root), "--model", MODEL, "--json", *arguments]
        return subprocess.Popen(
            [sys.executable, "-m", "mynth_dagster.cli", "run", prompts, *options],
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def n_posts(self) -> int:
        """Paid requests that arrived at the simulator."""
        return int(self.server.log()["requests"].get("POST /image/generate", 0))


@pytest.fixture
def shell(
    simulator: Callable[..., SimulatorServer], tmp_path: Path, revision: str
) -> Callable[..., Shell]:
    """Opens a shell with a simulator of each revision in turn."""

    def open_shell(**scenario: Any) -> Shell:
        return Shell(simulator(**{"revision": revision, **scenario}), tmp_path)

    return open_shell


@pytest.fixture
def new_shell(simulator: Callable[..., SimulatorServer], tmp_path: Path) -> Callable[..., Shell]:
    """The same of revision 2026-10 alone."""

    def open_shell(**scenario: Any) -> Shell:
        return Shell(simulator(**scenario), tmp_path)

    return open_shell
