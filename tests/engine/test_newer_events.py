"""Events of revision 2026-10 in a ledger whose tasks were sent under an older one."""

from __future__ import annotations

import shutil

import orjson
import pytest

from tests.engine.bench import TABLES, Bench
from tests.engine.post import (
    READS,
    batch,
    deliver,
    events,
    finish,
    n_requests,
    outcomes,
    send_all,
)

FAILURES = [
    {"kind": "task", "prompt_contains": "prompt 1"},
    {"kind": "images", "prompt_contains": "prompt 3", "image_indexes": [1]},
]

N_LOSSES = 4
"""Of rows 0 to 11, three fail and one lacks an image: each is confirmed by one reading."""


@pytest.mark.parametrize("older", ["2026-04", "2026-08"])
def test_newer_events_finish_what_was_sent_under_an_older_revision(bench_of, tmp_path, older):
    """The server changed its revision meanwhile: only losses are read, and no table differs."""
    of = batch(count=2)
    told = bench_of(revision=older, progress="manual", failures=FAILURES)
    send_all(told, 12, of)
    told.server.set_scenario(revision="2026-10")
    told.server.complete()
    (tmp_path / "polled").mkdir()
    polled = Bench(told.server, told.clock, tmp_path / "polled")
    shutil.copytree(told.root, polled.root)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "polled" / "ledger.db")

    before = n_requests(told, *READS)
    assert deliver(told, events(told.server)) == 12
    finish(told, of)
    assert n_requests(told, *READS) == before + N_LOSSES
    finish(polled, of)

    assert outcomes(told) == {"read": 12}
    for name in TABLES:
        assert told.table(name) == polled.table(name), name
    told.require_sound(12, count=2)


def test_what_comes_in_both_forms_has_one_effect(bench_of):
    """The events of the days in which the server changes its revision."""
    work_bench = bench_of(revision="2026-08", progress="manual")
    send_all(work_bench, 6)
    work_bench.server.complete()
    older = events(work_bench.server)
    work_bench.server.set_scenario(revision="2026-10")
    newer = events(work_bench.server)
    deliver(work_bench, older[:4])
    deliver(work_bench, newer[2:])
    deliver(work_bench, newer[2:])
    finish(work_bench)

    assert outcomes(work_bench) == {"read": 6, "known": 2}
    work_bench.require_sound(6)


@pytest.mark.parametrize("lie", ["failed", "fewer images"])
def test_an_event_that_would_be_a_rows_loss_is_confirmed_by_one_reading(new_bench, lie):
    """Its signature proves who sent it, and not that it is so."""
    of = batch(count=2)
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 3, of)
    work_bench.server.complete()
    told = [orjson.loads(body) for body in events(work_bench.server)]
    if lie == "failed":
        told[0]["type"] = "task.image.generate.failed"
        told[0]["data"] |= {"status": "failed", "result": None, "errors": [{"code": "odd"}]}
    else:
        del told[0]["data"]["result"]["images"][1]
    before = n_requests(work_bench, *READS)

    deliver(work_bench, [orjson.dumps(event) for event in told])
    finish(work_bench, of)

    assert n_requests(work_bench, *READS) == before + 1
    assert len(work_bench.table("images")) == 6
    work_bench.require_sound(3, count=2)
