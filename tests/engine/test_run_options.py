"""Asking for rows again: what is chosen, what it costs first, and when a second word is needed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, PaidAgain, Retry, RunOptions
from mynth_dagster.engine.run import RunProgress, run_table
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import ConfirmationNeededError
from mynth_dagster.models.transitions import FINAL, IntentState
from mynth_dagster.tables.source import open_source
from tests.batches import make_batch
from tests.factories import make_intent

MODEL = "black-forest-labs/flux.2-dev"
S = IntentState


@pytest.mark.parametrize(
    ("options", "states"),
    [
        (DEFAULT_RUN_OPTIONS, set()),
        (RunOptions(retry=Retry.RETRYABLE), {S.FAILED, S.REJECTED}),
        (RunOptions(retry=Retry.FAILED), {S.FAILED, S.REJECTED}),
        (RunOptions(retry=Retry.PARTIAL), {S.FAILED, S.REJECTED, S.PARTIAL}),
        (RunOptions(force=True), set(FINAL)),
    ],
)
def test_only_finished_rows_are_asked_for_again(options, states):
    """Each wish chooses its final states, and never a row that moves, rests or is in doubt."""
    again = {state for state in S if options.wants_again(make_intent(state=state))}

    assert again == states


def test_retryable_leaves_out_what_would_fail_again():
    """A moderated prompt fails the same way, so only `failed` asks for it again."""
    moderated = make_intent(state=S.FAILED, error_code="restricted_content")

    assert not RunOptions(retry=Retry.RETRYABLE).wants_again(moderated)
    assert RunOptions(retry=Retry.FAILED).wants_again(moderated)


@pytest.mark.parametrize("options", [RunOptions(force=True), RunOptions(retry=Retry.FAILED)])
def test_what_was_asked_for_since_the_beginning_is_left_alone(options):
    """A wish that is repeated pays for no row again that it redid, whichever way that ended."""
    since = replace(options, begun_at_us=1_000)
    again = {
        at_us: since.wants_again(make_intent(state=S.FAILED, claimed_at_us=at_us))
        for at_us in (999, 1_000, 1_001)
    }

    assert again == {999: True, 1_000: False, 1_001: False}


@pytest.mark.parametrize(
    ("paid", "needed"),
    [
        (PaidAgain(n_paid=1000, n_present=1000, n_again=200), False),
        (PaidAgain(n_paid=1000, n_present=1000, n_again=201), True),
        (PaidAgain(n_paid=100, n_present=100, n_again=100), False),
        (PaidAgain(n_paid=101, n_present=101, n_again=101), True),
        (PaidAgain(n_paid=1000, n_present=1000, n_new=5000), False),
        (PaidAgain(n_paid=1000, n_present=0, n_new=1000), True),
        (PaidAgain(n_paid=1000, n_present=0, n_new=50), False),
        (PaidAgain(n_new=5000), False),
    ],
)
def test_much_paid_again_needs_a_second_word(paid, needed):
    """More than a fifth and more than a hundred of a partition's paid rows, counted either way."""
    assert paid.needs_confirmation is needed


class Table:
    """A prompt table that is run again and again."""

    def __init__(self, folder, server) -> None:
        self.folder, self.server = folder, server
        self.settings = EngineSettings(
            client=ClientSettings(base_url=server.url, api_key="mak_simulator"),
            ledger_url=f"sqlite:///{folder / 'mynth-ledger.db'}",
            root=str(folder),
            api_revision="2026-10",
            poll_interval_min_s=0.01,
            poll_interval_max_s=0.02,
        )

    def write(self, prompts: list[str]) -> None:
        ids = [f"p{index}" for index in range(len(prompts))]
        other = [f"{prompt} at night" for prompt in prompts]
        table = pa.table({"prompt_id": ids, "prompt": prompts, "other": other})
        pq.write_table(table, self.folder / "p.parquet")

    def run(self, options: RunOptions = DEFAULT_RUN_OPTIONS, **batch):
        async def run():
            async with open_session(self.settings) as session:
                return await run_table(
                    session,
                    make_batch("shots", **{"models": (MODEL,), **batch}),
                    open_source(str(self.folder / "p.parquet")),
                    window="",
                    stop=CancelToken(),
                    progress=RunProgress(),
                    options=options,
                )

        return asyncio.run(run())

    @property
    def n_accepted(self) -> int:
        return self.server.log()["totals"]["accepted"]


@pytest.fixture
def table(tmp_path, simulator) -> Table:
    return Table(tmp_path, simulator(revision="2026-10"))


def test_failed_rows_are_retried_as_a_new_generation(table):
    """A retry pays for the failed row only, and its image replaces the failure."""
    table.server.set_scenario(failures=[{"kind": "task", "prompt_contains": "bad", "first": 1}])
    table.write(["a kite", "a bad kite", "a bee"])
    assert table.run().failures == {"provider_error": 1}

    report = table.run(RunOptions(retry=Retry.RETRYABLE))

    assert (report.posts_sent, report.images, report.failures) == (1, 3, {})
    assert table.server.log()["duplicate_intents"] == []
    assert table.run().posts_sent == 0


def test_force_can_be_limited_to_rows(table):
    """Force with prompt ids pays for these rows once more and leaves the others alone."""
    table.write(["a kite", "a bee", "a cat"])
    table.run()

    report = table.run(RunOptions(force=True, prompt_ids=frozenset({"p1"})))

    assert report.posts_sent == 1
    assert report.images == 3
    assert table.n_accepted == 4


def test_changed_default_stops_before_paying_again(table):
    """A new size for 150 paid rows is refused with figures and price, until confirmed."""
    table.write([f"a kite, number {index}" for index in range(150)])
    table.run()
    square = {"size": "square"}

    with pytest.raises(ConfirmationNeededError, match="150 of 150 in all") as refused:
        table.run(**square)

    assert "would reserve $1.50" in str(refused.value)
    assert table.n_accepted == 150
    assert table.run(RunOptions(confirm=True), **square).posts_sent == 150


def test_second_model_is_paid_for_alone(table):
    """Beside a first model only the second one's requests are new, in any order; back is free."""
    table.write([f"a kite, number {index}" for index in range(90)])
    assert table.run().posts_sent == 90

    assert table.run(models=("recraft/recraft-v4", MODEL)).posts_sent == 90
    assert table.run(models=(MODEL, "recraft/recraft-v4")).posts_sent == 0
    assert table.run().posts_sent == 0
    assert table.run(models=("recraft/recraft-v4",)).posts_sent == 0
    assert table.n_accepted == 180


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ("recraft/recraft-v4",)}, "20 of 20 in all"),
        ({"models": ("auto",)}, "20 of 20 in all"),
        ({"size": "square"}, "20 of 20 in all"),
        ({"columns": {"prompt": "other"}}, "20 of 20 in all"),
    ],
    ids=["other model", "no model", "default", "column"],
)
def test_changed_settings_ask_before_a_small_sum_is_paid_again(table, change, said):
    """Twenty paid rows that other settings would pay for anew wait for a word; then it is past."""
    table.write([f"a kite, number {index}" for index in range(20)])
    table.run()

    for _ in range(2):
        with pytest.raises(ConfirmationNeededError, match=said):
            table.run(**change)
    assert table.n_accepted == 20
    with pytest.raises(ConfirmationNeededError):
        table.run(RunOptions(prompt_ids=frozenset(f"p{n}" for n in range(15))), **change)

    assert table.run(RunOptions(confirm=True), **change).posts_sent == 20
    assert table.run(**change).posts_sent == 0
    assert table.run().posts_sent == 0


def test_small_sum_can_be_named(table):
    """What `confirm_above_usd` allows is paid without a word, and not a cent more."""
    table.write([f"a kite, number {index}" for index in range(5)])
    table.run()
    square = {"size": "square"}

    with pytest.raises(ConfirmationNeededError):
        table.run(**square, confirm_above_usd=Decimal("0.04"))
    assert table.run(**square, confirm_above_usd=Decimal("0.05")).posts_sent == 5


def test_rows_that_somebody_edits_need_no_word(table):
    """Under the settings of before, edited and exchanged rows are new wishes, as ever."""
    table.write([f"a kite, number {index}" for index in range(40)])
    table.run()
    table.write([f"a kite, number {index + 20}" for index in range(40)])

    assert table.run().posts_sent == 40


def test_growing_table_needs_no_second_word(table):
    """New rows are what a run is for, however many."""
    table.write([f"a kite, number {index}" for index in range(120)])
    table.run()
    table.write([f"a kite, number {index}" for index in range(500)])

    assert table.run().posts_sent == 380
