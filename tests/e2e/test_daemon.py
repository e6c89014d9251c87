"""The main job through the real daemon: submitted by a run, collected by the sensor."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mynth_dagster.ledger import Ledger
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.audit import audit_slice
from mynth_dagster.tables.store import TableStore
from tests.ageing import make_older
from tests.batches import make_batch

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("daemon")]

REAL_TABLE = Path(__file__).parents[3] / "shared" / "data" / "parti_prompts.parquet"
SHARDS = [f"2026-11-21|{shard:03d}" for shard in range(4)]


def _prompts(n_rows: int) -> pa.Table:
    ids = [f"p{index}" for index in range(n_rows)]
    return pa.table({"prompt_id": ids, "prompt": [f"a kite over {i}" for i in ids]})


def test_sensor_collects_what_a_run_submitted(deployment):
    """1,632 real prompts over four shards: as many POSTs, every row accounted for."""
    real = REAL_TABLE.exists()
    deployment.write_prompts(pq.read_table(REAL_TABLE) if real else _prompts(1632))

    run_id = deployment.launch("night_submit", SHARDS[0], SHARDS[-1])
    deployment.wait_for_success(run_id)
    deployment.wait(lambda: len(set(deployment.recorded("images"))) == 4, "collection")

    log = deployment.simulator.log()
    assert log["totals"]["accepted"] == 1632
    assert log["duplicate_intents"] == []
    assert deployment.recorded("tasks") == SHARDS
    store = TableStore(str(deployment.data), "night")
    audits = [audit_slice(store, s) for s in make_batch("night", fan_out=4).slices("2026-11-21")]
    assert sum(audit.n_rows for audit in audits) == 1632
    assert all(audit.passed for audit in audits)
    images = ds.dataset(deployment.data / "night" / "images", partitioning="hive")
    assert images.count_rows() == 1632


def test_sensor_sends_what_a_rate_limit_held_up(deployment):
    """The daemon starts the run that it asks for, and then the collection; all is sent once."""
    deployment.write_prompts(_prompts(40))
    too_much = {"kind": "rate_limited", "retry_after_s": 301}
    deployment.simulator.set_scenario(progress="immediate", faults=[too_much])
    run_id = deployment.launch("night_submit", SHARDS[0], SHARDS[-1])
    deployment.wait(lambda: deployment.has_ended(run_id), "the run to stop")
    assert deployment.simulator.log()["totals"]["accepted"] == 0
    deployment.simulator.set_scenario(faults=[])

    make_older(f"sqlite:///{deployment.data / 'mynth-ledger.db'}", minutes=6)
    deployment.wait(lambda: deployment.recorded("tasks") == SHARDS, "the rows to be sent")
    deployment.wait(lambda: set(deployment.recorded("images")) == set(SHARDS), "collection")

    log = deployment.simulator.log()
    assert log["totals"]["accepted"] == 40
    assert log["duplicate_intents"] == []
    (run,) = deployment.instance.get_runs(
        dg.RunsFilter(tags={"mynth/auto_resubmit": "rate_limited"})
    )
    assert run.is_success


def test_killed_run_pays_nothing_twice_and_loses_nothing(deployment):
    """SIGKILL in the middle of submission, then the same run again: each intent sent once."""
    deployment.write_prompts(_prompts(600))
    deployment.simulator.set_scenario(response_delay_s=0.3, progress="manual")
    run_id = deployment.launch("night_submit", SHARDS[0], SHARDS[-1])
    deployment.wait(
        lambda: deployment.simulator.log()["totals"]["accepted"] >= 200, "some accepted tasks"
    )
    deployment.kill_worker(run_id)
    deployment.simulator.set_scenario(response_delay_s=0)

    deployment.wait_for_success(deployment.launch("night_submit", SHARDS[0], SHARDS[-1]))

    log = deployment.simulator.log()
    assert log["duplicate_intents"] == []
    ledger = Ledger.open(f"sqlite:///{deployment.data / 'mynth-ledger.db'}")
    slices = make_batch("night", fan_out=4).slices("2026-11-21")
    attached = ledger.read.awaited("night", slices, None)
    in_doubt = ledger.read.unresolved(
        "night", slices, [IntentState.SENDING, IntentState.UNRESOLVED]
    )
    ledger.close()
    assert {i.task_id for i in attached} == {entry["task_id"] for entry in log["accepted"]}
    assert len(attached) + len(in_doubt) == 600
    assert len(in_doubt) <= 128
