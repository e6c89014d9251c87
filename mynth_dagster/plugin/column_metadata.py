"""Columns as the UI shows them: their types and meanings, and where they come from. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pyarrow as pa

from mynth_dagster.models.request import InspectionKind
from mynth_dagster.tables.inspection_tables import inspection_schema
from mynth_dagster.tables.schemas import (
    MEANINGS,
    OUR_COLUMNS,
    TASKS_SCHEMA,
    failures_schema,
    images_schema,
    prompts_schema,
)

SCHEMA = "dagster/column_schema"
SCHEMA_IN_A_WINDOW = "mynth/columns"
"""Where there are pictures: Dagster's page lists the columns of `SCHEMA` above all metadata."""
LINEAGE = "dagster/column_lineage"

_ROW = {"prompt_id": "prompt_id", "request_key": "request_key"}
_ORIGINS: dict[str, dict[str, dict[str, str]]] = {
    "tasks": {"prompts": _ROW},
    "images": {
        "prompts": {
            **_ROW,
            "model_requested": "model",
            "prompt": "prompt",
            "prompt_sent": "prompt",
        },
        "tasks": {name: name for name in ("task_id", "intent_id", "submitted_at", "completed_at")},
    },
    "failures": {
        "prompts": {**_ROW, "error_message": "problem_message", "field": "problem_field"},
        "tasks": {
            "task_id": "task_id",
            "intent_id": "intent_id",
            "status": "status",
            "attempts": "attempt",
            "error_code": "error_code",
        },
    },
}
"""Table -> upstream table -> column -> the column it comes from; carried ones keep their name."""


def _fixed(schema: pa.Schema) -> Callable[[pa.Schema], pa.Schema]:
    """A table without carried columns."""
    return lambda _: schema


_FIXED: dict[str, Callable[[pa.Schema], pa.Schema]] = {
    "prompts": prompts_schema,
    "tasks": _fixed(TASKS_SCHEMA),
    "images": images_schema,
    "failures": failures_schema,
    **{kind.table: _fixed(inspection_schema(kind)) for kind in InspectionKind},
}


def defined_columns(table: str, *, below_pictures: bool = False) -> dict[str, Any]:
    """Metadata of the asset's definition: the columns that the table has in any case."""
    return _columns(_schema(table, _FIXED[table](pa.schema([]))), below_pictures=below_pictures)


def written_columns(
    table: str,
    schema: pa.Schema,
    key: Callable[[str], dg.AssetKey],
    *,
    below_pictures: bool = False,
) -> dict[str, Any]:
    """Metadata of a materialization: the columns that were written, and their origins."""
    metadata = _columns(_schema(table, schema), below_pictures=below_pictures)
    lineage = _lineage(table, schema, key)
    if lineage:
        metadata[LINEAGE] = dg.TableColumnLineage(lineage)
    return metadata


def _columns(schema: dg.TableSchema, *, below_pictures: bool) -> dict[str, Any]:
    return {SCHEMA_IN_A_WINDOW if below_pictures else SCHEMA: schema}


def _schema(table: str, schema: pa.Schema) -> dg.TableSchema:
    meanings = MEANINGS[table]
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name, str(field.type), description=meanings.get(field.name) or None
            )
            for field in schema
        ]
    )


def _lineage(
    table: str, schema: pa.Schema, key: Callable[[str], dg.AssetKey]
) -> dict[str, list[dg.TableColumnDep]]:
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for upstream, columns in _ORIGINS.get(table, {}).items():
        for column, origin in columns.items():
            deps.setdefault(column, []).append(dg.TableColumnDep(key(upstream), origin))
    if table in ("images", "failures"):
        own = set(_FIXED[table](pa.schema([])).names) | set(OUR_COLUMNS)
        carried = [name for name in schema.names if name not in own]
        deps |= {name: [dg.TableColumnDep(key("prompts"), name)] for name in carried}
    return deps
