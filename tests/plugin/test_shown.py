"""What runs leave behind for the UI: pictures, columns and where they come from, money."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mynth_dagster.plugin.checks import Checks

FIRST, LAST = "2026-11-19|000", "2026-11-19|001"
ONE = {"partitions_def": None, "fan_out": 1}


def _shown(project, table, partition=None):
    key = dg.AssetKey(["shots", table])
    records = project.instance.fetch_materializations(key, limit=100).records
    (event,) = [r.asset_materialization for r in records if r.partition_key == partition]
    return event.metadata


def test_previews_are_made_while_collecting(instant):
    """With previews on, each partition shows a strip and a gallery of its own images."""
    assert instant.execute("all", FIRST, LAST, defs=instant.definitions(previews=4)).success

    shown = _shown(instant, "images", FIRST)
    assert shown["mynth/preview"].value.startswith("![the first 4 of")
    gallery = shown["mynth/gallery"].value
    assert gallery.count("data:image/webp;base64,") == 4
    assert (
        gallery.count(f"]({instant.simulator.url}/cdn/")
        == 4 + shown["dagster/partition_row_count"].value
    )
    assert "mynth/thumbnails_left_out" not in shown


def test_pictures_come_before_the_columns(instant):
    """Dagster lists the columns of its own key above all metadata, so a gallery has another key."""
    defs = instant.definitions(previews=4)
    instant.execute("all", FIRST, defs=defs)

    shown = _shown(instant, "images", FIRST)
    defined = defs.resolve_asset_graph().get(dg.AssetKey(["shots", "images"])).metadata
    assert list(shown)[:2] == ["mynth/preview", "mynth/gallery"]
    for metadata in (shown, defined):
        assert "dagster/column_schema" not in metadata
        columns = metadata["mynth/columns"]
        assert "url" in {c.name for c in getattr(columns, "schema", columns).columns}
    assert "dagster/column_schema" in _shown(instant, "failures", FIRST)


def test_broken_pictures_stop_nothing(instant):
    """If no picture can be fetched, the collection succeeds and says how many are left out."""
    instant.simulator.set_scenario(
        progress="immediate", faults=[{"kind": "status", "status": 503, "route": "GET /cdn/:file"}]
    )
    defs = instant.definitions(previews=4, **ONE)

    assert instant.execute("all", defs=defs).success

    shown = _shown(instant, "images")
    assert shown["mynth/thumbnails_left_out"].value == 4
    assert shown["mynth/preview"].value.startswith("12 images · [p0]")


def test_no_pictures_are_fetched_unless_asked(instant):
    """Previews are off by default, and then nothing is downloaded."""
    instant.execute("all", defs=instant.definitions(**ONE))

    assert not any("/cdn/" in route for route in instant.simulator.log()["requests"])


def test_columns_have_types_meanings_and_origins(instant):
    """Carried columns are shown with the prompts they come from, down to `images`."""
    path = instant.write_prompts(["a kite"])
    table = pq.read_table(path).append_column("season", pa.array(["spring"]))
    pq.write_table(table, path)

    instant.execute("all", defs=instant.definitions(**ONE))

    shown = _shown(instant, "images")
    columns = {c.name: c for c in shown["dagster/column_schema"].value.columns}
    assert columns["width"].type == "int32"
    assert columns["width"].description == "pixels"
    assert columns["season"].type == "string"
    lineage = shown["dagster/column_lineage"].value.deps_by_column
    prompts, tasks = (dg.AssetKey(["shots", name]) for name in ("prompts", "tasks"))
    assert lineage["season"] == [dg.TableColumnDep(prompts, "season")]
    assert lineage["prompt_sent"] == [dg.TableColumnDep(prompts, "prompt")]
    assert lineage["task_id"] == [dg.TableColumnDep(tasks, "task_id")]
    assert "url" not in lineage
    assert shown["dagster/row_count"].value == 1


def test_definitions_have_columns_kinds_and_code(instant):
    """Before any run the UI knows the columns, and where the batch is written down."""
    batch = instant.definitions()

    graph = batch.resolve_asset_graph()
    for table in ("prompts", "tasks", "images", "failures"):
        node = graph.get(dg.AssetKey(["shots", table]))
        assert "prompt_id" in {c.name for c in node.metadata["dagster/column_schema"].columns}
        (reference,) = node.metadata["dagster/code_references"].code_references
        assert reference.file_path.endswith("tests/plugin/conftest.py")
        assert "parquet" in node.kinds
        assert node.description


def test_prompts_tell_the_quote_before_anything_is_sent(instant):
    """Materializing prompts alone prices each partition and sends nothing."""
    job = instant.definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instant.instance,
        asset_selection=[dg.AssetKey(["shots", "prompts"])],
        partition_key=FIRST,
    )

    assert result.success
    shown = _shown(instant, "prompts", FIRST)
    n_rows = shown["dagster/partition_row_count"].value
    assert shown["mynth/to_send"].value == n_rows
    assert shown["mynth/quoted_usd"].value == pytest.approx(0.01 * n_rows)
    assert shown["mynth/quote_basis"].value == "estimate"
    assert instant.n_accepted == 0


def _evaluations(result):
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def test_worst_partition_decides_the_failure_rate(instant):
    """One bad shard of two is told by its key; the run itself succeeds."""
    instant.simulator.set_scenario(
        progress="immediate", failures=[{"kind": "refused", "prompt_contains": "number 3"}]
    )
    limits = Checks(failure_rate_warn=0.0)

    result = instant.execute("all", FIRST, LAST, defs=instant.definitions(checks=limits))

    assert result.success
    evaluation = _evaluations(result)["failure_rate"]
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert evaluation.metadata["mynth/partitions"].value.count("2026-11-19|") == 1
    assert "as in p3" in evaluation.metadata["mynth/codes"].value


def test_budget_counts_the_whole_window(instant):
    """A shard collected alone is judged with what its day was charged before."""
    limits = Checks(budget_usd_per_window=Decimal("0.11"))
    defs = instant.definitions(checks=limits)

    first = _evaluations(instant.execute("all", FIRST, defs=defs))["within_budget"]
    second = _evaluations(instant.execute("all", LAST, defs=defs))["within_budget"]

    assert first.passed
    assert not second.passed
    assert second.metadata["mynth/charged_most_usd"].value == pytest.approx(0.12)


def test_rejected_prompts_warn_before_sending(instant):
    """The check on `prompts` is told by the run that prepared them."""
    instant.write_prompts(["a kite", "  "])

    result = instant.execute("submit", defs=instant.definitions(**ONE))

    evaluation = _evaluations(result)["prompts_valid"]
    assert not evaluation.passed
    assert evaluation.metadata["mynth/worst_rate"].value == 0.5
    assert evaluation.metadata["mynth/rejected_rows"].value == "p1: empty_prompt"


def test_figures_of_a_run_are_named_so(instant):
    """What is about all partitions of a run is not taken for one partition's own."""
    instant.execute("submit", FIRST, LAST)

    shown = _shown(instant, "tasks", FIRST)
    assert shown["mynth/run_posts_sent"].value == 12
    assert shown["dagster/partition_row_count"].value < 12
