"""`mynth-dagster run` on prompt tables as other people and other tools write them."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


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


@pytest.mark.parametrize(
    ("one", "other", "batch"),
    [
        ("январь.parquet", "февраль.parquet", "images"),
        (
            "a/train-00000-of-00001.parquet",
            "b/train-00000-of-00001.parquet",
            "train_00000_of_00001",
        ),
        ("prompts.2026-11-27.parquet", "prompts.2026-11-28.parquet", "prompts"),
        ("a-b.parquet", "a b.parquet", "a_b"),
    ],
)
def test_two_tables_never_become_one_batch_by_their_names(new_shell, one, other, batch):
    """The second is told what the batch was made from, and nothing of the first is replaced."""
    work = new_shell()
    for name in (one, other):
        (work.folder / name).parent.mkdir(exist_ok=True)
    first, second = work.prompts(2, one), work.prompts(3, other)
    work.run(first)

    told = work.run(second)

    assert told.exit_code == 2
    assert f"'{batch}' was made from {first}, and this is {second}" in told.stderr
    assert "Nothing was sent" in told.stderr
    assert "--batch" in told.stderr
    assert (work.n_posts, len(result(work, "images", batch))) == (2, 2)
    assert work.run(second, "--batch", "another").exit_code == 0
    assert work.run(first).exit_code == 0
    assert work.n_posts == 5


def test_a_table_is_the_same_however_it_is_spelled(new_shell, monkeypatch):
    """Relative, absolute, as a URL, through a link, or moved together with its root."""
    work = new_shell()
    table = work.prompts(2)
    (work.folder / "linked").symlink_to(work.folder)
    monkeypatch.chdir(work.folder)
    spelled = [table, "kites.parquet", "./kites.parquet", f"file://{table}", "linked/kites.parquet"]

    codes = [work.run(one).exit_code for one in spelled]

    assert (codes, work.n_posts) == ([0] * 5, 2)
    moved = work.folder / "moved"
    moved.mkdir()
    for name in ("kites.parquet", "root"):
        shutil.move(work.folder / name, moved / name)
    work.root = moved / "root"
    assert work.run(str(moved / "kites.parquet")).exit_code == 0
    assert work.n_posts == 2


def test_a_table_that_was_moved_is_the_batch_that_is_named(new_shell):
    """Whoever names the batch says that it is the same; from then on the new place is its own."""
    work = new_shell()
    table, archive = work.prompts(2), work.folder / "archive"
    work.run(table)
    archive.mkdir()
    moved = str(shutil.move(table, archive))

    codes = [work.run(moved, *given).exit_code for given in ([], ["--batch", "kites"], [])]

    assert (codes, work.n_posts) == ([2, 0, 0], 2)


def test_partitions_of_one_name_may_have_tables_of_their_own(new_shell):
    """A table for each month replaces nothing."""
    work = new_shell()
    (work.folder / "11").mkdir()
    tables = {"10": work.prompts(2), "11": work.prompts(3, "11/kites.parquet")}

    codes = [work.run(table, "--partition", key).exit_code for key, table in tables.items()]

    assert (codes, work.n_posts) == ([0, 0], 5)


def test_a_table_that_cannot_be_used_keeps_no_name(new_shell):
    """Only what was published owns the name."""
    work = new_shell()
    (work.folder / "old").mkdir()
    bad = work.prompts(pa.table({"caption": ["x"]}), "old/kites.parquet")

    codes = [work.run(table).exit_code for table in (bad, work.prompts(2))]

    assert codes == [2, 0]


def test_the_quote_says_what_the_table_multiplies(new_shell):
    """A stock list's count is images unless somebody says that it is a column of their own."""
    work = new_shell()
    stock = work.prompts(pa.table({"prompt": ["a kettle", "a lamp"], "count": [12, 3]}))

    told = work.run(stock)
    mine = work.run(stock, "--batch", "mine", "--column", "count=")

    assert "count from the table: 15 images" in told.stderr
    assert "count from" not in mine.stderr
    assert len(result(work, "images")) == 15
    assert [row["input_count"] for row in result(work, "images", "mine")] == [12, 3]
    assert work.run(stock, "--column", "prompt=").exit_code == 2


def test_a_catalogue_keeps_its_own_model_and_size(new_shell):
    """Columns that are the user's are carried, whatever is in them."""
    work = new_shell()
    rows = {"prompt": ["a kettle"], "model": ["KX-200"], "size": ["XL"]}
    table = work.prompts(pa.table({**rows, "count": pa.array([{"min": 1}])}))

    told = work.run(table, "--column", "model=", "--column", "size=", "--column", "count=")

    assert told.exit_code == 0, told.stderr
    (row,) = result(work, "images")
    assert (row["input_model"], row["input_size"]) == ("KX-200", "XL")
    assert row["input_count"] == {"min": 1}
