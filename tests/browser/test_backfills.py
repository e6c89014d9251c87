"""A person launches backfills on the visible buttons; rows and money are counted at Mynth."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pyarrow.dataset as ds
import pytest

from tests.browser.conftest import wait_until

LINEAGE = "/locations/__repository__@mynth/asset-groups/packaging/lineage"
FORCE = "ops: {packaging__submit: {config: {force: true, confirm: true}}}"
SHARDS = 4


def _choose(ui, first: str, last: str, *, config: str = "") -> None:
    """In the dialog of *Materialize all…*: these dates and all shards; launch, and wait."""
    before = _backfills(ui)
    ui.page.get_by_role("button", name="Materialize all").click()
    ui.page.get_by_placeholder("ex: 2026").fill(f"[{first}...{last}]")
    ui.page.keyboard.press("Enter")
    ui.page.get_by_role("button", name="All", exact=True).last.click()
    if config:
        ui.page.get_by_text("Config", exact=True).click()
        ui.page.get_by_role("button", name="Add config").click()
        ui.page.locator(".cm-s-config-editor").click()
        ui.page.keyboard.type(config)
        ui.page.get_by_role("button", name="Save config").click()
    ui.page.get_by_role("button", name="Launch backfill").click()
    wait_until(lambda: len(_backfills(ui)) > len(before), "the backfill to be launched")
    (launched,) = _backfills(ui).keys() - before.keys()
    wait_until(lambda: _backfills(ui)[launched] not in ("REQUESTED", "STARTED"), "its end")
    assert _backfills(ui)[launched] == "COMPLETED_SUCCESS"


def _backfills(ui) -> dict[str, str]:
    query = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } } }"
    results = ui.ask(query)["partitionBackfillsOrError"]["results"]
    return {backfill["id"]: backfill["status"] for backfill in results}


def _open_job(ui, name: str) -> None:
    ui.open("/jobs", shows=name)
    ui.page.get_by_role("link", name=name).first.click()


def _told(ui, table: str) -> tuple[Counter[str], Decimal]:
    """How often the UI has each partition of a table, and what it says the newest cost."""
    query = (
        '{ assetOrError(assetKey: {path: ["packaging", "%s"]}) { ... on Asset {'
        " assetMaterializations { partition metadataEntries { label"
        " ... on FloatMetadataEntry { floatValue } } } } } }"
    )
    events = ui.ask(query % table)["assetOrError"]["assetMaterializations"]
    newest = {event["partition"]: event for event in reversed(events)}
    charged = sum(
        Decimal(str(entry["floatValue"]))
        for event in newest.values()
        for entry in event["metadataEntries"]
        if entry["label"] == "mynth/charged_usd"
    )
    return Counter(event["partition"] for event in events), Decimal(charged)


def _n_rows(ui) -> int:
    """Requests of one night, by the table of prompts: rows that break no rule."""
    prompts = ds.dataset(ui.tables / "packaging" / "prompts", partitioning="hive")
    rows = prompts.to_table(columns=["date", "problem_message"]).to_pylist()
    sound = Counter(str(row["date"]) for row in rows if row["problem_message"] is None)
    (n_rows,) = set(sound.values())
    return n_rows


def backfill_of_the_submit_job_sends_all_shards(ui):
    """One date and all shards, from the job's page: every row is sent, and then collected."""
    _open_job(ui, "packaging_submit")
    _choose(ui, "2026-11-02", "2026-11-02")

    assert ui.n_accepted() == _n_rows(ui)
    wait_until(lambda: len(_told(ui, "images")[0]) == SHARDS, "the sensor's collection")


def backfill_of_a_job_does_each_of_its_partitions(ui):
    """Three dates and all shards from the page of a job: each row once, each partition once."""
    _open_job(ui, "packaging_all")
    _choose(ui, "2026-11-04", "2026-11-06")

    assert ui.n_accepted() == 4 * _n_rows(ui)
    assert ui.charged_usd() == _told(ui, "images")[1]
    assert Counter(_told(ui, "tasks")[0].values()) == {1: 4 * SHARDS}


def backfill_from_the_lineage_does_each_of_its_partitions(ui):
    """The same from the lineage page, where Dagster makes its runs in another way."""
    ui.open(LINEAGE, shows="prompts")
    _choose(ui, "2026-11-08", "2026-11-10")

    assert ui.n_accepted() == 7 * _n_rows(ui)
    assert ui.charged_usd() == _told(ui, "images")[1]
    assert Counter(_told(ui, "tasks")[0].values()) == {1: 7 * SHARDS}


def forced_backfill_pays_for_what_was_chosen(ui):
    """With `force`, every row of three dates is paid for once more, and no other one."""
    before = ui.charged_usd()
    _open_job(ui, "packaging_all")
    _choose(ui, "2026-11-04", "2026-11-06", config=FORCE)

    assert ui.n_accepted() == 10 * _n_rows(ui)
    assert ui.charged_usd() == _told(ui, "images")[1] == before * 10 / 7
    forced = {key for key, n in _told(ui, "tasks")[0].items() if n == 2}
    assert {key.partition("|")[0] for key in forced} == {"2026-11-04", "2026-11-05", "2026-11-06"}
    assert len(forced) == 3 * SHARDS


STEPS = (
    backfill_of_the_submit_job_sends_all_shards,
    backfill_of_a_job_does_each_of_its_partitions,
    backfill_from_the_lineage_does_each_of_its_partitions,
    forced_backfill_pays_for_what_was_chosen,
)


@pytest.mark.timeout(900)
def test_backfills_do_what_was_chosen(empty_ui):
    """One UI, started once, from which four backfills are launched."""
    for step in STEPS:
        step(empty_ui)
