"""`mynth-dagster status`: what the ledger knows, and that looking changes nothing."""

from __future__ import annotations

import json


def test_it_shows_rows_and_money_by_state(new_shell):
    """A table for people."""
    work = new_shell()
    work.run(work.prompts(3))

    result = work.call("status", "--root", str(work.root))

    assert result.exit_code == 0
    assert "kites" in result.stdout
    assert "completed" in result.stdout


def test_it_prints_json_for_machines(new_shell):
    """Money as decimal strings, states by partition."""
    work = new_shell(failures=[{"kind": "task", "prompt_contains": "prompt 1"}])
    work.run(work.prompts(3))

    said = json.loads(work.call("status", "--root", str(work.root), "--json").stdout)

    assert said["ledger_id"].startswith("led_")
    rows = {entry["state"]: entry["rows"] for entry in said["batches"]["kites"]}
    assert rows == {"completed": 2, "failed": 1}
    charged = {entry["charged_usd"] for entry in said["batches"]["kites"]}
    assert work.server.log()["totals"]["charged"] in charged


def test_without_a_ledger_it_says_so_and_makes_none(new_shell):
    """A typing error in the path is told, and leaves no folder behind."""
    work = new_shell()

    result = work.call("status", "--root", str(work.root))

    assert result.exit_code == 2
    assert "holds no ledger; where it lies elsewhere, name it (--ledger)" in result.stderr
    assert not work.root.exists()


def test_it_needs_no_key(new_shell):
    """Looking into the ledger asks nobody."""
    work = new_shell()
    work.run(work.prompts(1))
    before = work.server.log()["requests"]

    result = work.call("status", "--root", str(work.root), MYNTH_API_KEY=None)

    assert result.exit_code == 0
    assert work.server.log()["requests"] == before
