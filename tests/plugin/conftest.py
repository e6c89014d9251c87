"""A project as a user has one: a prompt table, a simulated Mynth, a batch, an instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from mynth_dagster import MynthResource, mynth_assets
from mynth_dagster.ledger import Ledger
from mynth_dagster.plugin.assets import plain_body
from mynth_dagster.simulator import SimulatorServer
from tests.batches import grouped

MODEL = "black-forest-labs/flux.2-dev"
DAILY = dg.DailyPartitionsDefinition("2026-11-18", end_date="2026-11-24")


@dataclass
class Project:
    """One batch against one simulated Mynth."""

    simulator: SimulatorServer
    folder: Path
    instance: dg.DagsterInstance
    settings: dict[str, Any] = field(default_factory=dict)

    def write_prompts(self, rows: list[str | None], name: str = "prompts.parquet") -> Path:
        """A prompt table with ids `p0`, `p1`, …"""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = [f"p{index}" for index in range(len(rows))]
        pq.write_table(pa.table({"prompt_id": ids, "prompt": pa.array(rows, pa.string())}), path)
        return path

    @property
    def resource(self) -> MynthResource:
        settings: dict[str, Any] = {
            "api_key": "mak_simulator",
            "root": str(self.folder / "data"),
            "base_url": self.simulator.url,
            "poll_interval_min_s": 0.01,
            "poll_interval_max_s": 0.02,
            **self.settings,
        }
        return MynthResource(**settings)

    def definitions(self, **changes: Any) -> dg.Definitions:
        """The batch `shots`, daily × 2 shards unless told otherwise."""
        settings: dict[str, Any] = {
            "prompts": str(self.folder / "prompts.parquet"),
            "models": [MODEL],
            "partitions_def": DAILY,
            "fan_out": 2,
            **changes,
        }
        body = settings.pop("body", plain_body)
        batch = mynth_assets("shots", **grouped(settings))(body).definitions
        shared = dg.Definitions(resources={"mynth": self.resource})
        return dg.Definitions.merge(batch, shared)

    def execute(
        self,
        phase: str,
        first: str | None = None,
        last: str | None = None,
        *,
        defs: dg.Definitions | None = None,
        config: dict[str, Any] | None = None,
        **tags: str,
    ) -> dg.ExecuteInProcessResult:
        """
        Run a job over a range, a partition, or the whole of an unpartitioned batch.

        ``config`` is what the launchpad says of the submission.
        """
        job = (defs or self.definitions()).resolve_job_def(f"shots_{phase}")
        if first and last:
            tags |= range_tags(first, last)
        return job.execute_in_process(
            instance=self.instance,
            partition_key=first if first and not last else None,
            run_config={"ops": {"shots__submit": {"config": config}}} if config else None,
            tags=tags,
            raise_on_error=False,
        )

    def execute_again(self, run_id: str) -> dg.DagsterRun:
        """Re-execute a run as Dagster does: the same job, tags and configuration."""
        before = self.instance.get_run_by_id(run_id)
        assert before is not None
        job = self.definitions().resolve_job_def(before.job_name)
        run = self.instance.create_run_for_job(
            job_def=job,
            run_config=before.run_config,
            tags=before.tags,
            parent_run_id=run_id,
            root_run_id=before.root_run_id or run_id,
        )
        execute_run(InMemoryJob(job), run, self.instance, raise_on_error=False)
        done = self.instance.get_run_by_id(run.run_id)
        assert done is not None
        return done

    def tick(self, defs: dg.Definitions | None = None) -> Any:
        """One evaluation of the completion sensor."""
        defs = defs or self.definitions()
        sensor = defs.resolve_sensor_def("shots_completion")
        with dg.build_sensor_context(
            instance=self.instance, definitions=defs, resources={"mynth": self.resource}
        ) as context:
            return sensor.evaluate_tick(context)

    def recorded(self, table: str) -> list[str | None]:
        """The partition of each materialization of a table, oldest first."""
        key = dg.AssetKey(["shots", table])
        records = self.instance.fetch_materializations(key, limit=1000, ascending=True).records
        return [record.partition_key for record in records]

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The batch's ledger, opened beside the runs."""
        opened = Ledger.open(f"sqlite:///{self.folder / 'data' / 'mynth-ledger.db'}")
        try:
            yield opened
        finally:
            opened.close()

    @property
    def n_accepted(self) -> int:
        """Paid requests that Mynth accepted, by its own log."""
        return int(self.simulator.log()["totals"]["accepted"])


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a range of partitions."""
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


@pytest.fixture
def project(tmp_path: Path, simulator: Callable[..., SimulatorServer]) -> Iterator[Project]:
    """Twelve prompts; tasks finish when the test says so."""
    with dg.DagsterInstance.ephemeral() as instance:
        made = Project(simulator(progress="manual"), tmp_path, instance)
        made.write_prompts([f"a red kite, number {index}" for index in range(12)])
        yield made


@pytest.fixture
def instant(project):
    """A project whose tasks are finished at once."""
    project.simulator.set_scenario(progress="immediate")
    return project
