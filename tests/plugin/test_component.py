"""The component: the same batch from YAML, and what a user may override."""

from __future__ import annotations

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mynth_dagster import MynthImagesComponent, MynthResource, build_image_batch
from mynth_dagster.errors import ConfigError

ATTRIBUTES = {
    "name": "shots",
    "prompts": "p.parquet",
    "models": ["a/x", "b/y"],
    "windows": {"type": "daily", "start_date": "2026-11-18"},
    "shards": 2,
    "schedule": "0 2 * * *",
}


FILES = {"type": "files"}


def _load(attributes, component=MynthImagesComponent):
    contents = {
        "type": f"{component.__module__}.{component.__name__}",
        "attributes": attributes,
    }
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=MynthImagesComponent, defs_yaml_contents=contents
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            return defs


def test_yaml_makes_the_same_batch_as_python(tmp_path):
    """Assets, partitions, jobs, sensor and schedule are those of `build_image_batch`."""
    from_yaml = _load({**ATTRIBUTES, "api_key_env": "MYNTH_API_KEY", "root": str(tmp_path)})
    from_python = build_image_batch(
        "shots",
        prompts="p.parquet",
        models=["a/x", "b/y"],
        windows=dg.DailyPartitionsDefinition("2026-11-18"),
        shards=2,
        schedule="0 2 * * *",
    )

    def shape(defs):
        specs = {spec.key: spec for assets in defs.assets for spec in assets.specs}
        return (
            {key: (spec.partitions_def, spec.group_name) for key, spec in specs.items()},
            sorted(sensor.name for sensor in defs.sensors),
            sorted(schedule.name for schedule in defs.schedules),
            sorted(job.name for job in defs.jobs),
        )

    assert shape(from_yaml) == shape(from_python)
    assert set(from_yaml.resources) == {"mynth"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"windows": {"type": "daily", "start_date": "1.11.2026"}}, "windows.start_date: '1.11"),
        ({"windows": {"type": "daily", "start_date": "2026-13-01"}}, "windows.start_date: '2026-"),
        (
            {"windows": {"type": "daily", "start_date": "2026-11-01", "timezone": "Mars/X"}},
            "windows.timezone: 'Mars/X'",
        ),
        ({"defaults": {"size": "gigantic"}}, "defaults.size: 'gigantic'"),
        ({"defaults": {"output_format": "bmp"}}, "defaults.output_format: 'bmp'"),
        ({"defaults": {"count": 101}}, "defaults.count: 101"),
    ],
)
def test_what_no_revision_takes_is_refused_when_it_is_defined(changes, said):
    """`dg check defs` names field and value in a sentence; nobody has to run it to find out."""
    with pytest.raises(Exception, match="Error while building") as refused:
        _load({**ATTRIBUTES, **changes})

    assert isinstance(refused.value.__cause__, ConfigError)
    assert str(refused.value.__cause__).startswith(said)


def test_two_connections_need_two_resource_keys():
    """Two batches at two servers are told to name their resources, which Dagster does not say."""
    key = {"api_key_env": "MYNTH_API_KEY"}
    there = {**ATTRIBUTES, **key, "name": "there", "base_url": "http://127.0.0.1:9"}
    with create_defs_folder_sandbox() as sandbox:
        for attributes in ({**ATTRIBUTES, **key}, there):
            sandbox.scaffold_component(
                component_cls=MynthImagesComponent,
                defs_path=attributes["name"],
                defs_yaml_contents={
                    "type": "mynth_dagster.MynthImagesComponent",
                    "attributes": attributes,
                },
            )
        refused = pytest.raises(Exception, match="Error while building")
        with refused as caught, sandbox.build_all_defs():
            pass
    assert "shots and there have 'mynth' both, with another base_url: give one of them" in str(
        caught.value.__cause__
    )


def test_what_the_resource_takes_from_yaml_arrives(tmp_path):
    """Every field of the connection that the component has too, each other than its default."""
    given = {
        "api_key_env": "STUDIO_MYNTH_KEY",
        "root": str(tmp_path),
        "ledger_url": f"sqlite:///{tmp_path}/elsewhere.db",
        "journal_dir": str(tmp_path / "journal"),
        "upload_lifetime_s": 600.0,
        "base_url": "http://127.0.0.1:1",
        "api_revision": "2026-08",
        "concurrency": 3,
        "image_hosts": ["images.example"],
        "any_public_host": True,
    }
    defs = _load({**ATTRIBUTES, **given})
    mynth = defs.resources["mynth"]
    assert set(given) == set(MynthResource.model_fields) & set(MynthImagesComponent.model_fields)
    assert {name: getattr(mynth, name) for name in given} == given


def test_without_key_variable_no_resource_is_registered():
    """Then the user's own resource is used."""
    assert not _load(ATTRIBUTES).resources


def test_equal_connections_share_one_resource(tmp_path):
    """Two batches with the same connection can live in one code location."""
    shared = {"api_key_env": "MYNTH_API_KEY", "root": str(tmp_path)}
    first = _load({**ATTRIBUTES, **shared})
    second = _load({**ATTRIBUTES, "name": "others", **shared})

    assert first.resources["mynth"] is second.resources["mynth"]
    dg.Definitions.validate_loadable(dg.Definitions.merge(first, second))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("shards", "eight", "shards"),
        ("wait", "never", "'sensor' or 'run'"),
        ("colour", "red", "colour"),
        ("windows", {"type": "daily"}, "start date"),
        ("windows", {"type": "static"}, "need keys"),
        ("fan_out", "moon", "'shard' or 'model'"),
        ("prices_usd", {"a/x": "cheap"}, "0.04"),
        ("previews", 100, "100 is not between 0 and 24"),
        ("checks", {"failure_rate_warn": 2}, "checks.failure_rate_warn: 2"),
        ("checks", {"budget_usd_per_window": "much"}, "'much' is no amount in USD"),
        ("checks", {"failure_rate": 0.1}, "failure_rate"),
        ("freshness", {"fail_after_hours": 1, "warn_after_hours": 2}, "warn_after_hours"),
        ("pools", {"sending": "x"}, "'prepare', 'submit', 'collect'"),
        ("prompts_asset", "a/b", "one of prompts"),
        ("translation", {"colour": "red"}, "colour"),
    ],
)
def test_wrong_yaml_names_field_and_what_is_allowed(field, value, said):
    """Whatever is wrong is refused when definitions load, in words that help."""
    with pytest.raises(Exception) as refused:  # noqa: PT011 - Dagster wraps it by version
        _load({**ATTRIBUTES, field: value})

    chain, error = "", refused.value
    while error is not None:
        chain, error = chain + str(error), error.__cause__ or error.__context__
    assert said in chain


def test_scaffolded_yaml_loads(tmp_path):
    """The commented file that `dg scaffold defs` writes is valid as it stands."""
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=MynthImagesComponent)
        written = (path / "defs.yaml").read_text()
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            names = {key.path[0] for key in defs.resolve_asset_graph().get_all_asset_keys()}

    assert isinstance(component, MynthImagesComponent)
    assert written.count("#") >= 8
    assert yaml.safe_load(written)["attributes"]["name"] in names


def test_the_caps_that_are_scaffolded_as_a_comment_load(tmp_path):
    """Whoever takes the comment away has a budget that stops spending."""
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=MynthImagesComponent)
        file = path / "defs.yaml"
        file.write_text(file.read_text().replace("# budget_usd:", "budget_usd:"))
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, _):
            caps = component.budget_usd

    assert set(caps) == {"window", "batch"}


class TaggedComponent(MynthImagesComponent):
    """What a user may write."""

    def get_asset_spec(self, assets, table):
        return super().get_asset_spec(assets, table).replace_attributes(owners=["team:studio"])

    def execute(self, context, phase, mynth, assets):
        context.log.info(f"our own {phase}")
        yield from super().execute(context, phase, mynth, assets)


def test_subclass_changes_specs_and_bodies(project):
    """`get_asset_spec` and `execute` are the two places to override."""
    project.simulator.set_scenario(progress="immediate")
    component = TaggedComponent(
        name="shots", prompts=str(project.folder / "prompts.parquet"), models=["recraft/recraft-v4"]
    )
    batch = component.build_defs(None)
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": project.resource}))

    assert project.execute("all", defs=defs).success
    owners = {tuple(spec.owners) for assets in batch.assets for spec in assets.specs}
    assert owners == {("team:studio",)}


def test_moved_keys_are_followed_everywhere(project):
    """Dependencies, jobs, checks and records go where `translation` puts the assets."""
    project.simulator.set_scenario(progress="immediate")
    batch = _load(
        {
            "name": "shots",
            "prompts": str(project.folder / "prompts.parquet"),
            "models": ["recraft/recraft-v4"],
            "translation": {
                "key": "studio/{{ batch }}_{{ table }}",
                "group_name": "studio",
                "tags": {"table": "{{ table }}"},
                "owners": ["team:studio"],
                "kinds": ["huggingface"],
            },
        }
    )
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": project.resource}))

    assert project.execute("all", defs=defs).success

    graph = defs.resolve_asset_graph()
    images = graph.get(dg.AssetKey(["studio", "shots_images"]))
    assert images.parent_keys == {dg.AssetKey(["studio", "shots_tasks"])}
    assert (images.group_name, images.owners) == ("studio", ["team:studio"])
    assert images.tags["table"] == "images"
    assert {check.asset_key.path[0] for check in graph.asset_check_keys} == {"studio"}
    records = project.instance.fetch_materializations(images.key, limit=10).records
    assert records[0].asset_materialization.metadata["dagster/row_count"].value == 12


@pytest.mark.parametrize("changes", [{"key": dg.AssetKey("elsewhere")}, {"partitions_def": None}])
def test_overrides_may_not_break_a_batch(changes):
    """Two tables under one key, or a table without its partitions, are refused by name."""

    class Broken(MynthImagesComponent):
        def get_asset_spec(self, assets, table):
            return super().get_asset_spec(assets, table).replace_attributes(**changes)

    with pytest.raises(ConfigError, match="translation"):
        Broken(name="shots", prompts="p.parquet", shards=2).build_defs(None)


def test_every_field_reaches_the_batch(tmp_path):
    """Checks, freshness, pools and previews are those of the YAML."""
    defs = _load(
        {
            **ATTRIBUTES,
            "previews": 12,
            "checks": {"failure_rate_warn": 0.2, "budget_usd_per_window": "25.00"},
            "freshness": {"fail_after_hours": 30, "warn_after_hours": 26},
            "pools": {"submit": "paid"},
            "prices_usd": {"a/x": "0.04", "b/y": 0.1},
        }
    )

    specs = {spec.key.path[-1]: spec for assets in defs.assets for spec in assets.specs}
    assert specs["images"].freshness_policy.fail_window.to_timedelta().total_seconds() == 108_000
    assert specs["prompts"].freshness_policy is None
    assert {assets.op.pool for assets in defs.assets} == {"paid", None}
    checks = {spec.name: spec for assets in defs.assets for spec in assets.check_specs}
    assert "more than 20%" in checks["failure_rate"].description
    assert "$25" in checks["within_budget"].description


def test_files_and_assets_can_be_sources():
    """`windows: files` makes dynamic partitions; `prompts_asset` a dependency."""
    files = _load({"name": "drops", "prompts": "inbox/{window}.parquet", "windows": FILES})
    fed = _load({"name": "fed", "prompts_asset": "catalogue/products", "api_key_env": "KEY"})

    (prepare, *_) = files.assets
    assert prepare.partitions_def == dg.DynamicPartitionsDefinition(name="drops_files")
    assert [sensor.name for sensor in files.sensors] == ["drops_completion", "drops_new_files"]
    catalogue = dg.Definitions(assets=[dg.AssetSpec(["catalogue", "products"])])
    graph = dg.Definitions.merge(fed, catalogue).resolve_asset_graph()
    parents = graph.get(dg.AssetKey(["fed", "prompts"])).parent_keys
    assert parents == {dg.AssetKey(["catalogue", "products"])}
