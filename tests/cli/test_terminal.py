"""What a terminal would obey is shown and not sent, wherever the words come from."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing

import pytest

from mynth_dagster.errors import RefusedError
from mynth_dagster.printable import printable, printable_logger

SPITE = "\x1b]0;owned\x07\x9b2J\x7f\r[bold red]x[/]\u202e\u2066"
SHOWN = r"\x1b]0;owned\x07\x9b2J\x7f\x0d[bold red]x[/]\u202e\u2066"


def test_every_control_is_shown_as_its_escape_and_words_stay():
    """C0, C1, DEL, bidirectional controls, halves of characters; lines and letters are kept."""
    controls = [chr(code) for code in (*range(32), *range(127, 160))]

    assert printable(SPITE) == SHOWN
    assert printable("".join(controls)).isprintable() is False  # tab and line feed are kept
    assert set("".join(map(printable, controls))) - set("\t\n") <= set("\\x0123456789abcdef")
    assert printable("grün 凧 👩‍🚀 [x]\n\ttwo") == "grün 凧 👩‍🚀 [x]\n\ttwo"
    assert printable("\ud800") == r"\ud800"


def test_an_error_that_quotes_a_server_may_be_shown_anywhere():
    """Terminals, logs and Dagster print its words as they are."""
    assert str(RefusedError("read task", status=500, code=SPITE)).endswith(SHOWN)


def test_a_log_record_is_one_line_without_controls(caplog):
    """Whatever it quotes."""
    caplog.set_level(logging.WARNING)

    printable_logger("mynth_dagster.test").warning("task %s: %s", SPITE, "a\nWARNING forged")

    (record,) = caplog.records
    assert record.getMessage() == rf"task {SHOWN}: a\nWARNING forged"


@pytest.fixture
def spiteful(new_shell):
    """A ledger in which a partition and an account have such names."""
    work = new_shell()
    work.run(work.prompts(2))
    with closing(sqlite3.connect(work.root / "mynth-ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE intents SET fan_out = ?", [SPITE])
        ledger.execute("UPDATE accounts SET user_id = ?", [SPITE])
    return work


def test_names_in_the_ledger_are_shown_escaped(spiteful):
    """In tables and lines; brackets are no markup."""
    status = spiteful.call("status", "--root", str(spiteful.root), COLUMNS="300")
    accounts = spiteful.call("account", "list", "--root", str(spiteful.root))

    assert SHOWN in status.stdout
    assert SHOWN in accounts.stdout


def test_json_keeps_them_as_escapes_of_json(spiteful):
    """A machine reads what is there; a terminal obeys nothing of it."""
    said = spiteful.call("status", "--root", str(spiteful.root), "--json").stdout

    assert said.isascii()
    assert said.replace("\n", "").isprintable()
    assert json.loads(said)["batches"]["kites"][0]["fan_out"] == SPITE


def test_a_files_name_is_shown_escaped(new_shell):
    """A table that is not there is named without being obeyed."""
    work = new_shell()

    result = work.run(str(work.folder / f"kites{SPITE.replace('/', '')}.parquet"))

    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert SHOWN.replace("/", "") in result.output
