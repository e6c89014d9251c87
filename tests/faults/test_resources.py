"""Disks and databases that fail: sending pauses or stops, and no answer is lost."""

from __future__ import annotations

import os
import threading
import time

import pytest

from mynth_dagster.errors import LedgerError, LedgerUnavailableError, MynthError
from tests.ledger.postgres import running_postgres

OUTAGE_S = float(os.environ.get("OUTAGE_S", "3"))


def test_a_postgres_that_is_down_in_the_middle_of_a_run(new_stage):
    """Sending pauses, answers in flight are kept, and afterwards the account is exact."""
    work = new_stage(response_delay_s=0)
    with running_postgres() as postgres:
        work.ledger_url = postgres.url.render_as_string(hide_password=False)

        def outage() -> None:
            deadline_s = time.monotonic() + 60
            while len(work.log["accepted"]) < 100 and time.monotonic() < deadline_s:
                threading.Event().wait(0.01)
            postgres.stop()
            threading.Event().wait(OUTAGE_S)
            postgres.start()

        thread = threading.Thread(target=outage)
        thread.start()
        first = work.run(1500)
        thread.join(100)

        assert first.images + first.withheld + first.unresolved == 1500
        assert len(work.log["accepted"]) >= 100
        work.finish(1500)
        assert not (work.root / "mynth-journal").exists()


@pytest.mark.parametrize("damage", ["cut", "overwritten", "emptied"])
def test_a_damaged_ledger_spends_nothing_and_says_what_to_do(new_stage, damage):
    """Restore it or rebuild it; a run does neither by itself."""
    work = new_stage()
    work.run(200)
    path = work.folder / "ledger.db"
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "overwritten": whole[:4096] + b"\xff" * (len(whole) - 4096),
        "emptied": b"",
    }
    path.write_bytes(broken[damage])
    n_posts = work.n_posts

    with pytest.raises(LedgerError, match=r"rebuild|Nothing was sent"):
        work.run(200)

    assert work.n_posts == n_posts


def test_a_root_that_cannot_be_written_is_reported_before_spending(new_stage):
    """A file stands where the folder should be."""
    work = new_stage()
    work.root.write_text("in the way")

    with pytest.raises((MynthError, OSError)):
        work.run(4)

    assert work.n_posts == 0


def test_room_for_answers_is_a_condition_of_sending(new_stage):
    """Where the journal cannot be made nothing is begun."""
    work = new_stage()
    (work.folder / "ledger.db-responses").write_text("in the way")

    with pytest.raises(LedgerUnavailableError, match="Nothing was sent"):
        work.run(4)

    assert work.n_posts == 0


def test_few_file_descriptors_are_enough(new_stage):
    """Sockets are bounded by the slots, whatever the number of rows."""
    work = new_stage()

    work.run(300)

    assert work.log["connections"]["peak_open"] <= 16 + 1
    assert work.log["peak_in_flight"] <= 16 + 1
