"""What `dg scaffold defs mynth_dagster.MynthImagesComponent <folder>` writes."""

from typing import Literal

import dagster as dg
from pydantic import BaseModel, Field

_YAML = """\
type: mynth_dagster.MynthImagesComponent

attributes:
  # Prefix of the asset keys (<name>/prompts, <name>/tasks, <name>/images, <name>/failures).
  name: {name}
  # Parquet file, folder or pattern, any fsspec URL; {window} stands for the window's key.
  # Or asset: the key of an asset that returns a DataFrame or an Arrow table. Columns of another
  # name are mapped: {location: prompts.parquet, columns: {prompt_id: sku}}.
  prompts: {prompts}
  # Each prompt is sent to each of these models; the rest fills what a row leaves empty.
  request:
    models: [{models}]
    size: landscape
{partitions}  # The rows of a window are spread over this many partitions.
  fan_out: 4
  # Caps in USD: what does not fit is not sent. Where Mynth gives no price, set prices_usd.
  # spending: {budget_usd: {window: 25.00, batch: 500.00}, retries: 1}
  # wait: sensor (the run ends after sending and a sensor collects) or run (the run waits).
  # files: {} downloads every image beside the tables, {store: "s3://bucket"} elsewhere.
  # previews: 12 shows thumbnails in the UI, with pip install 'mynth-dagster[files]'.
  delivery: {wait: sensor}
  # What the checks allow, as shares of a partition; how old images may be.
  # checks: {failure_rate_warn: 0.05, freshness: {fail_after_hours: 30}}
  # Cron expression, for the last closed window.
  # schedule: "30 1 * * *"
  # Pools, tags, owners, and whether a partition has a run of its own.
  # execution: {owners: ["team:studio"], backfill_policy: {type: multi_run}}
  # Keys, groups and tags of the assets, as templates.
  # translation: {key: "studio/{{ batch }}/{{ table }}"}
  # Where the tables lie; the ledger is a SQLite file in it unless ledger_url says otherwise. The
  # key is read from the environment variable MYNTH_API_KEY; it never stands here.
  resource:
    root: data
    # A simulated Mynth for trying out: mynth-dagster simulate
    # base_url: http://127.0.0.1:8787
"""
_PARTITIONS_IN_YAML = """\
  # One partition for each window, times the fan-out.
  partitions_def: {type: TYPE, start_date: "START"}
"""
_PYTHON = """\
import dagster as dg
from mynth_dagster import ImageRequest, MynthImagesComponent, MynthResource, Prompts


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> MynthImagesComponent:
    return MynthImagesComponent(
        name="{name}",
        prompts=Prompts(location="{prompts}"),
        request=ImageRequest(models=[{models}], size="landscape"),
{partitions}        fan_out=4,
        resource=MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), root="data"),
    )
"""
_CLASSES = {
    "hourly": ("Hourly", "2026-01-01-00:00"),
    "daily": ("Daily", "2026-01-01"),
    "weekly": ("Weekly", "2026-01-01"),
    "monthly": ("Monthly", "2026-01-01"),
}


class MynthImagesParams(BaseModel):
    """The options of `dg scaffold`."""

    name: str | None = Field(default=None, description="Name of the batch; default: the folder's.")
    prompts: str = Field(
        default="prompts.parquet", description="Parquet file, folder or pattern, or any fsspec URL."
    )
    models: str = Field(
        default="google/gemini-3.1-flash-image", description="Model ids, separated by commas."
    )
    partitions: Literal["none", "hourly", "daily", "weekly", "monthly"] = Field(
        default="daily", description="Windows of time."
    )


class MynthImagesScaffolder(dg.Scaffolder[MynthImagesParams]):
    """Writes a commented `defs.yaml`, or a `component.py` with `--format python`."""

    @classmethod
    def get_scaffold_params(cls) -> type[MynthImagesParams]:
        return MynthImagesParams

    def scaffold(self, request: dg.ScaffoldRequest[MynthImagesParams]) -> None:
        params, folder = request.params or MynthImagesParams(), request.target_path
        stem = folder.parent.name if request.append else folder.name
        name = params.name or "".join(char if char.isalnum() else "_" for char in stem)
        models = [model.strip() for model in params.models.split(",")]
        is_python = request.scaffold_format == "python"
        if params.partitions == "none":
            partitions = ""
        elif is_python:
            kind, start = _CLASSES[params.partitions]
            partitions = f'        partitions_def=dg.{kind}PartitionsDefinition("{start}"),\n'
        else:
            start = _CLASSES[params.partitions][1]
            partitions = _PARTITIONS_IN_YAML.replace("TYPE", params.partitions)
            partitions = partitions.replace("START", start)
        text = _PYTHON if is_python else _YAML
        for field, value in (
            ("{name}", name),
            ("{prompts}", params.prompts),
            ("{models}", ", ".join(f'"{model}"' if is_python else model for model in models)),
            ("{partitions}", partitions),
        ):
            text = text.replace(field, value)
        if request.append:
            with folder.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ("component.py" if is_python else "defs.yaml")
        path.write_text(text, encoding="utf-8")
