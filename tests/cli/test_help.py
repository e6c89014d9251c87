"""`--help`: what is said of each command is true of it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from mynth_dagster.cli.main import app


def help_of(*command: str) -> str:
    """The help of a command on one line, as a wide terminal shows it."""
    wide = {"TERMINAL_WIDTH": "200", "COLUMNS": "200"}
    result = CliRunner().invoke(app, [*command, "--help"], env=wide)
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


@pytest.mark.parametrize("command", ["run", "follow-up", "status", "doctor", "resolve"])
def test_what_is_required_has_no_default(command):
    """Such an option is called required, once."""
    assert "default: (required)" not in help_of(command)
    assert "[required]" in help_of(command)


@pytest.mark.parametrize(
    "command",
    [["run"], ["follow-up"], ["doctor"], ["resolve"], ["webhook-register"], ["ledger", "rebuild"]],
)
def test_a_command_that_reads_the_key_says_where(command):
    """The key is never an option, so help is the place to look for it."""
    assert "MYNTH_API_KEY" in help_of(*command)


def test_exit_codes_are_listed():
    """By the commands whose codes differ."""
    assert "or a confirmation is needed (nothing was sent), 3 rows" in help_of("run")
    assert "0 every image has an answer" in help_of("follow-up")
