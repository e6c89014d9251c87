"""A lost ledger made anew: what was paid for is known again, and nothing is paid for twice."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from mynth_dagster.engine.recover import Rebuilt, rebuild
from mynth_dagster.engine.run import RunProgress
from mynth_dagster.engine.stop import CANCELLED, CancelToken
from mynth_dagster.errors import ApiError, LedgerMismatchError, TableError
from tests.batches import make_batch
from tests.engine.bench import Bench
from tests.factories import MODEL


def lose_ledger(work: Bench) -> None:
    for path in work.folder.glob("ledger.db*"):
        if path.is_file():
            path.unlink()


def make_anew(work: Bench, **fields) -> Rebuilt:
    async def once() -> Rebuilt:
        async with work.session() as session:
            return await rebuild(session, make_batch(**{"models": (MODEL,), **fields}), [])

    return asyncio.run(once())


def test_a_ledger_made_anew_knows_every_row_of_the_tables(bench):
    """Finished, failed and refused: a run sends nothing, and the tables are equal."""
    refused = {"kind": "status", "status": 400, "code": "validation_error"}
    work = bench(
        failures=[{"prompt_contains": "prompt 4"}],
        faults=[{**refused, "prompt_contains": "prompt 5"}],
    )
    work.run(8, fan_out=3)
    images, failures = work.table("images"), work.table("failures")
    before = {row["task_id"] for row in work.table("tasks")}
    n_posts = work.n_posts
    lose_ledger(work)

    found = make_anew(work, fan_out=3)
    report = work.run(8, fan_out=3)

    assert (found.n_from_tables, found.n_from_list, found.n_unplaced) == (8, 0, 0)
    assert (report.posts_sent, work.n_posts) == (0, n_posts)
    assert [row["url"] for row in work.table("images")] == [row["url"] for row in images]
    assert len(work.table("failures")) == len(failures)
    assert {row["task_id"] for row in work.table("tasks")} == before
    work.require_sound(8)


def test_what_was_sent_after_the_tables_were_written_is_found_in_the_list(new_bench):
    """The tag names ledger, row and generation: each task finds its row."""
    work = new_bench(progress="manual")
    stop = CancelToken()
    work.run(5, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))
    (work.root / "b" / "tasks" / "part-0.parquet").unlink()
    work.server.complete()
    work.server.set_scenario(progress="immediate")
    lose_ledger(work)

    found = make_anew(work)
    report = work.run(7)

    assert (found.n_from_tables, found.n_from_list) == (0, 5)
    assert (report.images, report.posts_sent) == (7, 2)
    work.require_sound(7)


def test_rows_in_doubt_stay_in_doubt(new_bench):
    """A row whose answer was lost is not sent again because the ledger was lost too."""
    work = new_bench(faults=[{"kind": "reset", "prompt_contains": "prompt 2"}])
    assert work.run(5).unresolved == 1
    work.server.set_scenario(faults=())
    lose_ledger(work)

    make_anew(work)

    report = work.run(5)
    assert (report.posts_sent, report.unresolved, report.images) == (0, 1, 4)


@pytest.fixture
def half_made(new_bench) -> Bench:
    """Five rows of which only the task list tells, and a rebuild that could not read it."""
    work = new_bench(progress="manual")
    stop = CancelToken()
    work.run(5, stop=stop, progress=RunProgress(on_round=lambda _: stop.set(CANCELLED)))
    (work.root / "b" / "tasks" / "part-0.parquet").unlink()
    lose_ledger(work)
    silent = {"route": "GET /tasks", "kind": "status", "status": 401, "code": "unauthorized"}
    work.server.complete()
    work.server.set_scenario(progress="immediate", faults=[silent])
    with pytest.raises(ApiError):
        make_anew(work)
    work.server.set_scenario(faults=())
    return work


def test_a_rebuild_that_was_cut_off_goes_on(half_made):
    """What was put back stays, what is missing is added, and nothing is paid for again."""
    found = make_anew(half_made)
    report = half_made.run(5)

    assert (found.n_from_tables, found.n_from_list) == (0, 5)
    assert (report.images, report.posts_sent) == (5, 0)
    half_made.require_sound(5)


def test_a_half_made_ledger_does_not_spend(half_made):
    """However much the lost one knew: the rest would be paid for again."""
    (half_made.root / "b" / "_ledger.json").unlink()

    with pytest.raises(LedgerMismatchError, match=r"rebuild --root .* --batch b`"):
        half_made.run(5)


def test_a_rebuild_may_be_repeated_at_any_of_its_steps(new_bench):
    """Each step puts back what is not there yet: a repetition finds nothing more to do."""
    work = new_bench()
    work.run(6, fan_out=2)
    lose_ledger(work)
    make_anew(work, fan_out=2)
    engine = sa.create_engine(work.ledger_url)
    with engine.begin() as connection:
        before = connection.execute(sa.text("SELECT * FROM intents ORDER BY 1")).all()
        connection.execute(sa.text("UPDATE partitions SET submitter = 'rebuild'"))

    found = make_anew(work, fan_out=2)

    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT * FROM intents ORDER BY 1")).all() == before
    engine.dispose()
    assert (found.n_from_tables, found.n_from_list, found.n_unplaced) == (0, 0, 0)
    assert work.run(6, fan_out=2).posts_sent == 0


def test_a_wrong_window_is_reported_before_anything_is_written(new_bench):
    """Folders of another name would be taken for no window at all."""
    work = new_bench()
    work.run(3, window="x", window_dimension="partition")
    lose_ledger(work)

    with pytest.raises(TableError, match=r"partition=.*date=.*--window partition"):
        make_anew(work)

    assert make_anew(work, window_dimension="partition").n_from_tables == 3


def test_tasks_of_rows_that_are_gone_are_counted(new_bench):
    """Their row is in no table any more; they are told, not guessed at."""
    work = new_bench()
    work.run(6)
    work.run(4)
    (work.root / "b" / "tasks" / "part-0.parquet").unlink()
    lose_ledger(work)

    found = make_anew(work)

    assert (found.n_from_list, found.n_unplaced) == (4, 2)


def test_a_ledger_that_is_in_use_is_not_made_anew(new_bench):
    """It would be two ledgers in one."""
    work = new_bench()
    work.run(3)

    with pytest.raises(LedgerMismatchError, match=r"nothing to rebuild.* new, empty ledger"):
        make_anew(work)
