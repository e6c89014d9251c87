"""Events of revision 2026-10 in a ledger whose tasks were sent under an older one."""

from __future__ import annotations

import shutil
from dataclasses import replace

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


@pytest.mark.parametrize("older", ["2026-04", "2026-08"])
def test_newer_events_finish_what_was_sent_under_an_older_revision(bench_of, tmp_path, older):
    """The server changed its revision meanwhile: nothing is read, and no table is different."""
    of = batch(defaults=replace(batch().defaults, count=2))
    told = bench_of(revision=older, progress="manual", failures=FAILURES)
    send_all(told, 12, of)
    told.server.set_scenario(revision="2026-10")
    told.server.settle()
    (tmp_path / "polled").mkdir()
    polled = Bench(told.server, told.clock, tmp_path / "polled")
    shutil.copytree(told.root, polled.root)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "polled" / "ledger.db")

    before = n_requests(told, *READS)
    assert deliver(told, events(told.server)) == 12
    finish(told, of)
    assert n_requests(told, *READS) == before
    finish(polled, of)

    assert outcomes(told) == {"read": 12}
    for name in TABLES:
        assert told.table(name) == polled.table(name), name
    told.require_sound(12, count=2)


def test_what_comes_in_both_forms_has_one_effect(bench_of):
    """The events of the days in which the server changes its revision."""
    work_bench = bench_of(revision="2026-08", progress="manual")
    send_all(work_bench, 6)
    work_bench.server.settle()
    older = events(work_bench.server)
    work_bench.server.set_scenario(revision="2026-10")
    newer = events(work_bench.server)
    deliver(work_bench, older[:4])
    deliver(work_bench, newer[2:])
    deliver(work_bench, newer[2:])
    finish(work_bench)

    assert outcomes(work_bench) == {"read": 6, "known": 2}
    work_bench.require_sound(6)
