"""`@mynth_assets` and `MynthTranslator`: bodies and specs of the user's own."""

from __future__ import annotations

import dagster as dg
import pytest

from mynth_dagster import (
    Execution,
    MynthAssets,
    MynthResource,
    MynthTranslator,
    Prompts,
    build_image_batch,
    mynth_assets,
)
from mynth_dagster.errors import ConfigError

ONE = {"partitions_def": None, "fan_out": 1}


class Notes(dg.ConfigurableResource):
    """A resource beside ours."""

    channel: str


def test_body_runs_around_the_work_of_each_step(instant):
    """Once for each step of the job, with what the work yields in its hands."""
    steps, results = [], []

    def body(context, mynth):
        steps.append(context.op_execution_context.op_def.name)
        for result in mynth.run(context):
            results.append(result)
            yield result

    assert instant.execute("all", defs=instant.definitions(**ONE, body=body)).success

    assert steps == ["shots__prepare", "shots__submit", "shots__collect"]
    tables = [r.asset_key.path[-1] for r in results if isinstance(r, dg.MaterializeResult)]
    assert tables == ["prompts", "tasks", "images", "failures"]


def test_body_may_add_metadata(instant):
    """What is merged into a result is shown with the figures of the work."""

    def body(context, mynth):
        for result in mynth.run(context):
            yield result._replace(metadata={**result.metadata, "studio/ticket": "A-1"})

    result = instant.execute("all", defs=instant.definitions(**ONE, body=body))

    shown = [event.materialization.metadata for event in result.get_asset_materialization_events()]
    assert {metadata["studio/ticket"].value for metadata in shown} == {"A-1"}
    assert all("dagster/row_count" in metadata for metadata in shown)


def test_body_may_skip_a_step(instant):
    """A body that yields nothing materializes nothing, and what needs it is skipped too."""

    def body(context, mynth):
        if "submit" not in context.op_execution_context.op_def.name:
            yield from mynth.run(context)

    result = instant.execute("all", defs=instant.definitions(**ONE, body=body))

    assert result.success
    keys = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert keys == {"prompts"}
    assert instant.n_accepted == 0


def test_body_hears_of_a_failure_once_what_is_done_is_recorded(project):
    """Somebody can be notified; the run fails with the words of the work."""
    project.simulator.set_scenario(
        faults=[{"route": "POST /image/generate", "kind": "status", "status": 402}]
    )
    heard = []

    def body(context, mynth):
        try:
            yield from mynth.run(context)
        except dg.Failure as failure:
            heard.append(failure.description)
            raise

    result = project.execute("submit", defs=project.definitions(**ONE, body=body))

    assert not result.success
    assert "Money: " in heard[0]
    assert "Next: " in heard[0]


def test_body_gets_further_resources_by_their_names(instant):
    """As any asset of Dagster does."""
    channels = []

    def body(context, mynth, notes: Notes):
        channels.append(notes.channel)
        yield from mynth.run(context)

    batch = instant.definitions(**ONE, body=body)
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"notes": Notes(channel="#shots")}))

    assert instant.execute("submit", defs=defs).success
    assert channels == ["#shots"] * 2


def test_body_without_room_for_the_resource_is_refused():
    """By its name, when it is decorated."""
    with pytest.raises(ConfigError, match=r"alone needs two parameters, \(context, mynth\)"):

        @mynth_assets("shots", prompts="p.parquet")
        def alone(context):
            yield from ()


def test_decorated_assets_are_a_list_with_everything_else_beside(instant):
    """The list is for one's own `Definitions`; `definitions` are those of `build_image_batch`."""

    @mynth_assets("shots", prompts=Prompts(location="p.parquet"), execution=Execution())
    def shots(context, mynth):
        yield from mynth.run(context)

    plain = build_image_batch("shots", prompts="p.parquet")
    assert isinstance(shots, MynthAssets)
    own = dg.Definitions(assets=shots, resources={"mynth": instant.resource})
    names = {spec.key.path[-1] for spec in own.resolve_all_asset_specs()}
    assert names == {"prompts", "tasks", "images", "failures"}
    for kind in ("jobs", "sensors"):
        made, expected = (
            {one.name for one in getattr(defs, kind)} for defs in (shots.definitions, plain)
        )
        assert made == expected


def test_run_outside_of_a_body_says_what_to_call_instead(tmp_path):
    """An asset of one's own has a table at hand and not a step."""
    mynth = MynthResource(api_key="mak_x", root=str(tmp_path))
    with pytest.raises(ConfigError, match="elsewhere call quote, submit, wait and collect"):
        next(mynth.run(dg.build_asset_context()))


class InStudio(MynthTranslator):
    """Keys, groups and owners of one's own."""

    def get_asset_spec(self, props):
        spec = super().get_asset_spec(props)
        return spec.replace_attributes(
            key=["studio", f"{props.batch.name}_{props.table}"],
            owners=["team:studio"],
            metadata={**spec.metadata, "models": ", ".join(props.batch.request.models)},
        )


def test_translator_is_followed_everywhere(instant):
    """Dependencies, jobs, checks and records go where the translator puts the assets."""
    defs = instant.definitions(**ONE, translator=InStudio())

    assert instant.execute("all", defs=defs).success

    graph = defs.resolve_asset_graph()
    images = graph.get(dg.AssetKey(["studio", "shots_images"]))
    assert images.parent_keys == {dg.AssetKey(["studio", "shots_tasks"])}
    assert images.owners == ["team:studio"]
    assert "flux" in images.metadata["models"]
    records = instant.instance.fetch_materializations(images.key, limit=10).records
    assert records[0].asset_materialization.metadata["dagster/row_count"].value == 12
