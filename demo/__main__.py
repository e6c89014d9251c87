"""
The main job from end to end, without account, key or network.

It starts a simulated Mynth and Dagster's daemon, launches tonight's partition of the code
location in `definitions/`, shows progress until the completion sensor has collected all of it,
and checks that every prompt is accounted for.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone

from rich.console import Console
from rich.live import Live

from demo.prompts import write_prompts
from demo.services import Place, daemon, launch, simulator
from demo.watching import Watch, show_summary
from mynth_dagster.models.batch import Batch

DEADLINE_S = 240
SHARDS = 4


def main() -> int:
    """Run the demo; 0 only if every prompt is accounted for."""
    console, place, started_s = Console(), Place(), time.monotonic()
    place.make()
    n_prompts = write_prompts(place.prompts)
    window = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    slices = Batch("packaging", fan_out=SHARDS).slices(window)
    console.print(f"{n_prompts} prompts × 2 models, partition {window} × {SHARDS} shards")
    with ExitStack() as running:
        url = running.enter_context(simulator(place))
        console.print(f"simulated Mynth at {url}; starting Dagster's daemon …")
        environment = place.environment(url)
        # Opened first: processes that make Dagster's databases at the same time collide.
        watch = running.enter_context(Watch(place, slices))
        dagster = running.enter_context(daemon(place, environment))
        launch(place, environment, json.dumps(_range(slices[0].key, slices[-1].key)))
        with Live(console=console, get_renderable=watch.render, refresh_per_second=2):
            while not watch.is_over():
                if dagster.poll() is not None or time.monotonic() - started_s > DEADLINE_S:
                    console.print(f"gave up; see {place.log('daemon')}")
                    return 1
                time.sleep(0.5)
        return show_summary(console, place, slices, took_s=time.monotonic() - started_s)


def _range(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


if __name__ == "__main__":
    sys.exit(main())
