"""
The settings that Dagster alone knows, and the settings of a batch as fields of a `defs.yaml`.

Every field of a `defs.yaml` may be a template; its meaning, type and range come from the class that
Python uses.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import dagster as dg
from dagster.components.resolved.base import resolve_fields
from dagster.components.resolved.core_models import (
    MultiRunBackfillPolicyModel,
    SingleRunBackfillPolicyModel,
    resolve_backfill_policy,
)
from dagster.components.resolved.form_config import ComponentFormConfig
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.batch_settings import Freshness, Prompts, Settings
from mynth_dagster.models.request import KINDS_BY_TABLE, Rating

PHASES = {
    "prepare": ("prompts",),
    "submit": ("tasks",),
    "collect": ("images", "failures"),
    "download": ("files",),
    **{table: (table,) for table in KINDS_BY_TABLE},
}
"""The steps of a batch, and the tables that each materializes."""
DEFAULT_POOLS = {
    "submit": "mynth_submit",
    "collect": "mynth_collect",
    "download": "mynth_download",
}


class Execution(Settings):
    """How Dagster runs the work: runs, pools, tags, processes, owners."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    backfill_policy: dg.BackfillPolicy = Field(
        default=dg.BackfillPolicy.single_run(),
        description="`single_run`: one run for all partitions that are asked for together, which "
        "works on them in parallel; `multi_run`: a run for so many partitions each. The schedule "
        "follows it, too.",
    )
    pool: str | Mapping[str, str] | None = Field(
        default=None,
        description="One concurrency pool for all that talks to Mynth, or pools by step: `submit`, "
        "`collect`, `download`, `prepare`. Left out: `mynth_submit`, `mynth_collect` and "
        "`mynth_download`, which limit nothing until the instance gives them a limit.",
    )
    op_tags: Mapping[str, Any] = Field(
        default={}, description="Tags of the operations, such as `dagster-k8s/config`."
    )
    executor: dg.ExecutorDefinition = Field(
        default=dg.in_process_executor,
        description="Of the jobs: `in_process`, in which the steps of a run share one process, or "
        "`multiprocess`.",
    )
    owners: Sequence[str] = Field(
        default=(),
        description="Owners of assets, jobs, sensors and schedule: `team:studio`, an e-mail "
        "address.",
    )
    tags: Mapping[str, str] = Field(
        default={}, description="Tags of the assets and of the jobs' runs."
    )
    resource_key: str = Field(default="mynth", description="Key of the `MynthResource`.")

    @field_validator("pool")
    @classmethod
    def _known_steps(cls, pool: str | Mapping[str, str] | None) -> str | Mapping[str, str] | None:
        unknown = sorted(set(pool) - set(PHASES)) if isinstance(pool, Mapping) else []
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(PHASES)}")
        return pool

    def pool_of(self, phase: str) -> str | None:
        """The concurrency pool of a step."""
        if isinstance(self.pool, str):
            return None if phase == "prepare" else self.pool
        return (DEFAULT_POOLS if self.pool is None else self.pool).get(phase)

    @property
    def is_run_per_partition(self) -> bool:
        return self.backfill_policy.max_partitions_per_run == 1


def freshness_policy(freshness: Freshness | None) -> dg.FreshnessPolicy | None:
    """
    Make Dagster's policy.

    Raises:
        ConfigError: The cron expression or its time zone is none.
    """
    if freshness is None:
        return None
    if freshness.fail_after_hours is not None:
        warn = freshness.warn_after_hours
        return dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=freshness.fail_after_hours),
            warn_window=None if warn is None else timedelta(hours=warn),
        )
    assert freshness.deadline_cron is not None
    try:
        return dg.FreshnessPolicy.cron(
            deadline_cron=freshness.deadline_cron,
            lower_bound_delta=timedelta(hours=freshness.lower_bound_hours),
            timezone=freshness.timezone,
        )
    except Exception as error:  # noqa: BLE001 - whatever Dagster finds wrong
        reason = f"{freshness.deadline_cron!r} in {freshness.timezone!r}: {error}"
        raise ConfigError("checks.freshness", reason) from None


# Settings as fields of YAML: the same class, with types that YAML can write.


def in_yaml(settings: type[Settings], description: str) -> dg.Resolver:
    """Return what makes a field of YAML out of a class of settings."""
    twin = _twin(settings)
    return dg.Resolver(
        twin.resolve_from_model, model_field_type=twin.model(), description=description
    )


class _Twin(dg.Model, dg.Resolvable):
    """A class of settings as YAML writes it; resolved, it is the class itself."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    settings: ClassVar[type[Settings]]

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Settings:
        return cls.settings(**resolve_fields(model, cls, context))


def render(context: dg.ResolutionContext, value: Any) -> Any:
    """
    Render the templates in a value.

    Text without a template stays as it is: Dagster would make a number of "2024" or "1_000".
    """
    if isinstance(value, str):
        return context.resolve_value(value) if "{{" in value or "{%" in value else value
    if isinstance(value, Mapping):
        return {key: render(context.at_path(key), part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [render(context.at_path(index), part) for index, part in enumerate(value)]
    return value


def field_in_yaml(written: Any, description: str, form: ComponentFormConfig | None = None) -> Any:
    """Return what makes a plain field of YAML, of this type or a template."""
    return dg.Resolver(
        render,
        model_field_type=written,
        description=description,
        form_config=form,
        inject_before_resolve=False,
    )


@cache
def _twin(settings: type[Settings]) -> type[_Twin]:
    fields: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        annotation = _written(field.rebuild_annotation())
        if not _mentions(annotation, _Twin):
            resolver = _OWN_RESOLVERS.get((settings.__name__, name))
            # A constraint is within the type: beside it, it would be applied to templates, too.
            resolver = resolver or field_in_yaml(annotation, field.description or "")
            annotation = Annotated[field.annotation, resolver]
        fields[name] = (annotation, Field(default=field.default, description=field.description))
    twin = create_model(
        settings.__name__, __base__=_Twin, __module__=__name__, __doc__=settings.__doc__, **fields
    )
    twin.settings = settings
    return twin


def _written(annotation: Any) -> Any:
    """Return the type of what stands in YAML for a value of this type."""
    by_type = {Decimal: float | str, Rating: bool | Rating}
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return _twin(annotation)
    if annotation in by_type or origin is Literal or not args:
        return by_type.get(annotation, annotation)
    if origin is Annotated:
        written = _written(args[0])
        return annotation if written == args[0] else written
    written = tuple(_written(arg) for arg in args)
    if origin in (Union, UnionType):
        return reduce(or_, written)
    return dict[written] if len(args) == 2 else Sequence[written[0]]  # type: ignore[misc, valid-type]


def _mentions(annotation: Any, *types: type) -> bool:
    """Whether one of these types, or a subclass, is anywhere in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, types):
        return True
    return any(_mentions(arg, *types) for arg in get_args(annotation))


def prompts_in_yaml(description: str, form: ComponentFormConfig) -> dg.Resolver:
    """Return what makes `Prompts` of a path, or of its fields."""
    twin = _twin(Prompts)

    def resolve(context: dg.ResolutionContext, written: Any) -> Prompts:
        if isinstance(written, str):
            return Prompts(location=render(context, written))
        prompts = twin.resolve_from_model(context, written)
        assert isinstance(prompts, Prompts)
        return prompts

    written = str | twin.model()
    return dg.Resolver(
        resolve,
        model_field_type=written,
        description=description,
        form_config=form,
        inject_before_resolve=False,
    )


def _executor(_: dg.ResolutionContext, name: str) -> dg.ExecutorDefinition:
    by_name = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}
    if name not in by_name:
        raise ConfigError("execution.executor", f"{name!r} is none of {', '.join(by_name)}")
    return by_name[name]


_OWN_RESOLVERS = {
    ("Execution", "backfill_policy"): dg.Resolver(
        resolve_backfill_policy,
        model_field_type=SingleRunBackfillPolicyModel | MultiRunBackfillPolicyModel,
    ),
    ("Execution", "executor"): dg.Resolver(
        _executor,
        model_field_type=Literal["in_process", "multiprocess"],  # type: ignore[arg-type]
    ),
}


# Partitions as Dagster's own YAML writes them, with two more of its definitions.


class Partitions(Settings):
    """The windows of a batch, in the words of Dagster's own `partitions_def`."""

    type: Literal["hourly", "daily", "weekly", "monthly", "time_window", "static", "dynamic"] = (
        Field(
            description="A time window; `static`: keys of your own; `dynamic`: one partition for "
            "each file that appears, where `prompts` is a path such as `inbox/{window}.parquet`."
        )
    )
    start_date: str | None = Field(
        default=None, description="First window of a time type, such as 2026-11-01."
    )
    end_date: str | None = Field(default=None, description="Where the windows end.")
    timezone: str | None = Field(default=None, description="IANA name; left out: UTC.")
    minute_offset: int | None = Field(default=None, description="Minute at which a window begins.")
    hour_offset: int | None = Field(
        default=None, description="Hour at which a day, week or month begins."
    )
    day_offset: int | None = Field(default=None, description="Day at which a week or month begins.")
    end_offset: int | None = Field(
        default=None, description="1: the window that is going on now is a partition already."
    )
    fmt: str | None = Field(default=None, description="Of `time_window`: format of the keys.")
    cron_schedule: str | None = Field(
        default=None, description="Of `time_window`: when windows begin."
    )
    partition_keys: Sequence[str] | None = Field(default=None, description="The keys of `static`.")
    name: str | None = Field(
        default=None, description="Of `dynamic`: the name of the set; left out: `<batch>_files`."
    )

    def definition(self, batch: str) -> dg.PartitionsDefinition[Any]:
        """
        Make Dagster's definition.

        Raises:
            ConfigError: A field is missing, is none of this type, or has no sense.
        """
        make, takes, needs = _PARTITIONS[self.type]
        given = {
            name: value
            for name, value in self.model_dump(exclude={"type"}).items()
            if value is not None
        }
        for name in needs:
            if name not in given:
                reason = f"type {self.type} needs {name}"
                raise ConfigError(f"partitions_def.{name}", reason)
        for name, value in given.items():
            if name not in takes:
                reason = f"{value!r}: type {self.type} has {', '.join(takes)}"
                raise ConfigError(f"partitions_def.{name}", reason)
        if self.type == "static":
            given["partition_keys"] = list(
                given["partition_keys"]
            )  # as Dagster's own YAML gives them
        elif self.type == "dynamic":
            given.setdefault("name", f"{batch}_files")
        elif self.type == "time_window":
            given["start"], given["end"] = given.pop("start_date"), given.pop("end_date", None)
        try:
            return make(**given)
        except Exception as error:  # noqa: BLE001 - whatever Dagster or its calendar finds wrong
            what = ", ".join(f"{name} {value!r}" for name, value in given.items())
            raise ConfigError("partitions_def", f"{what}: {error}") from None


_OF_TIME = ("start_date", "end_date", "timezone", "minute_offset")
_OF_DAYS = (*_OF_TIME, "hour_offset", "end_offset")
_PARTITIONS: Mapping[
    str, tuple[Callable[..., dg.PartitionsDefinition[Any]], Sequence[str], Sequence[str]]
] = {
    "hourly": (dg.HourlyPartitionsDefinition, (*_OF_TIME, "end_offset"), ("start_date",)),
    "daily": (dg.DailyPartitionsDefinition, _OF_DAYS, ("start_date",)),
    "weekly": (dg.WeeklyPartitionsDefinition, (*_OF_DAYS, "day_offset"), ("start_date",)),
    "monthly": (dg.MonthlyPartitionsDefinition, (*_OF_DAYS, "day_offset"), ("start_date",)),
    "time_window": (
        dg.TimeWindowPartitionsDefinition,
        ("start_date", "end_date", "timezone", "fmt", "cron_schedule", "end_offset"),
        ("start_date", "fmt", "cron_schedule"),
    ),
    "static": (dg.StaticPartitionsDefinition, ("partition_keys",), ("partition_keys",)),
    "dynamic": (dg.DynamicPartitionsDefinition, ("name",), ()),
}
"""By type: Dagster's class, the fields that it takes, and those that it needs."""
