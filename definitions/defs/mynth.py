"""
What all batches share: the connection, and an executor that starts no process per step.

`MYNTH_API_KEY` must be set where runs execute. `MYNTH_BASE_URL` and `MYNTH_ROOT` may be.
"""

import os

import dagster as dg

from mynth_dagster import MynthResource

defs = dg.Definitions(
    resources={
        "mynth": MynthResource(
            api_key=dg.EnvVar("MYNTH_API_KEY"),
            base_url=os.environ.get("MYNTH_BASE_URL", "https://api.mynth.io"),
            root=os.environ.get("MYNTH_ROOT", ".demo/tables"),
        )
    },
    executor=dg.in_process_executor,
)
