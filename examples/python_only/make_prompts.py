"""Two postcards."""

import pyarrow as pa
import pyarrow.parquet as pq

if __name__ == "__main__":
    prompts = ["A lighthouse in winter, linocut", "A ferry at dawn, linocut"]
    pq.write_table(pa.table({"prompt": prompts}), "prompts.parquet")
