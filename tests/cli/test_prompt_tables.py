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


def test_a_delta_table_costs_nothing_and_says_what_to_hand_over(new_shell):
    """Its files hold rows that were deleted; exit code 2, one sentence."""
    work = new_shell()
    (work.folder / "live" / "_delta_log").mkdir(parents=True)
    work.prompts(2, "live/part-0.parquet")

    told = work.run(str(work.folder / "live"))

    assert told.exit_code == 2
    assert "this is a Delta table" in told.stderr
    assert "hand over an export" in told.stderr
    assert work.n_posts == 0


def test_names_of_folders_are_carried_and_files_left_out_are_named(new_shell):
    """What Spark wrote beside a note; for people while it runs, for machines in the report."""
    work = new_shell()
    (work.folder / "in" / "lang=en").mkdir(parents=True)
    (work.folder / "in" / "notes.txt").write_text("x")
    work.prompts([{"prompt": "a kite"}], "in/lang=en/000000_0")

    told = work.run(str(work.folder / "in"))
    report = work.report(str(work.folder / "in"))

    assert told.exit_code == 0, told.stderr
    assert "1 file is no Parquet and left out: notes.txt" in told.stderr
    assert report["notes"] == ["1 file is no Parquet and left out: notes.txt"]
    assert [row["lang"] for row in result(work, "images", "in")] == ["en"]
