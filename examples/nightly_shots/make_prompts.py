"""A day's prompts, as a shop's catalogue might give them."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DISHES = ("teapot", "mug", "bowl", "carafe", "plate", "jug")
GLAZES = ("celadon", "tenmoku", "oxblood", "ash")


def main(day: str) -> None:
    """Write `prompts/<day>/catalogue.parquet`."""
    rows = [
        {
            "sku": f"{dish}-{glaze}",
            "caption": f"Product shot: {dish}, {glaze} glaze, on linen",
        }
        for dish in DISHES
        for glaze in GLAZES
    ]
    folder = Path("prompts", day)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "catalogue.parquet")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Which day? For example: python make_prompts.py 2026-11-21")
    main(sys.argv[1])
