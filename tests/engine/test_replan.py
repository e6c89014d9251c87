"""
A table that is run again: compared by sets, it is planned as row by row; Mynth's log judges.

Naming every row turns the comparison by sets off, so both ways can be asked about one ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, Plan, Retry, RunOptions, Step, build_plan
from mynth_dagster.engine.run import prepare, submit
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.tables.source import source_from_arrow
from tests.batches import make_batch
from tests.engine.bench import Bench, prompts
from tests.factories import MODEL

ROWS = prompts(12)


def plan(work: Bench, *, row_by_row: bool = False, **fields: Any) -> Plan:
    """What the next run of the batch would do with the prompts as they lie there."""
    batch = make_batch(**{"name": "b", "models": (MODEL,), **fields})
    named = frozenset(row["prompt_id"] for row in work.table("prompts"))

    async def look() -> Plan:
        async with work.session() as session:
            options = RunOptions(prompt_ids=named) if row_by_row else DEFAULT_RUN_OPTIONS
            return await build_plan(session, ImageWork(batch), batch.slices(), options)

    return asyncio.run(look())


def planned(work: Bench, **fields: Any) -> Plan:
    """The same, once it is sure that both ways of planning agree on everything."""
    by_sets = plan(work, **fields)
    assert by_sets == plan(work, row_by_row=True, **fields)
    return by_sets


def only_prepare(work: Bench, wanted: Sequence[str] | None = None, **fields: Any) -> None:
    """Write the prompts, or those of the shards that are wanted, and do nothing more."""
    batch = make_batch("b", models=(MODEL,), **fields)
    source = source_from_arrow(pa.Table.from_pylist(ROWS), "prompts")
    slices = None if wanted is None else [batch.slice("", shard) for shard in wanted]

    async def go() -> None:
        async with work.session() as session:
            await prepare(session, batch, source, window="", wanted=slices)

    asyncio.run(go())


def edited(rows: list[dict[str, Any]], *places: int) -> list[dict[str, Any]]:
    """These rows, those at some places with another prompt."""
    changed = {n: {**rows[n], "prompt": f"{rows[n]['prompt']}!"} for n in places}
    return [changed.get(n, row) for n, row in enumerate(rows)]


def test_nothing_changed(new_bench):
    """Every row is done, and nothing is asked for."""
    work = new_bench()
    work.run(ROWS)

    assert planned(work).rows == {Step.DONE: 12}
    assert work.run(ROWS).posts_sent == 0
    assert work.n_posts == 12


def test_an_edited_row_alone_is_sent(new_bench):
    """As a new generation; edited back, it is the row that was paid for."""
    work = new_bench()
    work.run(ROWS)

    assert work.run(edited(ROWS, 3, 7)).posts_sent == 2
    assert planned(work).rows == {Step.DONE: 12}
    assert work.run(ROWS).posts_sent == 0
    assert planned(work).rows == {Step.DONE: 12}
    assert (work.n_posts, len(work.accepted)) == (14, 14)
    work.require_sound(12)


def test_a_row_that_was_asked_for_twice_is_done(new_bench):
    """By a person's wish; its second generation is the row now, whatever the first one was."""
    work = new_bench()
    work.run(ROWS)
    options = RunOptions(force=True, prompt_ids=frozenset({"p00004"}), confirm=True)

    assert work.run(ROWS, options=options).posts_sent == 1
    assert planned(work).rows == {Step.DONE: 12}
    assert work.run(ROWS).posts_sent == 0
    assert work.run(edited(ROWS, 4)).posts_sent == 1
    assert work.n_posts == 14
    work.require_sound(12)


def test_a_row_that_moved_is_moved_and_not_sent(new_bench):
    """Another number of shards: told once with its new place, and from then on done there."""
    work = new_bench()
    work.run(ROWS, fan_out=2)
    before = work.query("SELECT prompt_id, fan_out FROM intents")

    assert work.run(ROWS, fan_out=5).posts_sent == 0
    assert work.query("SELECT prompt_id, fan_out FROM intents") != before
    assert planned(work, fan_out=5).moved == []
    assert planned(work, fan_out=5).rows == {Step.DONE: 12}
    assert work.n_posts == 12


def test_a_row_that_lies_in_an_old_and_a_new_shard_is_sent_once(new_bench):
    """The number of shards grew, and only the new ones' prompts were written since."""
    work = new_bench()
    only_prepare(work, fan_out=2)
    only_prepare(work, ["002", "003"], fan_out=4)
    batch = make_batch("b", models=(MODEL,), fan_out=4)
    assert len(work.table("prompts")) > len(ROWS)

    async def send() -> None:
        async with work.session() as session:
            images = ImageWork(batch)
            await submit(session, images, batch.slices(), submitter="test", stop=CancelToken())

    asyncio.run(send())

    assert work.n_posts == len(ROWS)
    assert work.log["duplicate_intents"] == []
    named = work.query("SELECT count(DISTINCT claimant) FROM intents")
    assert named == [(len(ROWS),)], "two claims of a row can be told apart only by their names"


def test_rows_are_known_to_have_moved_before_they_are(new_bench):
    """The prompts lie in their new places, the ledger has them in the old ones."""
    work = new_bench()
    work.run(ROWS, fan_out=2)
    before = dict(work.query("SELECT intent_id, fan_out FROM intents"))
    only_prepare(work, fan_out=5)

    found = planned(work, fan_out=5)

    assert found.rows == {Step.DONE: 12}
    assert {name for name, _ in found.moved} <= set(before)
    assert found.moved, "no row changed its place"


@pytest.mark.parametrize(("retries", "n_sent"), [(0, 0), (2, 2)])
def test_a_failed_row_that_was_refunded_stays_failed_or_is_tried_again(new_bench, retries, n_sent):
    """It cost nothing: it is no paid row, done unless the batch tries again by itself."""
    work = new_bench(failures=[{"prompt_contains": "prompt 5"}])
    work.run(ROWS)

    found = planned(work, retries=retries)
    assert found.n_to_send == min(n_sent, 1)
    assert found.paid["all"].n_present == 11
    assert work.run(ROWS, retries=retries).posts_sent == n_sent
    work.require_sound(12)


def test_a_rejected_row_is_done_until_it_is_asked_for_again(new_bench):
    """Mynth refused it, for nothing; it is asked about once, and again when a person says so."""
    work = new_bench(failures=[{"kind": "refused", "prompt_contains": "prompt 5"}])
    work.run(ROWS)
    n_posts = work.n_posts

    assert planned(work).rows == {Step.DONE: 12}
    assert planned(work).paid["all"].n_present == 11
    assert work.run(ROWS).posts_sent == 0
    assert work.run(ROWS, options=RunOptions(retry=Retry.FAILED)).posts_sent == 1
    assert (work.n_posts, len(work.log["accepted"])) == (n_posts + 1, 11)


def test_a_row_that_waits_or_is_in_doubt_is_neither_sent_nor_done(new_bench):
    """Lost answers are held for evidence; tasks that run are waited for."""
    work = new_bench(progress="manual", faults=[{"kind": "reset", "every": 4}])
    work.run(ROWS)

    found = planned(work)

    assert found.n_to_send == 0
    assert (found.rows[Step.WAIT], found.rows[Step.HOLD], found.rows[Step.DONE]) == (9, 3, 0)
    assert work.run(ROWS).posts_sent == 0


def test_a_row_that_cost_nothing_is_done_and_not_counted_as_paid(new_bench):
    """A free image may be replaced without a second word."""
    work = new_bench(prices_usd={MODEL: "0"})
    work.run(ROWS)

    found = planned(work)
    assert found.rows == {Step.DONE: 12}
    assert found.paid["all"].n_present == 0
