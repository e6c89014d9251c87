"""`mynth-dagster run`: exit codes, the report, and errors that cost nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from io import StringIO

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mynth_dagster.cli.options import batch_name, columns
from mynth_dagster.cli.run import ShownProgress
from mynth_dagster.errors import ConfigError
from tests.engine.bench import NO_LIST
from tests.factories import MODEL

REPORT_FIELDS = {
    *("rows", "images_asked", "images_missing", "images", "images_beyond_asked", "failures"),
    *("rows_by_status", "posts_sent", "accepted", "requests"),
    *("quoted_usd", "quote_is_exact", "reserved_usd", "charged_usd", "cost_unknown"),
    *("unresolved", "stalled", "pending", "withheld", "receipt", "tables", "notes", "stopped"),
    *("files", "file_bytes", "stop_message", "stop_next_step", "api_revision"),
}


def test_a_table_of_prompts_becomes_a_table_of_images(shell):
    """Exit code 0, and the tables lie where the report says."""
    work = shell()

    result = work.run(work.prompts(3))

    assert result.exit_code == 0, result.stderr
    assert "3 rows = 3 sent; 3 sent = 3 delivered." in result.stderr
    assert "3 of 3 images, 0 missing; failures: none." in result.stderr
    assert result.stdout == ""
    images = pq.read_table(work.root / "kites" / "images" / "part-0.parquet")
    assert images.num_rows == 3


def test_the_json_report_has_all_its_fields_and_nothing_else_on_stdout(new_shell):
    """For machines: one JSON object, money as decimal strings."""
    work = new_shell()

    result = work.run(work.prompts(3), "--json")

    report = json.loads(result.stdout)
    assert report.keys() == REPORT_FIELDS
    assert (report["rows"], report["images"], report["posts_sent"]) == (3, 3, 3)
    assert report["charged_usd"] == work.server.log()["totals"]["charged"]
    assert result.stderr == ""


def test_running_again_costs_nothing(new_shell):
    """The second run sends no paid request and exits 0."""
    work = new_shell()
    table = work.prompts(3)
    work.run(table)

    result = work.run(table)

    assert result.exit_code == 0
    assert "0 paid requests of 0 sent" in result.stderr
    assert work.n_posts == 3


def test_failures_are_accounted_for(shell):
    """A row that failed at Mynth is a result: exit code 0."""
    work = shell(failures=[{"kind": "task", "prompt_contains": "prompt 1"}])

    result = work.run(work.prompts(3))

    assert result.exit_code == 0
    assert "2 of 3 images, 1 missing; failures: 1" in result.stderr


@pytest.mark.usefixtures("no_pauses")
def test_open_rows_are_exit_code_3(shell):
    """Unresolved rows need evidence or a person."""
    work = shell(faults=[{"kind": "lost_answer", "count": 1}, NO_LIST])

    result = work.run(work.prompts(3))

    assert result.exit_code == 3
    assert "1 rows are unresolved" in result.stderr


def test_stalled_rows_are_exit_code_3(new_shell):
    """Past their deadline, not given up."""
    work = new_shell(failures=[{"kind": "stuck", "prompt_contains": "prompt 1"}])

    result = work.run(work.prompts(3), "--deadline", "0")

    assert result.exit_code == 3
    assert "1 rows are past their deadline" in result.stderr


def test_a_run_that_stopped_early_is_exit_code_1_and_says_how_to_go_on(new_shell):
    """A used-up balance fails no row."""
    work = new_shell(balance_usd="0.000001")

    result = work.run(work.prompts(3))

    assert result.exit_code == 1
    assert "Stopped early (insufficient_balance): Mynth refused: " in result.stderr
    assert "Next: top up the account, then run it again: only what is still" in result.stderr


@pytest.mark.parametrize("wish", [("--force",), ("--retry", "failed")])
def test_a_repetition_that_would_pay_again_is_advised_against(new_shell, wish):
    """A stopped run that asked for finished rows again says to leave that out from now on."""
    work = new_shell(failures=[{"kind": "task"}])
    table = work.prompts(9)
    work.run(table)
    work.server.set_scenario(balance_usd="0.01", failures=())

    result = work.run(table, *wish)

    assert result.exit_code == 1
    assert "Leave out --force and --retry to go on" in result.stderr


def test_a_run_that_asked_for_nothing_again_may_be_repeated_as_it_is(new_shell):
    """Nothing is said of options that were not given."""
    work = new_shell(balance_usd="0.01")

    result = work.run(work.prompts(9))

    assert "--force" not in result.stderr


def test_the_json_report_says_why_a_run_stopped_and_what_to_do(new_shell):
    """A code for machines, and the sentences that people need."""
    work = new_shell(balance_usd="0.000001")
    stopped = work.report(work.prompts(3))
    work.server.set_scenario(balance_usd="100")
    finished = work.report(work.prompts(3))

    assert stopped["stopped"] == "insufficient_balance"
    assert stopped["stop_message"].startswith("Mynth refused: ")
    assert not stopped["stop_message"].endswith("..")
    assert stopped["stop_next_step"].startswith("top up the account, then ")
    assert (finished["stop_message"], finished["stop_next_step"]) == (None, None)


def test_a_key_revoked_in_mid_run_never_claims_that_nothing_was_sent(new_shell):
    """What was sent is told as sent."""
    work = new_shell(faults=[{"kind": "status", "status": 401, "code": "unauthorized", "after": 2}])

    result = work.run(work.prompts(9), "--concurrency", "1")

    assert result.exit_code == 1
    assert "Nothing was sent" not in result.stderr
    assert "9 rows = 7 not sent + 2 sent; 2 sent = 2 delivered." in result.stderr


@pytest.mark.parametrize("key", ["mak_wrong", "mak_simulator2"])
def test_a_wrong_key_is_one_error(shell, key):
    """Exit code 2, one line, no paid request, and the key is not quoted."""
    work = shell()

    result = work.run(work.prompts(3), MYNTH_API_KEY=key)

    assert result.exit_code == 2
    assert "401" in result.stderr
    assert "Nothing was sent and nothing was charged." in result.stderr
    assert key not in result.output
    assert work.n_posts == 0


@pytest.mark.parametrize("key", [None, "", "mak\nx"])
def test_a_missing_key_is_named_by_its_variable(new_shell, key):
    """Before anything is asked of the server."""
    work = new_shell()

    result = work.run(work.prompts(3), MYNTH_API_KEY=key)

    assert result.exit_code == 2
    assert "key" in result.stderr.lower()
    assert work.server.log()["requests"] == {}


BAD = [
    "no prompt column",
    "duplicate ids",
    "no file",
    "empty pattern",
    "not parquet",
    "zero bytes",
    "unknown model",
    "unknown column",
    "column syntax",
    "bad name",
    "bad size",
    "bad count",
    "bad url",
    "bad revision",
    "bad ledger",
    "remote root",
]


def bad_tables(work):
    """Arguments that are wrong, by what is wrong with them, and what is said of it."""
    text = work.folder / "text.parquet"
    text.write_text("prompt\na kite\n")
    empty = work.folder / "empty.parquet"
    empty.write_bytes(b"")
    twice = [{"prompt_id": "a", "prompt": "x"}, {"prompt_id": "a", "prompt": "y"}]
    captions = [{"caption": "a"}]
    return {
        "no prompt column": ([work.prompts(captions, "captions.parquet")], "caption"),
        "duplicate ids": ([work.prompts(twice, "twice.parquet")], "'a'"),
        "no file": ([str(work.folder / "none.parquet")], "none.parquet"),
        "empty pattern": ([str(work.folder / "no*such.parquet")], "no*such.parquet"),
        "not parquet": ([str(text)], "text.parquet"),
        "zero bytes": ([str(empty)], "empty.parquet"),
        "unknown model": ([work.prompts(3), "--model", "no/such-model"], "no/such-model"),
        "unknown column": ([work.prompts(3), "--column", "x=y"], "x"),
        "column syntax": ([work.prompts(3), "--column", "prompt"], "ours=theirs"),
        "bad name": ([work.prompts(3), "--batch", "a b"], "a b"),
        "bad size": ([work.prompts(3), "--size", "huge"], "huge"),
        "bad count": ([work.prompts(3), "--count", "1000"], "1000"),
        "bad url": ([work.prompts(3), "--base-url", "nowhere"], "base_url"),
        "bad revision": ([work.prompts(3), "--api-revision", "2027"], "2026-10"),
        "bad ledger": ([work.prompts(3), "--ledger", "mysql://x/y"], "ledger_url"),
        "remote root": ([work.prompts(3), "--root", "s3://bucket/x"], "--ledger"),
    }


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_input_is_one_clear_error_that_costs_nothing(new_shell, case):
    """Exit code 2, the culprit named, no traceback, no paid request."""
    work = new_shell()
    arguments, said = bad_tables(work)[case]

    result = work.run(*arguments)

    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert "Nothing was sent and nothing was charged." in result.stderr
    assert work.n_posts == 0


def test_a_table_of_bad_rows_alone_is_accounted_for(new_shell):
    """Rows that fail our own checks are results: listed, not sent, not charged."""
    work = new_shell()

    result = work.run(work.prompts([{"prompt_id": "a", "prompt": " "}]))

    assert result.exit_code == 0
    assert work.n_posts == 0


def test_other_column_names_are_mapped(new_shell):
    """`--column prompt=caption`."""
    work = new_shell()
    table = work.prompts([{"sku": 7, "caption": "a kite"}])

    result = work.run(table, "--column", "prompt=caption", "--column", "prompt_id=sku")

    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("prompts", "name"),
    [
        ("data/kites.parquet", "kites"),
        ("s3://bucket/day-1.v2.parquet", "day_1"),
        ("data/*.parquet", "images"),
        ("folder/", "folder"),
    ],
)
def test_a_batch_is_named_after_its_table(prompts, name):
    """Letters, digits and underscores; `images` where nothing is left."""
    assert batch_name(prompts) == name


def test_pairs_of_columns_are_read_or_refused():
    """Each pair is `ours=theirs`; theirs may hold anything."""
    assert columns(["prompt=a=b"]) == {"prompt": "a=b"}
    with pytest.raises(ConfigError, match="ours=theirs"):
        columns(["=x"])


@pytest.mark.parametrize("store", [None, "pictures"])
def test_files_are_kept_where_they_are_wanted(new_shell, tmp_path, store):
    """`--files` beside the tables, `--files-store` elsewhere; the report counts them."""
    work = new_shell()
    where = ["--files"] if store is None else ["--files-store", str(tmp_path / store)]

    result = work.run(work.prompts(3), *where, "--json")

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    kept = [path for path in tmp_path.rglob("int_*.*") if path.is_file()]
    assert (report["files"], len(kept)) == (3, 3)
    assert report["file_bytes"] == sum(path.stat().st_size for path in kept)
    folder = work.root if store is None else tmp_path / store
    assert {path.parent for path in kept} == {folder / "kites" / "files"}


SHOW_MEMORY = """
import ctypes, sys, threading
import mynth_dagster.cli
import pyarrow

print(pyarrow.default_memory_pool().backend_name, flush=True)
if sys.platform != "linux":
    sys.exit()
libc, at_once = ctypes.CDLL(None), threading.Barrier(8)

def use_memory():
    kept = bytes(10_000)
    at_once.wait()

threads = [threading.Thread(target=use_memory) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.fixture(scope="module")
def shown_memory() -> str:
    """What a process of the command line shows of its memory, after eight threads used some."""
    command = [sys.executable, "-c", SHOW_MEMORY]
    environment = {k: v for k, v in os.environ.items() if k != "ARROW_DEFAULT_MEMORY_POOL"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_the_command_lines_process_keeps_no_memory_for_arrow(shown_memory):
    """Arrow reads its pool from the environment, once, when it is imported."""
    assert shown_memory.splitlines()[0] == "system"


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's own")
def test_the_command_lines_threads_share_one_heap(shown_memory):
    """None of them keeps the most that it ever used: the library counts one heap, however many."""
    assert shown_memory.count("<heap nr=") == 1


@pytest.mark.parametrize(("answer", "n_posts", "exit_code"), [("y", 8, 0), ("n", 4, 2)])
def test_somebody_at_a_terminal_is_asked_before_paying_again(new_shell, answer, n_posts, exit_code):
    """Another size for four paid rows is told with its price, and paid for after a yes alone."""
    work = new_shell()
    table = work.prompts(4)
    work.run(table)
    options = ["--root", str(work.root), "--model", MODEL, "--size", "square"]
    options += ["--confirm-above-usd", "0.001"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mynth_dagster.cli", "run", table, *options],
        env={**os.environ, **work.env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = _read_until(ours, "Pay for them again?")
    os.write(ours, f"{answer}\n".encode())
    _read_until(ours, None)

    assert "4 of 4 in all" in shown
    assert "would reserve" in shown
    assert process.wait(timeout=60) == exit_code
    assert work.n_posts == n_posts


def _read_until(terminal: int, text: str | None) -> str:
    """What is shown until this text, or until the other side is closed."""
    shown = ""
    with suppress(OSError):
        while text is None or text not in shown:
            shown += os.read(terminal, 1024).decode(errors="replace")
    return shown


def test_nobody_at_a_terminal_has_to_confirm(new_shell):
    """Below a hundred rows too: other settings stop with exit code 2, and `--confirm` pays."""
    work = new_shell()
    table = work.prompts(4)
    work.run(table)
    square = ("--size", "square", "--confirm-above-usd", "0.001")

    result = work.run(table, *square)

    assert result.exit_code == 2
    assert "--confirm" in result.stderr
    assert work.n_posts == 4
    assert work.run(table, *square, "--confirm").exit_code == 0
    assert work.n_posts == 8


@pytest.mark.parametrize("command", ["status", "receipt", "resolve"])
def test_batch_that_the_ledger_does_not_know_is_an_error(new_shell, command):
    """Of a misspelt batch nothing is told but those that there are."""
    work = new_shell()
    work.run(work.prompts(1))

    result = work.call(command, "--root", str(work.root), "--batch", "nope")

    assert result.exit_code == 2
    assert "the ledger has no batch 'nope'; it has kites" in result.stderr


def test_bar_counts_while_rows_are_sent(monkeypatch):
    """What was accepted or rejected is shown before the first look at the tasks."""
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal has no bars
    terminal = StringIO()
    shown = ShownProgress(Console(file=terminal, force_terminal=True), quiet=False)
    with shown:
        shown.progress.on_phase("submit")
        shown.progress.counts.n_accepted = 3
    assert "3/" in terminal.getvalue()
