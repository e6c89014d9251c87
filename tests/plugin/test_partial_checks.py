"""Checks of a run that fails part-way: of what landed, and of what did not."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest

from mynth_dagster import Files

DAY = "2026-11-19"
LANDED, LEFT = f"{DAY}|000", f"{DAY}|001"
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def _shown(project, table: str, check: str) -> dg.AssetCheckEvaluation:
    """What the UI shows of a check: its newest evaluation."""
    key = dg.AssetCheckKey(dg.AssetKey(["shots", table]), check)
    latest = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    found = latest[key].event.dagster_event.event_specific_data
    assert isinstance(found, dg.AssetCheckEvaluation), "planned only"
    return found


def _in_the_way(project, path: str):
    """A file where a folder should be: what is to be written there fails."""
    obstacle = project.folder / "data" / "shots" / path
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    return obstacle


def test_a_collection_that_fails_part_way_fails_its_blocking_check(instant):
    """The earlier, green evaluation is not what is shown: what did not land is named."""
    assert instant.execute("all", DAY + "|000").success
    assert _shown(instant, "images", "every_prompt_accounted_for").passed
    _in_the_way(instant, f"images/date={DAY}/fan_out=001")

    result = instant.execute("all", LANDED, LEFT)

    assert not result.success
    assert instant.recorded("images") == [LANDED, LANDED]
    shown = _shown(instant, "images", "every_prompt_accounted_for")
    assert (shown.passed, shown.severity, shown.blocking) == (False, ERROR, True)
    assert shown.metadata["mynth/not_landed"].value == LEFT
    assert shown.metadata["mynth/unaccounted"].value == 0
    assert shown.metadata["mynth/rows"].value == 7


def test_what_was_not_judged_is_a_warning_on_the_other_checks(instant):
    """Figures are those of what landed; a partition that nobody judged is no pass."""
    _in_the_way(instant, f"images/date={DAY}/fan_out=001")

    instant.execute("all", LANDED, LEFT)

    for check in ("failure_rate", "nothing_unresolved"):
        shown = _shown(instant, "failures", check)
        assert (shown.passed, shown.severity) == (False, WARN)
        assert shown.metadata["mynth/not_landed"].value == LEFT
    assert _shown(instant, "failures", "failure_rate").metadata["mynth/worst_rate"].value == 0


def test_each_check_is_evaluated_once(instant):
    """In a run that fails as in one that does not."""
    _in_the_way(instant, f"images/date={DAY}/fan_out=001")

    result = instant.execute("all", LANDED, LEFT)

    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    logged = instant.instance.all_logs(result.run_id, of_type=kind)
    told = Counter(entry.dagster_event.event_specific_data.check_name for entry in logged)
    assert set(told.values()) == {1}
    assert len(told) == 4


def test_a_collection_of_which_nothing_landed_is_judged_too(instant):
    """Every partition is named, and no figure is made up."""
    _in_the_way(instant, "images")

    instant.execute("all", LANDED, LEFT)

    shown = _shown(instant, "images", "every_prompt_accounted_for")
    assert shown.metadata["mynth/not_landed"].value == f"{LANDED}; {LEFT}"
    rate = _shown(instant, "failures", "failure_rate")
    assert (rate.passed, set(rate.metadata)) == (False, {"mynth/not_landed"})


def test_a_later_run_that_lands_them_passes(instant):
    """The newest evaluation stands for the check, as ever."""
    obstacle = _in_the_way(instant, f"images/date={DAY}/fan_out=001")
    instant.execute("all", LANDED, LEFT)
    obstacle.unlink()

    assert instant.execute("collect", LANDED, LEFT).success

    assert _shown(instant, "images", "every_prompt_accounted_for").passed


@pytest.mark.parametrize(
    ("phase", "table", "check", "left"),
    [
        ("submit", "prompts", "prompts_valid", ["2026-11-20|000", "2026-11-20|001"]),
        ("all", "files", "every_image_has_its_file", ["2026-11-20|000", "2026-11-20|001"]),
    ],
)
def test_prompts_and_files_are_judged_part_way_too(instant, phase, table, check, left):
    """A day without prompts, or without room for its files, is named."""
    defs = instant.definitions(files=Files())
    if table == "prompts":
        instant.write_prompts(["a kite"] * 3, f"{DAY}.parquet")
        prompts = str(instant.folder / "{window}.parquet")
        defs = instant.definitions(prompts=prompts)
    else:
        _in_the_way(instant, "files/date=2026-11-20")

    assert not instant.execute(phase, LANDED, left[-1], defs=defs).success

    shown = _shown(instant, table, check)
    assert (shown.passed, shown.severity) == (False, WARN)
    assert shown.metadata["mynth/not_landed"].value == "; ".join(left)
    assert shown.metadata["mynth/worst_rate"].value == 0
