"""Events of revision 2026-10 in a ledger that was set up under 2026-08."""

from __future__ import annotations

import shutil
from dataclasses import replace

from tests.engine.bench import TABLES, Bench
from tests.engine.post import (
    READS,
    batch,
    deliver,
    events,
    finish,
    in_newer_form,
    n_requests,
    outcomes,
    send_all,
    work,
)

FAILURES = [
    {"kind": "task", "prompt_contains": "prompt 1"},
    {"kind": "images", "prompt_contains": "prompt 3", "image_indexes": [1]},
]


def test_newer_events_are_understood_by_a_ledger_that_was_set_up_under_an_older_revision(
    new_bench, tmp_path
):
    """A server may change its revision meanwhile: nothing is read, and no table is different."""
    of = batch(defaults=replace(batch().defaults, count=2))
    told = new_bench(progress="manual", failures=FAILURES)
    send_all(told, 12, of)
    told.server.settle()
    (tmp_path / "polled").mkdir()
    polled = Bench(told.server, told.clock, tmp_path / "polled")
    shutil.copytree(told.root, polled.root)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "polled" / "ledger.db")

    before = n_requests(told, *READS)
    assert deliver(told, in_newer_form(told.server)) == 12
    finish(told, of)
    assert n_requests(told, *READS) == before
    finish(polled, of)

    assert outcomes(told) == {"read": 12}
    for name in TABLES:
        assert told.table(name) == polled.table(name), name
    told.require_sound(12, count=2)


def test_what_comes_in_both_forms_has_one_effect(new_bench):
    """The events of the days in which the server changes its revision."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 6)
    work_bench.server.settle()
    older, newer = events(work_bench.server), in_newer_form(work_bench.server)
    deliver(work_bench, older[:4])
    deliver(work_bench, newer[2:])
    deliver(work_bench, newer[2:])
    finish(work_bench)

    assert outcomes(work_bench) == {"read": 6, "known": 2}
    work_bench.require_sound(6)


def test_a_newer_event_settles_a_row_whose_answer_was_lost(new_bench):
    """By the tag in the metadata of the task that it holds."""
    work_bench = new_bench(progress="manual", faults=[{"kind": "lost_answer", "count": 1}])
    send_all(work_bench, 5)
    assert work_bench.states() == {"accepted": 4, "unresolved": 1}
    work_bench.server.settle()
    deliver(work_bench, in_newer_form(work_bench.server))
    assert work(work_bench) == 5

    assert work_bench.states() == {"completed": 5}
    assert work_bench.n_posts == 5


def test_a_newer_hint_is_confirmed_by_asking_for_the_task(new_bench):
    """Whatever its body says."""
    work_bench = new_bench(progress="manual")
    send_all(work_bench, 3)
    before = n_requests(work_bench, *READS)
    work_bench.server.settle()
    deliver(work_bench, in_newer_form(work_bench.server), is_signed=False)
    finish(work_bench)

    assert n_requests(work_bench, *READS) == before + 3
    assert work_bench.states() == {"completed": 3}
