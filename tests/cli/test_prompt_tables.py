"""`mynth-dagster run` on prompt tables as other people and other tools write them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq


def result(work, table: str, batch: str = "kites") -> list[dict]:
    """The rows of a result table without partitions."""
    return pq.read_table(work.root / batch / table / "part-0.parquet").to_pylist()


def test_names_with_a_nul_cost_nothing_and_the_others_are_delivered(new_shell):
    """What is charged is what the tables show, run after run."""
    work = new_shell()
    table = work.prompts(
        pa.table({"prompt_id": ["a\0b", "a", "a\0c", "d"], "prompt": ["x", "y", "z", "w"]})
    )

    for _ in range(2):
        told = work.run(table)

        assert told.exit_code == 0, told.stderr
        assert [row["prompt_id"] for row in result(work, "images")] == ["a", "d"]
        codes = {row["error_code"] for row in result(work, "failures")}
        assert codes == {"invalid_text"}
        assert work.n_posts == 2
