"""`mynth-dagster task`: one task, with a token or the key."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from mynth_dagster.engine.session import ledger_url_in
from mynth_dagster.ledger import Ledger
from mynth_dagster.models.task import PublicAccessToken
from tests.factories import KEY

TOKEN = "MYNTH_PUBLIC_ACCESS_TOKEN"


@pytest.fixture
def made(shell):
    """A shell with one task made, and its id."""
    work = shell()
    work.run(work.prompts(1))
    (file,) = (work.root / "kites" / "tasks").rglob("*.parquet")
    return work, pq.read_table(file)["task_id"][0].as_py()


def test_a_key_reads_a_task(made):
    """Status and images as JSON."""
    work, task_id = made
    told = json.loads(work.call("task", task_id).stdout)

    assert (told["task_id"], told["status"]) == (task_id, "completed")
    assert told["images"][0]["url"].startswith(work.server.url)


def test_a_wrong_token_falls_back_to_the_key(made):
    """Where there is one; without it the vendor's 401 is told, and nothing is charged."""
    work, task_id = made
    assert work.call("task", task_id, **{TOKEN: "pat_wrong"}).exit_code == 0

    refused = work.call("task", task_id, **{TOKEN: "pat_wrong", "MYNTH_API_KEY": None})
    assert refused.exit_code == 1
    assert "401" in refused.output


def test_without_token_and_key_it_says_which_to_set(made):
    """Both names, and that nothing was sent."""
    work, task_id = made
    result = work.call("task", task_id, MYNTH_API_KEY=None)
    assert result.exit_code == 2
    assert TOKEN in result.output
    assert "MYNTH_API_KEY" in result.output
    assert KEY not in result.output


def test_no_token_is_left_in_the_ledger_of_a_batch_that_wants_none(made):
    """Only those that were asked for are kept."""
    work, task_id = made
    ledger = Ledger.open(ledger_url_in(str(work.root)))
    try:
        assert ledger.read.tokens([task_id]) == {}
        assert "pat_x" not in repr(PublicAccessToken("pat_x", 1))
    finally:
        ledger.close()
