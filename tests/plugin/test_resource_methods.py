"""A `MynthResource` in an asset of one's own or a notebook: quote, submit, wait, collect."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from mynth_dagster import Batch, ImageRequest, MynthResource, Spending
from mynth_dagster.errors import ConfirmationNeededError, RunStoppedError, TableError
from tests.plugin.conftest import MODEL

POSTCARDS = Batch("postcards", request=ImageRequest(models=[MODEL]))


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"prompt_id": ["a", "b", "c"], "prompt": ["a kite", "a boat", ""]})


def test_quote_prices_what_would_be_sent_and_sends_nothing(instant, frame):
    """Rows that break a rule are counted and cost nothing."""
    quote = instant.resource.quote(frame, POSTCARDS)

    assert (quote.n_rows, quote.n_rejected, quote.n_to_send) == (3, 1, 2)
    assert quote.cost_usd > 0
    assert instant.n_accepted == 0


def test_table_becomes_images_in_three_calls(instant, frame):
    """Submit, wait, collect; every row is in one of the two tables."""
    mynth = instant.resource
    tasks = mynth.submit(frame, POSTCARDS)
    images, failures = mynth.wait(POSTCARDS).collect(POSTCARDS)

    assert len(tasks) == 2
    assert sorted(images["prompt_id"]) == ["a", "b"]
    assert list(failures["prompt_id"]) == ["c"]
    assert images["mynth_url"].notna().all()


def test_second_submission_pays_for_new_rows_alone(instant, frame):
    """The same table again sends nothing, a longer one its new rows; the name is enough later."""
    mynth = instant.resource
    for table in (frame, frame, pd.concat([frame, frame.assign(prompt_id=["d", "e", "f"])])):
        mynth.submit(table, POSTCARDS)
    mynth.wait("postcards")

    assert instant.n_accepted == 4
    assert len(mynth.collect("postcards").images) == 4
    assert mynth.quote(frame, POSTCARDS).n_to_send == 0


def test_status_counts_rows_and_money_while_tasks_run(project, frame):
    """A poll, nothing else: reserved first, charged once it is finished."""
    mynth = project.resource
    mynth.submit(frame, POSTCARDS)
    running = mynth.status("postcards")
    project.simulator.complete()
    mynth.wait("postcards")
    done = mynth.status("postcards")

    assert running.rows_by_state == {"accepted": 2}
    assert running.open_usd > 0 == running.charged_usd
    assert done.rows_by_state == {"completed": 2}
    assert done.charged_usd > 0 == done.open_usd


def test_submission_that_ends_early_says_what_became_of_the_money(instant, frame):
    """What was sent is in the ledger; the rest is withheld and sent later."""
    quote = instant.resource.quote(frame, POSTCARDS)
    capped = Spending(budget_usd={"batch": quote.cost_usd / 2})
    batch = Batch("postcards", request=POSTCARDS.request, spending=capped)

    with pytest.raises(RunStoppedError, match="1 tasks were created") as stopped:
        instant.resource.submit(frame, batch)

    assert "Next: " in str(stopped.value)
    assert instant.n_accepted == 1


def test_paying_again_needs_a_confirmation(instant, frame):
    """As on the command line and in the launchpad."""
    mynth = instant.resource
    mynth.submit(frame, POSTCARDS)
    mynth.wait(POSTCARDS)
    strict = Spending(confirm_above_usd=Decimal(0))
    other = Batch("postcards", request=ImageRequest(models=[MODEL], size="square"), spending=strict)

    with pytest.raises(ConfirmationNeededError):
        mynth.submit(frame, other)
    assert instant.n_accepted == 2
    mynth.submit(frame, other, confirm=True)
    assert instant.n_accepted == 4


@pytest.mark.parametrize("form", [pa.Table.from_pandas, lambda f: pa.table(dict(f)).to_reader()])
def test_arrow_is_as_good_as_pandas(instant, frame, form):
    """A table or a reader; a path is read from its file."""
    assert instant.resource.quote(form(frame), POSTCARDS).n_to_send == 2


def test_what_is_no_table_is_refused_by_its_type(instant):
    """Before anything is asked or sent."""
    with pytest.raises(TableError, match="it is a list; a DataFrame or an Arrow table is needed"):
        instant.resource.submit([1, 2], POSTCARDS)
    assert instant.n_accepted == 0


def test_works_in_a_plain_asset(instant, frame):
    """With nothing of ours but the resource."""

    @dg.asset
    def cards(mynth: MynthResource) -> dg.MaterializeResult:
        mynth.submit(frame, POSTCARDS)
        return dg.MaterializeResult(
            metadata={"n": len(mynth.wait(POSTCARDS).collect(POSTCARDS)[0])}
        )

    result = dg.materialize([cards], resources={"mynth": instant.resource})

    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["n"].value == 2
