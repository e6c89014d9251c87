"""`mynth-dagster ledger`: a lost ledger made anew from the command line."""

from __future__ import annotations

import shutil

import pytest


def lose_ledger(work) -> None:
    for path in work.root.glob("mynth-ledger.db*"):
        if path.is_file():
            path.unlink()


def rebuild(work, *options):
    named = ["--root", str(work.root), "--batch", "kites", *options]
    return work.call("ledger", "rebuild", *named)


@pytest.mark.parametrize("partition", ["", "x"])
def test_a_lost_ledger_is_made_anew_without_naming_its_windows(new_shell, partition):
    """What they are called is read off the folders, and the next run pays for nothing again."""
    work = new_shell()
    table = work.prompts(3)
    work.run(table, "--partition", partition)
    lose_ledger(work)

    result = rebuild(work)

    assert result.exit_code == 0, result.output
    assert "3 requests from the tables" in result.output
    assert work.report(table, "--partition", partition)["posts_sent"] == 0


def test_folders_of_two_names_are_asked_about(new_shell):
    """Nobody can tell which of them are the batch's windows."""
    work = new_shell()
    work.run(work.prompts(3), "--partition", "x")
    prompts = work.root / "kites" / "prompts"
    shutil.copytree(prompts / "partition=x", prompts / "date=2026-01-01")
    lose_ledger(work)

    result = rebuild(work)

    assert result.exit_code == 2
    assert "--window NAME" in result.output


def test_a_wrong_window_is_reported_by_both_names(new_shell):
    """Before anything is written."""
    work = new_shell()
    work.run(work.prompts(3), "--partition", "x")
    lose_ledger(work)

    result = rebuild(work, "--window", "date")

    assert result.exit_code == 2
    assert "partition=" in result.output
    assert "--window partition" in result.output
    assert rebuild(work).exit_code == 0
