"""`--json`: every command prints one JSON document on stdout, whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from tests.cli.conftest import Shell
from tests.factories import MODEL


def _walk(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, *path, name)
        else:
            yield (*path, name)


COMMANDS = sorted(_walk(typer.main.get_command(app)))
SERVERS = {("simulate",), ("webhook",)}
WORKING: dict[tuple[str, ...], tuple[list[str], set[str]]] = {
    ("account", "adopt"): (["--root", "ROOT"], {"number"}),
    ("account", "list"): (["--root", "ROOT"], {"accounts"}),
    ("doctor",): (["--root", "ROOT"], {"findings"}),
    ("catalogue",): (["--root", "ROOT"], {"read_at", "api_revision", "prices_usd"}),
    ("follow-up",): (["alt_texts", "--root", "ROOT", "--batch", "kites"], {"answered", "tables"}),
    ("ledger", "adopt"): (["--root", "ROOT", "--batch", "kites"], {"batch", "ledger"}),
    ("ledger", "rebuild"): (
        ["--root", "ROOT", "--batch", "kites", "--ledger", "sqlite:///new.db"],
        {"ledger_id", "n_from_tables"},
    ),
    ("ledger", "show"): (["--root", "ROOT", "--batch", "kites"], {"tables", "ledger"}),
    ("receipt",): (["--root", "ROOT", "--dedicated-key"], {"batches", "comparison"}),
    ("resolve",): (["--root", "ROOT"], {"in_doubt", "exposed_usd"}),
    ("resume",): (["--root", "ROOT", "--all"], {"lifted", "still_stopped"}),
    ("run",): (["kites.parquet", "--root", "ROOT", "--model", MODEL], {"api_revision", "receipt"}),
    ("status",): (["--root", "ROOT"], {"ledger_id", "batches"}),
    ("stop",): (["--root", "ROOT", "--all"], {"stopped", "resume_command"}),
    ("task",): (["TASK"], {"task_id", "images"}),
    ("webhook-register",): (
        ["https://hooks.example.com/", "--root", "ROOT"],
        {"webhook_id", "secret"},
    ),
}
"""Arguments with which a command succeeds after a run, and keys of its document."""


@pytest.fixture
def ran(new_shell: Callable[..., Shell], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in which a table was made."""
    shell = new_shell(quirks={"webhook_management": "api_key"}, progress="immediate")
    monkeypatch.chdir(shell.folder)
    assert shell.run(shell.prompts(1)).exit_code == 0
    return shell


def document(stdout: str) -> dict[str, Any]:
    """The one document on stdout."""
    read = json.loads(stdout)
    assert isinstance(read, dict)
    return read


def test_every_command_is_tried_here():
    """A new command needs a row above, or is a server."""
    assert set(COMMANDS) == {*WORKING, *SERVERS}


@pytest.mark.parametrize("command", WORKING, ids=" ".join)
def test_a_result_is_one_document(command: tuple[str, ...], ran: Shell):
    """With exit code 0, and nothing else on stdout."""
    arguments, keys = WORKING[command]
    (task,) = ran.server.app.state.tasks
    known = {"ROOT": str(ran.root), "TASK": task.task_id}

    result = ran.call(*command, *(known.get(word, word) for word in arguments), "--json")

    assert result.exit_code == 0, result.stderr
    assert keys <= document(result.stdout).keys()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_wrong_command_line_is_a_document(command: tuple[str, ...]):
    """With the exit code of wrong input, as without `--json`."""
    wrong = [*command, "--no-such-option"]
    result = CliRunner().invoke(app, [*wrong, "--json"])

    assert result.exit_code == CliRunner().invoke(app, wrong).exit_code == 2
    error = document(result.stdout)["error"]
    assert "--no-such-option" in error["message"]
    assert error["exit_code"] == 2


@pytest.mark.parametrize("command", [c for c in WORKING if c != ("task",)], ids=" ".join)
def test_an_error_is_a_document(command: tuple[str, ...], ran: Shell, tmp_path: Path):
    """With the exit code that the same error has without `--json`, and what became of the money."""
    elsewhere = {"ROOT": str(tmp_path / "kites.parquet")}  # a file is no root
    arguments = [*command, *(elsewhere.get(word, word) for word in WORKING[command][0])]
    if command != ("catalogue",):  # the only one that looks at no ledger
        arguments += ["--ledger", "sqlite:////nowhere/ledger.db"]

    result, plain = ran.call(*arguments, "--json"), ran.call(*arguments)

    assert result.exit_code == plain.exit_code != 0
    if command == ("doctor",):
        assert "PROBLEM" in plain.stdout
        return
    error = document(result.stdout)["error"]
    assert error.keys() == {"type", "message", "notes", "exit_code"}
    assert error["exit_code"] == result.exit_code
    assert error["message"] in plain.stderr
    assert all(note in plain.stderr for note in error["notes"])
    assert result.stderr == ""


def test_a_fault_of_ours_is_a_document():
    """With its traceback on stderr."""
    code = (
        "from mynth_dagster.cli.main import app\n"
        "@app.command('break')\n"
        "def fail(json: bool = False) -> None: raise KeyError('lost')\n"
        "app(['break', '--json'])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert document(ran.stdout)["error"]["type"] == "KeyError"
    assert "Traceback" in ran.stderr


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["simulate", "--port", "0"], {"url", "revision"}),
        (["webhook", "--root", ".", "--port", "0"], {"url", "takes_signed", "takes_unsigned"}),
    ],
    ids=["simulate", "webhook"],
)
def test_a_server_prints_one_document_when_it_is_ready(
    command: list[str], keys: set[str], tmp_path: Path
):
    """And nothing more on stdout until it ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "mynth_dagster.cli", *command, "--json"],
        env={**os.environ, "MYNTH_WEBHOOK_TOKEN": "t" * 40},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline()]
        while lines[-1].rstrip() != "}":
            assert lines[-1], "it ended"
            lines.append(server.stdout.readline())
        assert httpx.get(document("".join(lines))["url"]).status_code  # it serves
        server.send_signal(signal.SIGTERM)
        lines.append(server.stdout.read())

    assert keys == document("".join(lines)).keys()
    assert server.returncode == 0


def test_the_version_is_printed():
    """For people and for machines that ask first."""
    shown = CliRunner().invoke(app, ["--version"])

    assert (shown.exit_code, shown.stdout.strip()) == (0, version("mynth-dagster"))
