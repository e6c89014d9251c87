"""Three hero illustrations."""

import pyarrow as pa
import pyarrow.parquet as pq

PROMPTS = [
    "Hero illustration for a fintech landing page",
    "Hero illustration for a mountain hut's booking page",
    "Hero illustration for a seed catalogue",
]

if __name__ == "__main__":
    pq.write_table(pa.table({"prompt": PROMPTS}), "prompts.parquet")
