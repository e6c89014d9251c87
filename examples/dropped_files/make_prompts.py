"""Two files, as another team might drop them; their names need not be tidy."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

if __name__ == "__main__":
    Path("inbox").mkdir(exist_ok=True)
    for name in ("spring, final", "autumn v2"):
        prompts = [f"A label for {name.split()[0]} honey, sheet {sheet}" for sheet in (1, 2, 3)]
        pq.write_table(pa.table({"prompt": prompts}), f"inbox/{name}.parquet")
