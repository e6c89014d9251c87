"""What `build_image_batch` makes."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg
import pytest

from mynth_dagster import MynthResource, Prompts, Spending, build_image_batch
from mynth_dagster.errors import ConfigError
from tests.batches import grouped

FILES = dg.DynamicPartitionsDefinition(name="drops")
DAILY = dg.DailyPartitionsDefinition("2026-11-18", end_date="2026-11-24")


def _definitions(**settings):
    batch = build_image_batch("shots", **grouped({"prompts": "p.parquet", **settings}))
    resource = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), root="data")
    return dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": resource}))


def _graph(**settings):
    return _definitions(**settings).resolve_asset_graph()


def test_batch_has_the_four_tables_in_one_group_in_order():
    """prompts leads to tasks, and tasks to images and failures, all in the batch's group."""
    graph = _graph(partitions_def=DAILY, fan_out=2)

    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "shots/prompts": set(),
        "shots/tasks": {"shots/prompts"},
        "shots/images": {"shots/tasks"},
        "shots/failures": {"shots/tasks"},
    }
    assert {graph.get(key).group_name for key in graph.get_all_asset_keys()} == {"shots"}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, None),
        ({"fan_out": 2}, ["000", "001"]),
        ({"fan_out": "model", "models": ["a/x", "b/y"]}, ["a/x", "b/y"]),
        ({"partitions_def": dg.StaticPartitionsDefinition(["de", "fr"])}, ["de", "fr"]),
        (
            {"partitions_def": dg.StaticPartitionsDefinition(["de"]), "fan_out": 2},
            ["de|000", "de|001"],
        ),
    ],
)
def test_partitions_are_windows_times_fan_out(settings, keys):
    """Windows and fan-out multiply; where there is neither, the batch is unpartitioned."""
    definition = _graph(**settings).get(dg.AssetKey(["shots", "images"])).partitions_def

    assert (None if definition is None else definition.get_partition_keys()) == keys


def test_operation_names_are_public():
    """The launchpad and the sensor rely on the names of the operations."""
    defs = build_image_batch("shots", prompts="p.parquet")

    names = {assets.op.name for assets in defs.assets}
    assert names == {"shots__prepare", "shots__submit", "shots__collect"}


def test_cap_on_a_window_is_checked_too():
    """Where no other sum is said, the check judges by the batch's own cap."""
    defs = build_image_batch(
        "shots", prompts="p.parquet", spending=Spending(budget_usd={"window": Decimal("12.50")})
    )

    told = {spec.name: spec.description for assets in defs.assets for spec in assets.check_specs}
    assert "at most $12.50 together" in told["within_budget"]


@pytest.mark.parametrize("prompts", ["p.parquet", "other.parquet"])
def test_two_batches_of_one_name_do_not_load(prompts):
    """Dagster names the asset that there would be twice, before anything can be run."""
    second = build_image_batch("shots", prompts=prompts)

    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"Duplicate asset key.*'shots'"):
        dg.Definitions.validate_loadable(dg.Definitions.merge(_definitions(), second))


def test_definitions_load():
    """Dagster itself accepts the whole batch once the resource is there."""
    defs = _definitions(partitions_def=DAILY, fan_out=4, schedule="0 2 * * *")

    dg.Definitions.validate_loadable(defs)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"fan_out": 0}, "fan_out"),
        ({"fan_out": "moon"}, "fan_out"),
        ({"models": []}, "ImageRequest.models"),
        ({"wait": "never"}, "Delivery.wait"),
        ({"columns": {"colour": "x"}}, "Prompts.columns"),
        ({"prompts": "{window}.parquet"}, "prompts"),
        ({"prompts": "{window}/p.parquet", "partitions_def": FILES}, "prompts"),
        ({"prompts": dg.AssetIn()}, "prompts"),
        ({"prompts": Prompts()}, "prompts"),
        ({"previews": 25}, "Delivery.previews"),
        ({"partitions_def": FILES, "schedule": "0 2 * * *"}, "schedule"),
        ({"schedule": "0 2 * * *"}, "schedule"),
    ],
)
def test_wrong_settings_are_named(settings, setting):
    """A wrong setting is refused when the definitions load, by its name."""
    with pytest.raises(ConfigError) as refused:
        build_image_batch("shots", **grouped({"prompts": "p.parquet", **settings}))

    assert refused.value.setting == setting
