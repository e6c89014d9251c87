"""Some nights of the demo's batch, run in this process: a history for the UI to show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from definitions.definitions import defs as load_definitions
from demo.prompts import write_prompts
from demo.services import Place
from mynth_dagster.models.batch import Batch

BATCH = Batch("packaging", fan_out=4)


def run_nights(place: Place, base_url: str, sizes: Sequence[int]) -> list[str]:
    """
    One run for each of the last days, over so many prompts; the days.

    Each submits, waits and collects in all shards.
    """
    with _environment(place.environment(base_url)):
        defs = load_definitions()
        job = defs.resolve_job_def("packaging_all")
        assert isinstance(job.partitions_def, dg.MultiPartitionsDefinition)
        days = job.partitions_def.primary_dimension.partitions_def.get_partition_keys()
        nights = list(days[-len(sizes) :])
        with dg.DagsterInstance.from_config(str(place.dagster_home)) as instance:
            for night, n_prompts in zip(nights, sizes, strict=True):
                write_prompts(place.prompts, n_prompts)
                slices = BATCH.slices(night)
                tags = {
                    "dagster/asset_partition_range_start": slices[0].key,
                    "dagster/asset_partition_range_end": slices[-1].key,
                }
                job.execute_in_process(instance=instance, tags=tags)
    return nights


def main(home: str, base_url: str, *sizes: str) -> None:
    """`python -m demo.history HOME URL N …`: the same from the command line; prints the days."""
    nights = run_nights(Place(Path(home)), base_url, [int(size) for size in sizes])
    print("\n".join(nights))


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    main(*sys.argv[1:])
