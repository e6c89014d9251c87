"""Settling by hand what no evidence settles: attach, resubmit, abandon."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mynth_dagster.cli.main import app
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.resolve import attach
from mynth_dagster.engine.run import RunProgress, run_table
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import ConfigError
from mynth_dagster.tables.source import open_source
from tests.batches import make_batch

LOST = {"kind": "lost_answer", "prompt_contains": "lost"}
MODEL = "black-forest-labs/flux.2-dev"


class Table:
    """Three rows, one of whose answers is lost; a revision without a task list."""

    def __init__(self, folder, server) -> None:
        self.folder, self.server = folder, server
        prompts = ["a kite", "a lost kite", "a bee"]
        pq.write_table(
            pa.table({"prompt_id": list("abc"), "prompt": prompts}), folder / "p.parquet"
        )
        self.settings = EngineSettings(
            client=ClientSettings(base_url=server.url, api_key="mak_simulator"),
            ledger_url=f"sqlite:///{folder / 'mynth-ledger.db'}",
            root=str(folder),
            api_revision="2026-04",
            poll_interval_min_s=0.01,
            poll_interval_max_s=0.02,
        )

    async def run(self):
        async with open_session(self.settings) as session:
            return await run_table(
                session,
                make_batch("shots", models=(MODEL,)),
                open_source(str(self.folder / "p.parquet")),
                window="",
                stop=CancelToken(),
                progress=RunProgress(),
            )

    def resolve(self, *arguments: str):
        return CliRunner().invoke(
            app, ["resolve", "--root", str(self.folder), *arguments], catch_exceptions=False
        )

    @property
    def lost(self) -> dict:
        """What Mynth made of the request whose answer was lost."""
        return next(e for e in self.server.log()["accepted"] if "lost" in e["prompt"])


@pytest.fixture
def table(tmp_path, simulator) -> Table:
    made = Table(tmp_path, simulator(revision="2026-04", faults=[LOST]))
    report = asyncio.run(made.run())
    assert report.unresolved == 1
    return made


def test_list_tells_evidence_and_exposure(table):
    """The list names the row, what came back, and the most that it may have cost."""
    listed = table.resolve()

    assert listed.exit_code == 0
    assert table.lost["intent_id"] in listed.output
    assert "outcome_unknown" in listed.output
    assert "1 in doubt, at most" in listed.output


def test_attached_task_is_collected_and_never_paid_again(table):
    """After --attach the lost task's image is in the table, and nothing was sent again."""

    async def settle() -> str:
        async with open_session(table.settings) as session:
            return (await attach(session, table.lost["intent_id"], table.lost["task_id"])).value

    assert asyncio.run(settle()) == "attached"
    report = asyncio.run(table.run())

    assert report.is_accounted_for
    assert report.images == 3
    assert report.posts_sent == 0
    assert table.server.log()["totals"]["accepted"] == 3


def test_task_of_another_row_cannot_be_attached(table):
    """A task that carries another wish's tag is refused, and the row stays in doubt."""
    other = next(e for e in table.server.log()["accepted"] if e["prompt"] == "a kite")

    async def settle() -> None:
        async with open_session(table.settings) as session:
            await attach(session, table.lost["intent_id"], other["task_id"])

    with pytest.raises(ConfigError, match="was made for"):
        asyncio.run(settle())

    assert "1 in doubt" in table.resolve().output


def test_resubmitted_row_is_a_new_generation(table):
    """--resubmit sends the row once more under a new intent; the old one stays listed."""
    table.server.set_scenario(faults=[])

    assert table.resolve(table.lost["intent_id"], "--resubmit").exit_code == 0
    report = asyncio.run(table.run())

    assert report.is_accounted_for
    assert report.posts_sent == 1
    log = table.server.log()
    assert log["totals"]["accepted"] == 4
    assert log["duplicate_intents"] == []
    tasks = pq.read_table(table.folder / "shots" / "tasks" / "part-0.parquet").to_pylist()
    of_row = [(t["generation"], t["status"], t["current"]) for t in tasks if t["prompt_id"] == "b"]
    assert of_row == [(1, "abandoned", False), (2, "completed", True)]


def test_abandoned_row_is_not_sent_again(table):
    """--abandon ends the waiting; further runs leave the row as a failure of unknown cost."""
    assert table.resolve(table.lost["intent_id"], "--abandon").exit_code == 0
    report = asyncio.run(table.run())

    assert report.posts_sent == 0
    assert report.failures == {"abandoned": 1}
    failures = pq.read_table(table.folder / "shots" / "failures" / "part-0.parquet").to_pylist()
    assert [failure["money"] for failure in failures] == ["unknown"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["int_unknown", "--abandon"], "has no int_unknown"),
        (["--abandon"], "needs the id"),
        (["int_x", "--abandon", "--resubmit"], "choose one"),
    ],
)
def test_wrong_use_is_explained(table, arguments, said):
    """A wrong id or combination ends with exit code 2 and says why."""
    result = table.resolve(*arguments)

    assert result.exit_code == 2
    assert said in result.output
