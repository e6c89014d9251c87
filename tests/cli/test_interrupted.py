"""A real process, interrupted or killed in the middle of sending, and run again."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import threading
import time

import pyarrow.parquet as pq
import pytest

from mynth_dagster.limits import REVISIONS

N_ROWS = 120
SLOTS = 8


def until_accepted(work, n_tasks: int) -> None:
    """Return as soon as the simulator has made so many tasks."""
    deadline_s = time.monotonic() + 60
    while work.server.log()["totals"]["accepted"] < n_tasks:
        assert time.monotonic() < deadline_s, "the run does not get on"
        threading.Event().wait(0.01)


def finish(process: subprocess.Popen[str]) -> tuple[int, dict]:
    """Exit code and report of a run."""
    out, err = process.communicate(timeout=90)
    return process.returncode, json.loads(out) if out else {"stderr": err}


def ledger(work) -> sqlite3.Connection:
    return sqlite3.connect(work.root / "mynth-ledger.db")


@pytest.mark.parametrize(("revision", "after"), [(REVISIONS[0], 1), (REVISIONS[-1], 60)])
def test_a_killed_run_is_taken_up_without_paying_twice(shell, after):
    """SIGKILL with POSTs in flight: no intent twice, none lost, at most one open row a slot."""
    work = shell(response_delay_s=0.05)
    table = work.prompts(N_ROWS)
    options = ("--concurrency", str(SLOTS))
    process = work.start(table, *options)
    until_accepted(work, after)
    process.kill()
    process.communicate(timeout=60)
    assert work.server.log()["totals"]["accepted"] < N_ROWS
    work.server.set_scenario(response_delay_s=0.0)

    # What was in flight counts as interrupted only after its time; let that time have passed.
    with ledger(work) as connection:
        connection.execute("UPDATE intents SET send_by_us = 0 WHERE state = 'sending'")
    connection.close()
    report = work.report(table, *options)

    log = work.server.log()
    assert log["duplicate_intents"] == []
    assert report["images"] + report["unresolved"] == N_ROWS
    assert report["unresolved"] <= SLOTS
    connection = ledger(work)
    known = dict(connection.execute("SELECT intent_id, state FROM intents"))
    connection.close()
    assert {entry["intent_id"] for entry in log["accepted"]} <= known.keys()
    if work.server.scenario.revision != "2026-04":
        assert report["images"] == len(log["accepted"])
    images = pq.read_table(work.root / "kites" / "images" / "part-0.parquet")
    assert len(set(images["prompt_id"].to_pylist())) == report["images"]


def test_a_signal_drains_what_is_in_flight(new_shell):
    """No new requests, every answer recorded, exit code 1, and the rest is sent next time."""
    work = new_shell(response_delay_s=0.05)
    table = work.prompts(N_ROWS)
    process = work.start(table, "--concurrency", str(SLOTS))
    until_accepted(work, 20)

    process.send_signal(signal.SIGTERM)
    code, report = finish(process)

    assert code == 1
    assert report["stopped"] == "cancelled"
    assert report["unresolved"] == report["pending"] == 0
    n_sent = work.n_posts
    assert n_sent == report["images"] < N_ROWS
    work.server.set_scenario(response_delay_s=0.0)
    assert work.report(table)["posts_sent"] == N_ROWS - n_sent


def test_a_signal_ends_the_wait(new_shell):
    """While tasks are pending: the run ends soon, and says what is under way."""
    work = new_shell(progress="manual")
    process = work.start(work.prompts(3))
    until_accepted(work, 3)

    process.send_signal(signal.SIGINT)
    code, report = finish(process)

    assert code == 1
    assert (report["stopped"], report["pending"]) == ("cancelled", 3)
