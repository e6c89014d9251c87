"""
Prompts made by another asset: each day's products as a DataFrame, two shards of images, and a
report that is requested when all shards of a day have landed, also of a day long past.

Dagster's sensor `default_automation_condition_sensor` does this; it is off until you switch it on.
"""

import os

import dagster as dg
import pandas as pd

from mynth_dagster import (
    ImageRequest,
    MynthResource,
    MynthTables,
    build_image_batch,
    eager_any_date,
)

DAILY = dg.DailyPartitionsDefinition("2026-11-01")


@dg.asset(key=["catalogue", "products"], partitions_def=DAILY, kinds={"pandas"})
def products(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """What the shop added on a day; the other columns are carried to the images."""
    fruits = ["quince", "medlar", "damson", "sloe", "greengage", "bullace"]
    return pd.DataFrame(
        {
            "prompt_id": [f"{context.partition_key}-{fruit}" for fruit in fruits],
            "prompt": [f"Packaging photo: a jar of {fruit} jam, morning light" for fruit in fruits],
            "fruit": fruits,
        }
    )


@dg.asset(
    group_name="jams",
    partitions_def=DAILY,
    ins={"images": dg.AssetIn(["jams", "images"], input_manager_key="tables")},
    automation_condition=eager_any_date(),
)
def report(images: pd.DataFrame) -> dg.MaterializeResult:
    """One figure a day, over all of its shards."""
    return dg.MaterializeResult(metadata={"jars": int(images["fruit"].nunique())})


url = os.environ.get("MYNTH_BASE_URL", "http://127.0.0.1:8787")
mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), base_url=url, root="tables")
defs = dg.Definitions.merge(
    build_image_batch(
        "jams",
        prompts=dg.AssetKey(["catalogue", "products"]),
        request=ImageRequest(models=["black-forest-labs/flux.2-dev"]),
        partitions_def=DAILY,
        fan_out=2,
    ),
    dg.Definitions(
        assets=[products, report],
        resources={"mynth": mynth, "tables": MynthTables(root="tables")},
        executor=dg.in_process_executor,
    ),
)
