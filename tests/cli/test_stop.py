"""`mynth-dagster stop` and `resume`: from another terminal, while a run sends."""

from __future__ import annotations

import json
from contextlib import closing

import pyarrow.parquet as pq

from tests.cli.test_interrupted import N_ROWS, SLOTS, finish, ledger, until_accepted


def n_claimed(work) -> int:
    with closing(ledger(work)) as connection:
        return int(connection.execute("SELECT count(*) FROM intents").fetchone()[0])


def test_a_running_batch_is_stopped_and_goes_on_where_it_stopped(new_shell):
    """No row is claimed once the command returns; what is in flight is recorded; none is lost."""
    work = new_shell(response_delay_s=0.05)
    table = work.prompts(N_ROWS)
    process = work.start(table, "--concurrency", str(SLOTS))
    until_accepted(work, 20)

    root = ("--root", str(work.root))
    stopped = work.call("stop", *root, "--batch", "kites", "--reason", "the wrong prompts")
    claimed = n_claimed(work)
    code, report = finish(process)

    assert stopped.exit_code == 0
    assert "mynth-dagster resume --batch kites" in stopped.stdout
    assert n_claimed(work) == claimed < N_ROWS
    assert len(work.server.log()["accepted"]) == claimed
    assert (code, report["stopped"]) == (1, "stopped")
    assert "the wrong prompts" in report["stop_message"]
    assert "mynth-dagster resume" in report["stop_next_step"]
    failures = pq.read_table(work.root / "kites" / "failures" / "part-0.parquet").to_pylist()
    assert {row["error_code"] for row in failures} == {"stopped"}
    assert all("mynth-dagster resume" in row["next_step"] for row in failures)

    said = work.call("status", *root).stdout
    assert "Stopped: batch kites, by" in said
    assert "the wrong prompts" in said
    again = work.report(table)
    assert (again["posts_sent"], again["stopped"]) == (0, "stopped")

    assert "1 stops lifted" in work.call("resume", *root, "--batch", "kites").stdout
    assert work.report(table)["images"] == N_ROWS
    assert work.server.log()["duplicate_intents"] == []
    assert len(work.server.log()["accepted"]) == N_ROWS


def test_one_partition_is_stopped_and_the_others_go_on(new_shell):
    """By the key that `status` shows."""
    work = new_shell()
    table, root = work.prompts(3), ("--root", str(work.root))
    for key in ("mon", "tue"):
        work.report(table, "--partition", key)
    work.call("stop", *root, "--batch", "kites", "--partition", "mon")

    more = work.prompts(5)

    assert work.report(more, "--partition", "mon")["posts_sent"] == 0
    assert work.report(more, "--partition", "tue")["posts_sent"] == 2
    assert "Stopped: partition mon of batch kites" in work.call("status", *root).stdout


def test_everything_is_stopped(new_shell):
    """Whatever batch it is, also one that the ledger does not know yet."""
    work = new_shell()
    root = ("--root", str(work.root))
    work.report(work.prompts(1))
    work.call("stop", *root, "--all")

    assert work.report(work.prompts(2, name="boats.parquet"))["posts_sent"] == 0
    still = work.call("resume", *root, "--batch", "kites").stdout
    assert "Still stopped: everything, by" in still
    work.call("resume", *root, "--all")
    assert work.report(work.prompts(2, name="boats.parquet"))["posts_sent"] == 2


def test_what_cannot_be_stopped_is_reported(new_shell):
    """A typing error stops nothing and says so."""
    work = new_shell()
    root = ("--root", str(work.root))
    work.report(work.prompts(1))

    for options, said in (
        (("--batch", "kits"), "the ledger has no batch 'kits'; it has kites"),
        (("--batch", "kites", "--partition", "x"), "has no partition 'x'; it has all"),
        ((), "name a batch, or give --all"),
        (("--all", "--batch", "kites"), "name a batch, or give --all"),
    ):
        result = work.call("stop", *root, *options)
        assert result.exit_code == 2
        assert said in result.stderr.replace("\n", " ")
    told = json.loads(work.call("status", *root, "--json").stdout)
    assert told["stops"] == []
