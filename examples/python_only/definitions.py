"""Everything in ten lines of Python: no YAML, no partitions, one run that waits."""

import os

import dagster as dg

from mynth_dagster import MynthResource, RequestDefaults, build_image_batch

url = os.environ.get("MYNTH_BASE_URL", "http://127.0.0.1:8787")
mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), base_url=url, root="tables")
defs = dg.Definitions.merge(
    build_image_batch(
        "postcards",
        prompts="prompts.parquet",
        models=["recraft/recraft-v4"],
        defaults=RequestDefaults(size="3:2", count=2),
        previews=8,
    ),
    dg.Definitions(resources={"mynth": mynth}, executor=dg.in_process_executor),
)
