"""The component: the same batch from YAML, and what a user may override."""

from __future__ import annotations

from decimal import Decimal

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mynth_dagster import (
    ImageRequest,
    MynthImagesComponent,
    MynthResource,
    Prompts,
    build_image_batch,
)
from mynth_dagster.errors import ConfigError
from mynth_dagster.models.task import CatalogModel
from mynth_dagster.plugin.scaffolder import MynthImagesParams, MynthImagesScaffolder
from mynth_dagster.tables.catalogue import write_catalogue
from tests.factories import START_US

ATTRIBUTES = {
    "name": "shots",
    "prompts": "p.parquet",
    "request": {"models": ["a/x", "b/y"]},
    "partitions_def": {"type": "daily", "start_date": "2026-11-18"},
    "fan_out": 2,
    "schedule": "0 2 * * *",
}


FILES = {"type": "dynamic"}


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
    from_yaml = _load({**ATTRIBUTES, "resource": {"root": str(tmp_path)}})
    from_python = build_image_batch(
        "shots",
        prompts="p.parquet",
        request=ImageRequest(models=["a/x", "b/y"]),
        partitions_def=dg.DailyPartitionsDefinition("2026-11-18"),
        fan_out=2,
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
    ("changes", "message"),
    [
        ({"size": "gigantic"}, "request.size: 'gigantic'"),
        ({"output_format": "bmp"}, "request.output_format: 'bmp'"),
        ({"count": 101}, "request.count: 101"),
    ],
)
def test_what_no_revision_takes_is_refused_when_it_is_defined(changes, message):
    """`dg check defs` names field and value in a sentence; nobody has to run it to find out."""
    assert message in _refusal({**ATTRIBUTES, "request": changes})


def _refusal(attributes):
    """All that Dagster says of a `defs.yaml` that does not load."""
    with pytest.raises(Exception) as refused:  # noqa: PT011 - Dagster wraps it by version
        _load(attributes)
    chain, error = "", refused.value
    while error is not None:
        chain, error = chain + str(error), error.__cause__ or error.__context__
    return chain


def test_two_connections_need_two_resource_keys():
    """Two batches at two servers are told to name their resources, which Dagster does not say."""
    here, there = {"root": "data"}, {"root": "data", "base_url": "http://127.0.0.1:9"}
    with create_defs_folder_sandbox() as sandbox:
        for name, resource in (("shots", here), ("there", there)):
            sandbox.scaffold_component(
                component_cls=MynthImagesComponent,
                defs_path=name,
                defs_yaml_contents={
                    "type": "mynth_dagster.MynthImagesComponent",
                    "attributes": {**ATTRIBUTES, "name": name, "resource": resource},
                },
            )
        refused = pytest.raises(Exception, match="Error while building")
        with refused as caught, sandbox.build_all_defs():
            pass
    assert "shots and there have 'mynth' both, with another base_url: give one of them" in str(
        caught.value.__cause__
    )


def test_what_the_resource_takes_from_yaml_arrives(tmp_path):
    """Every field of the connection but the key itself, each other than its default."""
    given = {
        "api_key_env": "STUDIO_MYNTH_KEY",
        "root": str(tmp_path),
        "ledger_url": f"sqlite:///{tmp_path}/elsewhere.db",
        "journal_dir": str(tmp_path / "journal"),
        "upload_lifetime_s": 600.0,
        "base_url": "http://127.0.0.1:1",
        "api_revision": "2026-08",
        "concurrency": 3,
        "connect_timeout_s": 7.0,
        "request_timeout_s": 71.0,
        "image_hosts": ["images.example"],
        "any_public_host": True,
        "poll_interval_min_s": 1.5,
        "poll_interval_max_s": 15.0,
    }
    mynth = _load({**ATTRIBUTES, "resource": given}).resources["mynth"]
    assert set(given) == set(MynthResource.model_fields) - {"api_key"}
    assert {name: getattr(mynth, name) for name in given} == given


def test_without_a_resource_none_is_registered():
    """Then the user's own resource is used."""
    assert not _load(ATTRIBUTES).resources


def test_the_key_is_read_from_its_usual_variable(tmp_path):
    """`MYNTH_API_KEY` where the YAML names no other."""
    defs = _load({**ATTRIBUTES, "resource": {"root": str(tmp_path)}})
    assert defs.resources["mynth"].api_key_env == "MYNTH_API_KEY"


def test_equal_connections_share_one_resource(tmp_path):
    """Two batches with the same connection can live in one code location."""
    shared = {"resource": {"root": str(tmp_path)}}
    first = _load({**ATTRIBUTES, **shared})
    second = _load({**ATTRIBUTES, "name": "others", **shared})

    assert first.resources["mynth"] is second.resources["mynth"]
    dg.Definitions.validate_loadable(dg.Definitions.merge(first, second))


def test_templates_stand_for_values_of_any_field(tmp_path, monkeypatch):
    """Numbers, amounts, texts and lists, also deep within the settings."""
    monkeypatch.setenv("PREVIEWS", "12")
    monkeypatch.setenv("STORE", str(tmp_path / "pictures"))
    env = {"previews": "{{ env.PREVIEWS }}", "files": {"store": "{{ env.STORE }}"}}
    spending = {"retries": "{{ 1 + 2 }}", "prices_usd": {"a/x": "{{ '0.04' }}"}}
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=MynthImagesComponent,
            defs_yaml_contents={
                "type": "mynth_dagster.MynthImagesComponent",
                "attributes": {**ATTRIBUTES, "delivery": env, "spending": spending},
            },
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, _):
            delivery, money = component.delivery, component.spending

    assert (delivery.previews, delivery.files.store) == (12, str(tmp_path / "pictures"))
    assert (money.retries, money.prices_usd) == (3, {"a/x": Decimal("0.04")})


DAILY = {"type": "daily", "start_date": "2026-11-01"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fan_out", 0, "0 is neither 1 to 1000 shards nor 'model'"),
        ("fan_out", "moon", "Input should be 'model'"),
        ("delivery", {"wait": "never"}, "Delivery.wait: 'never': should be 'sensor' or 'run'"),
        ("colour", "red", "colour"),
        ("request", {"colour": "red"}, "colour"),
        ("partitions_def", {"type": "daily"}, "type daily needs start_date"),
        ("partitions_def", {"type": "static"}, "type static needs partition_keys"),
        ("partitions_def", {**DAILY, "fmt": "%Y"}, "partitions_def.fmt: '%Y': type daily has"),
        ("partitions_def", {**DAILY, "start_date": "1.11.2026"}, "start_date '1.11.2026'"),
        ("partitions_def", {**DAILY, "start_date": "2026-13-01"}, "start_date '2026-13-01'"),
        ("partitions_def", {**DAILY, "timezone": "Mars/X"}, "timezone 'Mars/X'"),
        ("partitions_def", {"type": "yearly"}, "'hourly', 'daily', 'weekly'"),
        ("spending", {"prices_usd": {"a/x": "cheap"}}, "Spending.prices_usd.a/x: 'cheap'"),
        ("spending", {"budget_usd": {"day": 1}}, "'partition', 'window' or 'batch'"),
        ("spending", {"retries": 11}, "less than or equal to 10"),
        ("delivery", {"previews": 100}, "less than or equal to 24"),
        ("checks", {"failure_rate_warn": 2}, "less than or equal to 1"),
        ("checks", {"failure_rate_warn": 0.9}, "failure_rate_warn ≤ failure_rate_error"),
        ("checks", {"budget_usd_per_window": "much"}, "budget_usd_per_window: 'much'"),
        ("checks", {"failure_rate": 0.1}, "failure_rate"),
        ("checks", {"freshness": {"fail_after_hours": 1, "warn_after_hours": 2}}, "1.0"),
        ("checks", {"freshness": {}}, "one of fail_after_hours and deadline_cron is needed"),
        ("checks", {"freshness": {"deadline_cron": "daily"}}, "'daily' in 'UTC'"),
        ("execution", {"pool": {"sending": "x"}}, "'sending' is none of prepare, submit, collect"),
        ("execution", {"executor": "fast"}, "'fast' is none of in_process, multiprocess"),
        ("execution", {"backfill_policy": {"type": "all"}}, "single_run"),
        ("prompts", {"location": "a", "asset": "b"}, "location and asset are both given"),
        ("prompts", {}, "one of location (a path) and asset (a key) is needed"),
        ("prompts", {"location": "a", "columns": {"colour": "x"}}, "'colour' is no column of ours"),
        ("translation", {"colour": "red"}, "colour"),
        ("resource", {"root": "data", "api_key": "mak_x"}, "api_key"),
    ],
)
def test_wrong_yaml_names_field_value_and_what_is_allowed(field, value, message):
    """Whatever is wrong is refused when definitions load, in words that help."""
    assert message in _refusal({**ATTRIBUTES, field: value})


def test_wrong_yaml_is_found_by_line():
    """File and line stand with the field, however deep it is."""
    refusal = _refusal({**ATTRIBUTES, "delivery": {"files": {"concurrency": 300}}})
    assert "defs.yaml:" in refusal
    assert "concurrency" in refusal


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
        file.write_text(file.read_text().replace("# spending:", "spending:"))
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, _):
            caps = component.spending.budget_usd

    assert set(caps) == {"window", "batch"}


class TaggedComponent(MynthImagesComponent):
    """What a user may write."""

    def get_asset_spec(self, props):
        return super().get_asset_spec(props).replace_attributes(owners=["team:studio"])

    def execute(self, context, mynth):
        context.log.info(f"our own {context.op_execution_context.op_def.name}")
        yield from super().execute(context, mynth)


def test_subclass_changes_specs_and_bodies(project):
    """`get_asset_spec` and `execute` are the two places to override."""
    project.simulator.set_scenario(progress="immediate")
    component = TaggedComponent(
        name="shots",
        prompts=Prompts(location=str(project.folder / "prompts.parquet")),
        request=ImageRequest(models=["recraft/recraft-v4"]),
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
            "request": {"models": ["recraft/recraft-v4"]},
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
        def get_asset_spec(self, props):
            return super().get_asset_spec(props).replace_attributes(**changes)

    with pytest.raises(ConfigError, match="translation"):
        Broken(name="shots", prompts=Prompts(location="p.parquet"), fan_out=2).build_defs(None)


def test_every_group_of_settings_reaches_the_batch(tmp_path):
    """Checks, freshness, pools, owners, tags and runs are those of the YAML."""
    defs = _load(
        {
            **ATTRIBUTES,
            "delivery": {"previews": 12},
            "checks": {
                "failure_rate_warn": 0.2,
                "budget_usd_per_window": "25.00",
                "freshness": {"fail_after_hours": 30, "warn_after_hours": 26},
            },
            "execution": {
                "pool": {"submit": "paid"},
                "owners": ["team:studio"],
                "tags": {"tier": "gold"},
                "op_tags": {"cpu": "1"},
                "backfill_policy": {"type": "multi_run"},
            },
            "spending": {"prices_usd": {"a/x": "0.04", "b/y": 0.1}},
        }
    )

    specs = {spec.key.path[-1]: spec for assets in defs.assets for spec in assets.specs}
    assert specs["images"].freshness_policy.fail_window.to_timedelta().total_seconds() == 108_000
    assert specs["prompts"].freshness_policy is None
    assert {tuple(spec.owners) for spec in specs.values()} == {("team:studio",)}
    assert {spec.tags["tier"] for spec in specs.values()} == {"gold"}
    assert {assets.op.pool for assets in defs.assets} == {"paid", None}
    assert {assets.op.tags["cpu"] for assets in defs.assets} == {"1"}
    assert {a.backfill_policy.max_partitions_per_run for a in defs.assets} == {1}
    others = [*defs.jobs, *defs.sensors, *defs.schedules]
    assert {tuple(one.owners) for one in others} == {("team:studio",)}
    checks = {spec.name: spec for assets in defs.assets for spec in assets.check_specs}
    assert "more than 20%" in checks["failure_rate"].description
    assert "$25" in checks["within_budget"].description


def test_images_may_be_due_by_a_moment_of_the_day():
    """A cron expression makes Dagster's own policy of a deadline."""
    due = {"deadline_cron": "0 7 * * *", "lower_bound_hours": 6, "timezone": "Europe/Berlin"}
    defs = _load({**ATTRIBUTES, "checks": {"freshness": due}})

    specs = {spec.key.path[-1]: spec for assets in defs.assets for spec in assets.specs}
    policy = specs["images"].freshness_policy
    assert (policy.deadline_cron, policy.timezone) == ("0 7 * * *", "Europe/Berlin")


@pytest.mark.parametrize(
    ("written", "definition"),
    [
        (
            {"type": "hourly", "start_date": "2026-11-01-00:00"},
            dg.HourlyPartitionsDefinition("2026-11-01-00:00"),
        ),
        (
            {**DAILY, "timezone": "Europe/Berlin", "end_offset": 1},
            dg.DailyPartitionsDefinition("2026-11-01", timezone="Europe/Berlin", end_offset=1),
        ),
        (
            {"type": "weekly", "start_date": "2026-11-01", "day_offset": 1},
            dg.WeeklyPartitionsDefinition("2026-11-01", day_offset=1),
        ),
        (
            {"type": "monthly", "start_date": "2026-11-01"},
            dg.MonthlyPartitionsDefinition("2026-11-01"),
        ),
        (
            {
                "type": "time_window",
                "start_date": "2026-11-01",
                "fmt": "%Y-%m-%d",
                "cron_schedule": "0 0 * * 1-5",
            },
            dg.TimeWindowPartitionsDefinition(
                start="2026-11-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * 1-5"
            ),
        ),
        (
            {"type": "static", "partition_keys": ["de", "fr"]},
            dg.StaticPartitionsDefinition(["de", "fr"]),
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_partitions_are_written_in_dagsters_own_words(written, definition):
    """Each type makes the definition that Dagster's YAML makes of it."""
    (prepare, *_) = _load(
        {**ATTRIBUTES, "schedule": None, "fan_out": 1, "partitions_def": written}
    ).assets
    assert prepare.partitions_def == definition


def test_files_and_assets_can_be_sources():
    """`type: dynamic` makes a partition of each file; `asset` a dependency."""
    files = _load({"name": "drops", "prompts": "inbox/{window}.parquet", "partitions_def": FILES})
    fed = _load(
        {"name": "fed", "prompts": {"asset": "catalogue/products"}, "resource": {"root": "data"}}
    )

    (prepare, *_) = files.assets
    assert prepare.partitions_def == dg.DynamicPartitionsDefinition(name="drops_files")
    assert [sensor.name for sensor in files.sensors] == ["drops_completion", "drops_new_files"]
    catalogue = dg.Definitions(assets=[dg.AssetSpec(["catalogue", "products"])])
    graph = dg.Definitions.merge(fed, catalogue).resolve_asset_graph()
    parents = graph.get(dg.AssetKey(["fed", "prompts"])).parent_keys
    assert parents == {dg.AssetKey(["catalogue", "products"])}


def _scaffold(folder, *, scaffold_format="yaml", append=False, **params):
    request = dg.ScaffoldRequest(
        type_name="mynth_dagster.MynthImagesComponent",
        target_path=folder,
        scaffold_format=scaffold_format,
        project_root=None,
        params=MynthImagesParams(**params),
        append=append,
    )
    MynthImagesScaffolder().scaffold(request)


ASKED_FOR = {
    "name": "posters",
    "prompts": "s3://studio/{window}.parquet",
    "models": "a/x, b/y",
    "partitions": "weekly",
}


def test_options_of_the_scaffold_are_in_the_yaml(tmp_path):
    """Name, prompts, models and partitions as they were given; the rest stays commented."""
    _scaffold(tmp_path / "shots", **ASKED_FOR)
    written = yaml.safe_load((tmp_path / "shots" / "defs.yaml").read_text())["attributes"]

    assert (written["name"], written["prompts"]) == ("posters", "s3://studio/{window}.parquet")
    assert written["request"]["models"] == ["a/x", "b/y"]
    assert written["partitions_def"]["type"] == "weekly"
    component = MynthImagesComponent.resolve_from_dict(written)
    assert component.build_defs(None).resolve_job_def("posters_submit")


@pytest.mark.parametrize("partitions", ["none", "hourly", "daily", "weekly", "monthly"])
def test_scaffolded_python_makes_the_same_batch(tmp_path, partitions):
    """`--format python` writes a `component.py` that Dagster loads as it does the YAML."""
    for scaffold_format in ("yaml", "python"):
        _scaffold(
            tmp_path / "shots",
            scaffold_format=scaffold_format,
            **{**ASKED_FOR, "prompts": "p.parquet", "partitions": partitions},
        )
    written = yaml.safe_load((tmp_path / "shots" / "defs.yaml").read_text())["attributes"]
    module = {}
    exec((tmp_path / "shots" / "component.py").read_text(), module)
    from_python = module["load"](None).build_defs(None)
    from_yaml = MynthImagesComponent.resolve_from_dict(written).build_defs(None)

    def shape(defs):
        return {spec.key: spec.partitions_def for a in defs.assets for spec in a.specs}

    assert shape(from_python) == shape(from_yaml)


def test_second_component_is_appended_to_a_file(tmp_path):
    """A document of its own; what was there stays."""
    _scaffold(tmp_path / "shots")
    file = tmp_path / "shots" / "defs.yaml"
    first = file.read_text()
    _scaffold(file, append=True, name="others")

    assert file.read_text().startswith(first)
    names = [part["attributes"]["name"] for part in yaml.safe_load_all(file.read_text())]
    assert names == ["shots", "others"]


def test_catalogue_and_form_of_dagster_know_the_component():
    """What `dg list components` and the form in the UI show."""
    spec, schema = MynthImagesComponent.get_spec(), MynthImagesComponent.model().model_json_schema()

    assert "prompts in" in spec.description
    assert spec.tags
    assert spec.owners
    assert schema["properties"]["schedule"]["ui:widget"] == "cron"
    assert all("description" in field for field in schema["properties"].values())
    assert len(schema["properties"]) <= 12


def test_prices_of_the_kept_catalogue_are_shown_without_a_network(tmp_path):
    """Of the batch's own models, with the day; without a catalogue, or with rubbish, nothing."""
    attributes = {**ATTRIBUTES, "resource": {"root": str(tmp_path)}}

    def shown():
        specs = {spec.key.path[-1]: spec for a in _load(attributes).assets for spec in a.specs}
        found = specs["tasks"].metadata.get("mynth/prices")
        return found and found.value

    assert shown() is None
    models = {"a/x": CatalogModel("a/x", base_units=4_000_000), "other": CatalogModel("other")}
    write_catalogue(str(tmp_path), models, api_revision="2026-10", now_us=START_US)
    assert "| a/x | 0.04" in shown()
    assert "| b/y | not listed |" in shown()
    assert "other" not in shown()
    (tmp_path / "_catalogue.json").write_text("{")
    assert shown() is None


def test_python_and_yaml_components_of_equal_connections_load_together(tmp_path):
    """One resource stands for both, however each was written."""
    in_yaml = _load({**ATTRIBUTES, "resource": {"root": str(tmp_path)}})
    component = MynthImagesComponent(
        name="posters",
        prompts=Prompts(location="p.parquet"),
        resource=MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), root=str(tmp_path)),
    )

    both = dg.Definitions.merge(in_yaml, component.build_defs(None))
    dg.Definitions.validate_loadable(both)


def test_text_that_looks_like_a_number_stays_text(tmp_path, monkeypatch):
    """Keys, names and folders are what was written; only templates are rendered."""
    monkeypatch.chdir(tmp_path)
    defs = _load(
        {
            "name": "2024",
            "prompts": {"location": "1_000", "identity": "2026_11", "columns": {"prompt_id": "7"}},
            "partitions_def": {"type": "static", "partition_keys": ["2024", "2026_11", "1e3"]},
            "execution": {"tags": {"cost_centre": "4711"}},
            "resource": {"root": "2025"},
        }
    )

    specs = {spec.key.path[-1]: spec for assets in defs.assets for spec in assets.specs}
    assert set(specs) == {"prompts", "tasks", "images", "failures"}
    assert specs["prompts"].key.path[0] == "2024"
    assert specs["prompts"].partitions_def.get_partition_keys() == ["2024", "2026_11", "1e3"]
    assert specs["prompts"].tags["cost_centre"] == "4711"
    assert defs.resources["mynth"].root == "2025"
