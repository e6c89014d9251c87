"""The demo's prompts, from `prompts.csv` to the Parquet table that the batch reads."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SOURCE = Path(__file__).with_name("prompts.csv")


def write_prompts(target: Path, n_prompts: int | None = None) -> int:
    """Write the last prompts, all unless told otherwise; how many rows."""
    with SOURCE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[-(n_prompts or 0) :]
    columns = {name: [row[name] or None for row in rows] for name in rows[0]}
    counts = [int(count) if count else None for count in columns.pop("count")]
    pq.write_table(pa.table({**columns, "count": pa.array(counts, pa.int32())}), target)
    return len(rows)
