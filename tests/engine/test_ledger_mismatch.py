"""The ledger is the memory of what was paid: a wrong one is noticed before it spends."""

from __future__ import annotations

import json
import shutil

import pytest

from mynth_dagster.errors import LedgerMismatchError, TableError
from tests.engine.bench import Bench
from tests.factories import MODEL


@pytest.fixture
def work(new_bench) -> Bench:
    """Five rows, paid for and collected."""
    made = new_bench()
    made.run(5)
    return made


def copy_ledger(work: Bench, to: str) -> None:
    for path in work.folder.glob("ledger.db*"):
        if path.is_file():
            shutil.copy(path, work.folder / path.name.replace("ledger.db", to))


def refused(work: Bench, match: str) -> None:
    """The run stops with these words, having sent nothing."""
    n_posts = work.n_posts
    with pytest.raises(LedgerMismatchError, match=match) as caught:
        work.run(8)
    assert "Nothing was sent" in str(caught.value)
    for command in ("rebuild", "adopt"):
        named = f"mynth-dagster ledger {command} --root {work.root} --batch b"
        assert f"`{named}`" in str(caught.value)
    assert work.n_posts == n_posts


def test_a_new_ledger_beside_old_results_spends_nothing(work):
    """The file was lost: everything in the tables would be paid for again."""
    for path in work.folder.glob("ledger.db*"):
        if path.is_file():
            path.unlink()

    refused(work, r"belong to the ledger led_\w+, this is led_")


def test_results_without_a_mark_are_noticed_too(work):
    """Tables of an older release, or a mark that somebody deleted."""
    (work.root / "b" / "_ledger.json").unlink()
    work.ledger_url = f"sqlite:///{work.folder / 'other.db'}"

    refused(work, "knows nothing of them")


def test_an_older_copy_of_the_ledger_spends_nothing(work):
    """A backup put back does not know what was sent after it was made."""
    copy_ledger(work, "backup.db")
    work.run(7)
    work.ledger_url = f"sqlite:///{work.folder / 'backup.db'}"

    refused(work, "an older copy was restored")


def test_a_ledger_put_back_with_its_tables_is_noticed_at_the_list(work):
    """Its mark is as old as itself; what it sent since lies on top of Mynth's list."""
    copies = work.folder / "copies"
    copy_ledger(work, "backup.db")
    shutil.copytree(work.root, copies)
    work.run(7)
    shutil.rmtree(work.root)
    copies.rename(work.root)
    work.ledger_url = f"sqlite:///{work.folder / 'backup.db'}"
    n_posts = work.n_posts

    with pytest.raises(LedgerMismatchError, match="an older copy was restored") as caught:
        work.run(8)

    assert f"mynth-dagster ledger rebuild --root {work.root} --batch b" in str(caught.value)
    assert work.n_posts == n_posts


def test_strangers_on_top_of_the_list_do_not_stop_a_run(work):
    """Tasks of another ledger, or without any tag, are no reason."""
    for tag in ("int_aaaaaaaaaaaaaaaaaaaaaaaaaa.0123456789ab.led_aaaaaaaaaaaa", None):
        work.post_again({"prompt": "x", "model": MODEL, "intent_tag": tag})

    assert work.run(8).images == 8


def test_the_same_ledger_in_another_place_is_the_same(work):
    """Moved, not changed: nothing is paid again."""
    copy_ledger(work, "moved.db")
    work.ledger_url = f"sqlite:///{work.folder / 'moved.db'}"

    assert work.run(8).posts_sent == 3


def test_a_mark_that_cannot_be_read_is_no_permission(work):
    """Nothing is sent until somebody looked at it."""
    (work.root / "b" / "_ledger.json").write_text("{}")

    with pytest.raises(TableError, match="does not say which ledger"):
        work.run(8)
    assert work.n_posts == 5


def test_the_mark_is_renewed_by_each_run(work):
    """It tells how much the ledger knew when it last spent."""
    mark = work.root / "b" / "_ledger.json"
    before = json.loads(mark.read_text())

    work.run(6)

    after = json.loads(mark.read_text())
    assert after["ledger_id"] == before["ledger_id"]
    assert after["number"] > before["number"]


def test_a_first_run_needs_no_mark(new_bench):
    """An empty root and a new ledger are the normal beginning."""
    assert new_bench().run(2).images == 2
