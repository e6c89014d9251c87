"""Public access tokens: handed out on request, to nobody else, and good for one task each."""

from __future__ import annotations

import httpx
import pytest

ON = {"public_access_tokens": True}
RESULT = {"2026-04": "results", "2026-08": "result", "2026-10": "result"}
LIVES_S = {"2026-04": 3600, "2026-08": 7200, "2026-10": 3600}


def everything_kept(work) -> bytes:
    return b"\0".join(p.read_bytes() for p in sorted(work.folder.rglob("*")) if p.is_file())


def test_no_token_is_asked_for_or_kept_by_default(bench):
    """Neither in a table nor in the ledger."""
    work = bench()
    work.run(3)
    assert {row["public_access_token"] for row in work.table("tasks")} == {None}
    assert b"pat_" not in everything_kept(work)


def test_a_batch_that_asks_for_them_hands_them_out(bench):
    """One for each task, with the time until which it is good; and a re-run keeps them."""
    work = bench()
    work.run(3, **ON)
    before = work.bytes_of_tables()

    revision = work.server.scenario.revision
    for row in work.table("tasks"):
        headers = {"authorization": f"Bearer {row['public_access_token']}"}
        url = f"{work.server.url}/tasks/{row['task_id']}"
        assert httpx.get(f"{url}/status", headers=headers).status_code == 200
        assert httpx.get(f"{url}/{RESULT[revision]}", headers=headers).status_code == 200
        assert httpx.get(url, headers=headers).status_code == 401
        lives_s = (row["token_expires_at"] - row["submitted_at"]).total_seconds()
        assert lives_s == LIVES_S[revision]

    work.run(3, **ON)
    assert work.bytes_of_tables() == before


def test_turning_them_on_or_off_pays_for_nothing_again(bench):
    """They are no part of the wish; rows that were sent without have none."""
    work = bench()
    work.run(3)
    assert work.run(3, **ON).posts_sent == 0
    assert {row["public_access_token"] for row in work.table("tasks")} == {None}


@pytest.mark.parametrize("how", ["error_with_task", "silent"])
def test_a_token_that_could_not_be_made_costs_no_second_task(new_bench, how):
    """Told as an error with the task's id, or by a token that is missing: the task is followed."""
    work = new_bench(quirks={"token_failure": how}, faults=[{"kind": "token_failed", "count": 2}])

    report = work.run(5, **ON)

    assert (report.images, report.posts_sent, report.unresolved) == (5, 5, 0)
    tokens = [row["public_access_token"] for row in work.table("tasks")]
    assert tokens.count(None) == 2
    assert work.run(5, **ON).posts_sent == 0
    work.require_sound(5)
