"""Everything in a dozen lines of Python: no YAML, no partitions, a sensor that collects."""

import os

import dagster as dg

from mynth_dagster import Delivery, ImageRequest, MynthResource, build_image_batch

url = os.environ.get("MYNTH_BASE_URL", "http://127.0.0.1:8787")
mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), base_url=url, root="tables")
defs = dg.Definitions.merge(
    build_image_batch(
        "postcards",
        prompts="prompts.parquet",
        request=ImageRequest(models=["recraft/recraft-v4"], size="3:2", count=2),
        delivery=Delivery(previews=8),
    ),
    dg.Definitions(resources={"mynth": mynth}, executor=dg.in_process_executor),
)
