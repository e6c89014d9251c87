"""Checks judge what a run wrote, the worst partition wins, and each says what to do."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg
import pytest

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import MoneyOutcome
from mynth_dagster.plugin import checks
from mynth_dagster.plugin.checks import Checks
from mynth_dagster.tables.images import FilesSummary
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import FailureKind, ResultsSummary

KEY = dg.AssetKey(["shots", "images"])
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def _results(window: str, n_images: int = 1, n_failures: int = 0, **facts) -> ResultsSummary:
    asked = {"n_images_asked": n_images + n_failures, "n_images_missing": n_failures}
    return ResultsSummary(Slice(window), 1, {}, n_images=n_images, **asked, **facts)


def _prompts(window: str, n_rejected: int) -> PromptsSummary:
    return PromptsSummary(Slice(window), "", 10, 10 - n_rejected, n_rejected, 10)


@pytest.mark.parametrize(
    ("n_failures", "passed", "severity"),
    [(0, True, WARN), (1, True, WARN), (2, False, WARN), (9, False, ERROR)],
)
def test_failure_rate_warns_then_fails(n_failures, passed, severity):
    """Two thresholds, each inclusive; a good partition does not hide a bad one."""
    limits = Checks(failure_rate_warn=0.1, failure_rate_error=0.5)
    summaries = [_results("a", 100), _results("b", 10 - n_failures, n_failures)]

    result = checks.failures_few(KEY, summaries, limits)

    assert (result.passed, result.severity) == (passed, severity)
    assert result.metadata["mynth/worst_rate"].value == n_failures / 10
    assert result.metadata["mynth/partitions"].value == (
        "none" if passed else f"b: {n_failures}0.0% of the images asked for are missing"
    )


def test_rejected_rows_warn():
    """By default one bad prompt is a warning, however many are good."""
    result = checks.prompts_valid(KEY, [_prompts("a", 0), _prompts("b", 1)], Checks())

    assert not result.passed
    assert result.severity is WARN
    assert result.metadata["mynth/partitions"].value == "b: 10.0% rejected"


def test_anything_open_warns():
    """Unresolved, stalled and pending rows are told by partition."""
    summaries = [_results("a"), _results("b", rows_by_status={"unresolved": 2, "stalled": 1})]

    result = checks.nothing_open(KEY, summaries)

    assert not result.passed
    assert result.severity is WARN
    told = result.metadata["mynth/partitions"].value
    assert told == "b: 2 unresolved, 1 stalled, 0 pending"


def test_open_rows_are_named_with_code_and_next_step():
    """The most frequent first, over all partitions; ids are shown as they are, safely."""
    unknown, late = MoneyOutcome.UNKNOWN, "Wait."
    lost = FailureKind("outcome_unknown", "", "Resolve it.", unknown, 2, n_open=2, examples=["p1"])
    again = FailureKind("outcome_unknown", "", "Resolve it.", unknown, 1, n_open=1, examples=["p9"])
    stalled = FailureKind(
        "deadline_passed", "", late, unknown, 1, n_open=1, examples=["\x1b[2J" + "x" * 99]
    )
    failed = FailureKind("internal_error", "", "Ask again.", unknown, 7, examples=["p2"])
    summaries = [
        _results("a", rows_by_status={"unresolved": 2}, failure_kinds=(failed, lost)),
        _results("b", rows_by_status={"unresolved": 1}, failure_kinds=(stalled, again)),
    ]

    told = checks.nothing_open(KEY, summaries).metadata["mynth/codes"].value

    assert told.startswith("3 outcome_unknown, as in p1, p9. Next: Resolve it.; 1 ")
    assert "as in \\x1b[2Jxxx" in told
    assert told.endswith("x…. Next: Wait.")


def test_codes_of_failed_downloads_are_counted_over_all_partitions():
    """Each code once, the most frequent first, with rows of every partition."""
    summaries = [
        FilesSummary(
            Slice("a"),
            9,
            6,
            1,
            {"too_slow": 1, "no_url": 2},
            {"too_slow": ["p1"], "no_url": ["p4"]},
        ),
        FilesSummary(Slice("b"), 9, 7, 1, {"too_slow": 2}, {"too_slow": ["p2", "p3"]}),
    ]

    told = checks.files_kept(KEY, summaries, Checks()).metadata["mynth/codes"].value

    assert told == "3 too_slow, as in p1, p2, p3; 2 no_url, as in p4"


@pytest.mark.parametrize(("charged", "passed"), [(500_000_000, True), (500_000_001, False)])
def test_budget_is_judged_by_window(charged, passed):
    """To the last unit of 10⁻⁸ USD."""
    limits = Checks(budget_usd_per_window=Decimal(5))

    result = checks.within_budget(KEY, {"a": 1, "b": charged}, limits)

    assert result.passed is passed
    assert result.severity is ERROR


def test_each_check_says_what_to_do():
    """The description names the threshold and the next step; the budget is there if wanted."""
    limits = Checks(budget_usd_per_window=Decimal("25.50"))
    specs = checks.check_specs(lambda table: dg.AssetKey(["shots", table]), limits)

    by_name = {spec.name: spec for spec in specs}
    assert set(by_name) == {
        "prompts_valid",
        "every_prompt_accounted_for",
        "failure_rate",
        "nothing_unresolved",
        "within_budget",
        "every_image_has_its_file",
    }
    assert [spec.name for spec in specs if spec.blocking] == ["every_prompt_accounted_for"]
    assert "$25.50" in by_name["within_budget"].description
    assert all("If " in spec.description for spec in specs)
    assert len(checks.check_specs(dg.AssetKey, Checks())) == 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"failure_rate_warn": 0.6}, "failure_rate_warn"),
        ({"failure_rate_error": 1.5}, "failure_rate_error"),
        ({"rejected_rate_warn": -0.1}, "rejected_rate_warn"),
        ({"budget_usd_per_window": Decimal(0)}, "budget_usd_per_window"),
        ({"budget_usd_per_window": Decimal("NaN")}, "budget_usd_per_window"),
    ],
)
def test_impossible_limits_are_refused(settings, said):
    """By the name of the field and what is allowed."""
    with pytest.raises(ConfigError, match=said):
        Checks(**settings)


def test_an_evaluation_of_a_partition_hides_that_of_the_run():
    """Why a run gives one result: in Dagster 1.13 the newest evaluation stands for the check."""
    shards = dg.StaticPartitionsDefinition(["000", "001"])

    @dg.asset(
        partitions_def=shards,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("judged", asset="table")],
    )
    def table(context):
        for key in shards.get_partition_keys():
            context.log_event(
                dg.AssetCheckEvaluation(table_key, "judged", passed=key == "001", partition=key)
            )
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False)])

    table_key = dg.AssetKey("table")
    check = dg.AssetCheckKey(table_key, "judged")
    tags = {
        "dagster/asset_partition_range_start": "000",
        "dagster/asset_partition_range_end": "001",
    }
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([table], instance=instance, tags=tags).success
        shown = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    evaluation = shown[check].event.dagster_event.event_specific_data
    assert (evaluation.partition, evaluation.passed) == ("001", True)


def _descriptions(**limits) -> dict[str, str]:
    """What each check of a batch is for, on one line."""
    made = checks.check_specs(
        lambda table: dg.AssetKey(["shots", table]), Checks(**limits), rated=True
    )
    return {spec.name: str(spec.description) for spec in made}


def test_thresholds_are_shown_as_they_are():
    """A share below one percent is not rounded to none, and a whole one is told plainly."""
    told = _descriptions(
        rejected_rate_warn=0.004,
        rejected_rate_error=0.07,
        missing_file_rate_warn=0.125,
        missing_file_rate_error=0.5,
        unrated_share_warn=0.001,
    )

    assert "Warns if more than 0.4% of a partition's rows do, fails if" in told["prompts_valid"]
    assert "fails if more than 7%." in told["prompts_valid"]
    assert "Warns if more than 12.5% of a partition's images have none" in told[checks.FILES_KEPT]
    assert "at most 0.1% of a partition's images" in told["content_rating"]


def test_a_threshold_that_nothing_can_pass_is_not_shown():
    """More than every row of a partition cannot be rejected."""
    told = _descriptions()

    assert "fails if" not in told["prompts_valid"]
    assert "fails if" not in told[checks.FILES_KEPT]
    assert "fails if more than 50%." in told["failure_rate"]
