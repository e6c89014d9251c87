"""What `dg scaffold defs mynth_dagster.MynthImagesComponent <folder>` writes."""

from typing import Any

import dagster as dg

_TEMPLATE = """\
type: mynth_dagster.MynthImagesComponent

attributes:
  # Prefix of the asset keys (<name>/prompts, <name>/tasks, <name>/images, <name>/failures).
  name: {name}
  # Parquet file, folder or pattern, any fsspec URL; {window} stands for the window's key.
  # Or prompts_asset: the key of an asset that hands over a DataFrame or an Arrow table.
  prompts: prompts.parquet
  # Each prompt is asked of each of these.
  models:
    - google/gemini-3.1-flash-image
  # Time windows: hourly, daily, weekly or monthly; static with keys; or files, for one
  # partition per file that appears. Leave out for none.
  windows:
    type: daily
    start_date: "2026-01-01"
  # The rows of a window are spread over so many partitions.
  shards: 4
  # Our column -> the table's own, where they differ.
  # columns: {prompt_id: sku}
  defaults:
    size: landscape
    count: 1
  # Caps in USD: what does not fit is not sent. Where Mynth tells no price, prices_usd has to.
  # budget_usd: {window: 25.00, batch: 500.00}
  # sensor: the run ends after sending and a sensor collects; run: the run waits.
  wait: sensor
  # Cron expression, for the last closed window.
  # schedule: "30 1 * * *"
  # Download every image: beside the tables, or under any fsspec URL ({store: "s3://bucket"}).
  # files: {}
  # Thumbnails of each partition in Dagster's UI, 0 to 24.
  previews: 12
  # What the checks allow, as shares of a partition, and in USD for a window afterwards.
  # checks: {failure_rate_warn: 0.05, failure_rate_error: 0.5, budget_usd_per_window: 25.00}
  # How old images may be.
  # freshness: {fail_after_hours: 30, warn_after_hours: 26}
  # Keys, groups, tags and owners of the assets, as templates.
  # translation: {key: "studio/{{ batch }}/{{ table }}", owners: ["team:studio"]}
  # Where the tables lie; the ledger is a SQLite file in it unless ledger_url says otherwise.
  root: data
  # The environment variable that holds the API key; the key itself never stands here.
  api_key_env: MYNTH_API_KEY
  # A simulated Mynth for trying out: mynth-dagster simulate
  # base_url: http://127.0.0.1:8787
"""


class MynthImagesScaffolder(dg.Scaffolder[Any]):
    """Writes a commented `defs.yaml`."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        name = "".join(char if char.isalnum() else "_" for char in request.target_path.name)
        request.target_path.mkdir(parents=True, exist_ok=True)
        text = _TEMPLATE.replace("{name}", name)
        (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")
