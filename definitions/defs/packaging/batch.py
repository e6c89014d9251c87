"""Packaging photos, every night: one prompt table, two models, four shards."""

import os

import dagster as dg

from mynth_dagster import RequestDefaults, build_image_batch

PROMPTS = os.environ.get("PACKAGING_PROMPTS", ".demo/prompts/packaging.parquet")

defs = build_image_batch(
    "packaging",
    prompts=PROMPTS,
    models=["google/gemini-3.1-flash-image", "black-forest-labs/flux.2-pro"],
    windows=dg.DailyPartitionsDefinition("2026-11-01", end_offset=1),
    shards=4,
    columns={"prompt_id": "sku"},
    defaults=RequestDefaults(size="landscape", output_format="webp", output_quality=80),
    schedule="30 1 * * *",
    sensor_interval_s=10,
)
