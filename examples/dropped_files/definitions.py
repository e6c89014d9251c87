"""
A partition for each Parquet file that appears in `inbox/`.

Switch the sensor `drops_new_files` on: it adds the partition and runs `drops_all` for it. A file
that is written anew runs again, and only its new rows are paid for.
"""

import os

import dagster as dg

from mynth_dagster import Delivery, ImageRequest, MynthResource, build_image_batch

url = os.environ.get("MYNTH_BASE_URL", "http://127.0.0.1:8787")
mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), base_url=url, root="tables")
defs = dg.Definitions.merge(
    build_image_batch(
        "drops",
        prompts="inbox/{window}.parquet",
        request=ImageRequest(models=["black-forest-labs/flux.2-dev"]),
        partitions_def=dg.DynamicPartitionsDefinition(name="drops"),
        delivery=Delivery(wait="run", previews=12),
    ),
    dg.Definitions(resources={"mynth": mynth}, executor=dg.in_process_executor),
)
