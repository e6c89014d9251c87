"""
One prompt table asked of four models, and which of them is cheapest for what it delivers.

Each model is a partition: it can be run, retried and looked at alone.
"""

import os

import dagster as dg
import pandas as pd

from mynth_dagster import Delivery, ImageRequest, MynthResource, MynthTables, build_image_batch

MODELS = [
    "google/gemini-3.1-flash-image",
    "black-forest-labs/flux.2-dev",
    "black-forest-labs/flux.2-pro",
    "recraft/recraft-v4",
]


def _table_of_all_models(table: str) -> dg.AssetIn:
    return dg.AssetIn(
        ["heroes", table],
        input_manager_key="tables",
        partition_mapping=dg.AllPartitionMapping(),
    )


@dg.asset(
    group_name="heroes",
    kinds={"pandas"},
    ins={
        "images": _table_of_all_models("images"),
        "failures": _table_of_all_models("failures"),
    },
)
def ranking(images: pd.DataFrame, failures: pd.DataFrame) -> dg.MaterializeResult:
    """Models by what a delivered image cost, the cheapest first."""
    costs = images.assign(cost_usd=images["cost_usd"].astype(float)).groupby("model_requested")
    ranked = costs["cost_usd"].agg(images="count", cost_usd="sum").reset_index()
    ranked["cost_per_image_usd"] = ranked["cost_usd"] / ranked["images"]
    ranked = ranked.sort_values("cost_per_image_usd").reset_index(drop=True)
    lines = [
        f"| {row.model_requested} | {row.images} | {row.cost_per_image_usd:.4f} |"
        for row in ranked.itertuples()
    ]
    table = "\n".join(["| model | images | USD per image |", "|---|---|---|", *lines])
    return dg.MaterializeResult(
        metadata={
            "ranking": dg.MetadataValue.md(table),
            "cheapest": str(ranked["model_requested"].iloc[0]),
            "failures": len(failures),
        }
    )


url = os.environ.get("MYNTH_BASE_URL", "http://127.0.0.1:8787")
mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), base_url=url, root="tables")
defs = dg.Definitions.merge(
    build_image_batch(
        "heroes",
        prompts="prompts.parquet",
        request=ImageRequest(models=MODELS),
        fan_out="model",
        delivery=Delivery(wait="run", previews=8),
    ),
    dg.Definitions(
        assets=[ranking],
        resources={"mynth": mynth, "tables": MynthTables(root="tables")},
        executor=dg.in_process_executor,
    ),
)
