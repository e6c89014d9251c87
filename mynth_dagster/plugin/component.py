"""
`MynthImagesComponent`: a batch as ten lines of YAML.

It adds no behaviour: its fields are the arguments of `build_image_batch`, and `resource` is a
`MynthResource`.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.base import resolve_fields
from dagster.components.resolved.form_config import ComponentFormConfig, FormWidget
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypeAliasType

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch_settings import Checks, Delivery, ImageRequest, Prompts, Spending
from mynth_dagster.plugin.definitions import mynth_assets
from mynth_dagster.plugin.metadata import catalogue_metadata
from mynth_dagster.plugin.resource import MynthResource, shared_resource
from mynth_dagster.plugin.scaffolder import MynthImagesScaffolder
from mynth_dagster.plugin.settings import (
    Execution,
    Partitions,
    field_in_yaml,
    in_yaml,
    prompts_in_yaml,
)
from mynth_dagster.plugin.translator import MynthTableProps, MynthTranslator
from mynth_dagster.tables.catalogue import read_catalogue

# By an alias, since Dagster would take a pydantic class for one that YAML can write as it is.
_Request = TypeAliasType("_Request", ImageRequest)
_Prompts = TypeAliasType("_Prompts", Prompts)
_Spending = TypeAliasType("_Spending", Spending)
_Delivery = TypeAliasType("_Delivery", Delivery)
_Checks = TypeAliasType("_Checks", Checks)
_Execution = TypeAliasType("_Execution", Execution)
_Resource = TypeAliasType("_Resource", MynthResource)


@cache
def _resource_twin() -> Any:
    """Return the fields of a `MynthResource` that may stand in YAML: all but the key itself."""
    key = "Environment variable that holds the API key; the key itself never stands here."
    described = {
        name: (field.annotation, field.description or "", field.default)
        for name, field in MynthResource.model_fields.items()
        if name != "api_key"
    }
    described["api_key_env"] = (str, key, "MYNTH_API_KEY")
    fields: dict[str, Any] = {
        name: (Annotated[kind, field_in_yaml(kind, description)], default)
        for name, (kind, description, default) in described.items()
    }
    fields["root"] = fields["root"][0]  # which has no default
    return create_model("MynthResource", __base__=(dg.Model, dg.Resolvable), **fields)


def _resource(context: dg.ResolutionContext, model: BaseModel) -> MynthResource:
    fields = resolve_fields(model, _resource_twin(), context)
    return MynthResource(**{"api_key_env": "MYNTH_API_KEY", **fields})


_RESOURCE_IN_YAML = dg.Resolver(
    _resource,
    model_field_type=_resource_twin().model(),
    description="The connection to Mynth, and where tables and ledger lie. Left out: your own "
    "MynthResource under execution.resource_key is used.",
)
_PARTITIONS_IN_YAML = in_yaml(
    Partitions,
    "Windows of time, files or other keys, in the words of Dagster's own YAML. Left out: the batch "
    "has only its fan-out.",
)


def _translation_scope(props: MynthTableProps) -> Mapping[str, Any]:
    """Return the names that the templates of `translation` may use."""
    return {"batch": props.batch.name, "table": props.table, "props": props}


@dg.scaffold_with(MynthImagesScaffolder)
class MynthImagesComponent(dg.Component, dg.Model, dg.Resolvable):
    """A table of prompts in, tables of images and failures out."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    name: Annotated[
        str,
        field_in_yaml(
            str,
            "Prefix of the asset keys and name of their group.",
            ComponentFormConfig(placeholder="shots", id_source=True),
        ),
    ]
    prompts: Annotated[
        _Prompts,
        prompts_in_yaml(
            "Where the prompt rows come from: a path, or the fields of Prompts.",
            ComponentFormConfig(placeholder="prompts/{window}/*.parquet"),
        ),
    ]
    request: Annotated[
        _Request,
        in_yaml(ImageRequest, "What is asked of Mynth: models, sizes, counts, follow-ups."),
    ] = Field(default_factory=ImageRequest)
    partitions_def: Annotated[dg.PartitionsDefinition | Partitions | None, _PARTITIONS_IN_YAML] = (
        None
    )
    fan_out: Annotated[
        int | Literal["model"],
        dg.Resolver.default(
            description="In how many shards the rows of a window are partitioned, 1 to 1000; or "
            "model, for one partition per model."
        ),
    ] = 1
    spending: Annotated[
        _Spending, in_yaml(Spending, "Prices, caps, retries, what to do with unresolved rows.")
    ] = Field(default_factory=Spending)
    delivery: Annotated[
        _Delivery, in_yaml(Delivery, "How results are waited for, and what is kept of them.")
    ] = Field(default_factory=Delivery)
    checks: Annotated[
        _Checks, in_yaml(Checks, "What the checks allow before they warn or fail.")
    ] = Field(default_factory=Checks)
    schedule: Annotated[
        str | None,
        dg.Resolver.default(
            description="Cron expression, such as 30 1 * * *, for the last closed time window.",
            form_config=ComponentFormConfig(widget=FormWidget.CRON),
        ),
    ] = None
    execution: Annotated[
        _Execution, in_yaml(Execution, "Runs, pools, tags, processes, owners.")
    ] = Field(default_factory=Execution)
    translation: Annotated[
        Annotated[TranslationFn[MynthTableProps], TranslationFnResolver(_translation_scope)] | None,
        dg.Resolver.default(
            description="What the assets are called and belong to: key, key_prefix, group_name, "
            "tags, owners, kinds, description, automation_condition, as templates with "
            "{{ batch }}, {{ table }} and {{ spec }}."
        ),
    ] = None
    resource: Annotated[_Resource | None, _RESOURCE_IN_YAML] = None

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What Dagster's catalogue of components shows."""
        return dg.ComponentTypeSpec(
            description=cls.__doc__, owners=["team:mynth"], tags=["mynth", "images", "parquet"]
        )

    @classmethod
    def get_form_config(cls) -> ComponentFormConfig:
        """How Dagster's form for components calls it."""
        return ComponentFormConfig(label="Mynth images", editable=True)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the batch, and its resource if it is given."""
        partitions_def = self.partitions_def
        if isinstance(partitions_def, Partitions):
            partitions_def = partitions_def.definition(self.name)
        component = self

        class Translator(MynthTranslator):
            def get_asset_spec(self, props: MynthTableProps) -> dg.AssetSpec:
                return component.get_asset_spec(props)

        def body(context: dg.AssetExecutionContext, mynth: MynthResource) -> Iterator[Any]:
            yield from component.execute(context, mynth)

        assets = mynth_assets(
            self.name,
            prompts=self.prompts,
            request=self.request,
            partitions_def=partitions_def,
            fan_out=self.fan_out,
            spending=self.spending,
            delivery=self.delivery,
            checks=self.checks,
            schedule=self.schedule,
            execution=self.execution,
            translator=Translator(),
        )(body)
        self._require_own_resource_key(context)
        resources = {}
        if self.resource is not None:
            resources[self.execution.resource_key] = shared_resource(self.resource)
        return dg.Definitions.merge(assets.definitions, dg.Definitions(resources=resources))

    def get_asset_spec(self, props: MynthTableProps) -> dg.AssetSpec:
        """Override to change key, group, tags, owners or metadata of a table's asset."""
        spec = props.default_spec
        if props.table == "tasks":
            spec = spec.merge_attributes(metadata=self._prices())
        return self.translation(spec, props) if self.translation else spec

    def _prices(self) -> dict[str, Any]:
        """What `mynth-dagster catalogue` found of the batch's models; nothing asks a network."""
        root = None if self.resource is None else self.resource.root
        catalogue = read_catalogue(root) if root and "://" not in root else None
        return {} if catalogue is None else catalogue_metadata(catalogue, self.request.models)

    def execute(self, context: dg.AssetExecutionContext, mynth: MynthResource) -> Iterator[Any]:
        """Override to do something before or after a step, or with its results."""
        yield from mynth.run(context)

    def _require_own_resource_key(self, context: dg.ComponentLoadContext) -> None:
        """Refuse two connections under one key: Dagster's own message would not name the fields."""
        key = self.execution.resource_key
        tree = getattr(context, "component_tree", None)  # none where somebody builds it by hand
        for other in tree.get_all_components(MynthImagesComponent) if tree else ():
            mine, theirs = self.resource, other.resource
            if mine is None or theirs is None or other.execution.resource_key != key:
                continue
            fields = MynthResource.model_fields
            differing = [f for f in fields if getattr(mine, f, "") != getattr(theirs, f, "")]
            if differing:
                reason = (
                    f"{self.name} and {other.name} have {key!r} both, with another "
                    f"{', '.join(differing)}: give one of them a resource_key of its own"
                )
                raise ConfigError("execution.resource_key", reason)
