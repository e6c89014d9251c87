"""Tables with rubbish in them: told exactly, and not a cent is spent on them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from mynth_dagster.errors import TableError
from tests.factories import KEY

GOOD = [{"prompt_id": f"p{n}", "prompt": f"prompt {n}"} for n in range(4)]


def test_a_table_without_rows_is_an_empty_success(new_stage):
    """Typed tables with no rows, and no request."""
    work = new_stage()
    empty = pa.table({"prompt_id": pa.array([], pa.string()), "prompt": pa.array([], pa.string())})

    report = work.run(empty)

    assert (report.rows, report.posts_sent) == (0, 0)
    assert work.table("images") == []


@pytest.mark.parametrize(
    "prompt", [None, "", "   ", "x" * 50_000], ids=["null", "", "blank", "long"]
)
def test_a_row_that_cannot_be_asked_for_fails_alone(new_stage, prompt):
    """Rejected before anything is sent, with its column; the others go on."""
    work = new_stage(quirks={"accepts_empty_prompt": False})
    rows = [*GOOD, {"prompt_id": "bad", "prompt": prompt}]

    report = work.run(rows)

    n_bad = sum(row["prompt_id"] == "bad" for row in work.table("failures"))
    assert n_bad == 1
    (row,) = [row for row in work.table("failures") if row["prompt_id"] == "bad"]
    assert row["money"] == "not charged"
    assert report.images == 4


def test_an_id_that_is_given_twice_names_both_rows(new_stage):
    """Nothing is sent: which of the two was meant is not guessed."""
    work = new_stage()

    with pytest.raises(TableError, match=r"p1.*row|row.*p1"):
        work.run([*GOOD, {"prompt_id": "p1", "prompt": "again"}])

    assert work.n_posts == 0


def test_a_table_without_prompts_names_the_columns_it_has(new_stage):
    """And the nearest name."""
    work = new_stage()

    with pytest.raises(TableError, match="promt"):
        work.run([{"prompt_id": "p1", "promt": "a kite"}])

    assert work.n_posts == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "csv"])
def test_a_damaged_file_is_one_clear_error(new_stage, damage):
    """With its path and exit code 2, no trace of a stack, and nothing sent."""
    work = new_stage()
    path = work.folder / "prompts.parquet"
    pq.write_table(pa.Table.from_pylist(GOOD * 500), path)
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:40] + bytes(byte ^ 255 for byte in whole[40:90]) + whole[90:],
        "empty": b"",
        "csv": b"prompt_id,prompt\n1,a kite\n",
    }
    path.write_bytes(broken[damage])
    env = {"MYNTH_API_KEY": KEY, "MYNTH_BASE_URL": work.server.url}

    result = CliRunner().invoke(app, ["run", str(path), "--root", str(work.root)], env=env)

    assert result.exit_code == 2
    assert "prompts.parquet" in result.stderr
    assert "Traceback" not in result.output + result.stderr
    assert work.n_posts == 0


def test_rows_in_another_order_cost_nothing(new_stage):
    """Reordered, fewer, more: only what is new is sent."""
    work = new_stage()
    work.run(GOOD)

    report = work.run([*reversed(GOOD), {"prompt_id": "new", "prompt": "new"}])

    assert (report.posts_sent, report.images) == (1, 5)
    assert work.run(GOOD[:2]).posts_sent == 0
    work.finish(GOOD)


def test_an_edited_row_alone_is_paid_for_again(new_stage):
    """Its text is another wish; its neighbours keep their images."""
    work = new_stage()
    work.run(GOOD)
    edited = [
        {**row, "prompt": "another kite"} if row["prompt_id"] == "p2" else row for row in GOOD
    ]

    report = work.run(edited)

    assert (report.posts_sent, report.images) == (1, 4)
    work.finish(edited)


def test_ids_that_look_like_statements_are_kept_as_text(new_stage):
    """SQL, paths and formulas in ids and prompts mean nothing to us."""
    names = ["'; DROP TABLE intents; --", "../../etc/passwd", "=cmd()|'x'", "a\u200bb", "ключ"]
    work = new_stage()
    rows = [{"prompt_id": name, "prompt": f"prompt of {name}"} for name in names]

    work.run(rows)

    assert [row["prompt_id"] for row in work.table("images")] == names
    work.finish(rows)
