"""The jobs of a batch and its nightly schedule."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import dagster as dg

from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.plan import Retry
from mynth_dagster.engine.quote import quote_each
from mynth_dagster.engine.resolve import HeldRequest, attach, find_held, give_up, list_held
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopTarget, lift_stops, stop_sending, stops_of
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import ConfigError, LedgerUnavailableError, MynthError
from mynth_dagster.ledger import Ledger
from mynth_dagster.limits import TABLE_ROWS_MAX
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.money import format_usd
from mynth_dagster.plugin.batch_assets import FILES, BatchAssets
from mynth_dagster.plugin.failing import NOTHING_SENT, errors_as_failures
from mynth_dagster.plugin.metadata import as_table, as_text
from mynth_dagster.plugin.resource import MynthResource
from mynth_dagster.plugin.run_options import RUN_OPTIONS_CONFIG, run_options_from
from mynth_dagster.plugin.upstream_input import FittingAssets

_TABLES = {
    "submit": ("prompts", "tasks"),
    "collect": ("images", "failures"),
    "all": ("prompts", "tasks", "images", "failures"),
    "retry": ("prompts", "tasks"),
}
_DESCRIPTIONS = {
    "submit": "Checks the prompts and sends what is missing; the sensor collects. In the "
    "launchpad: `prompt_ids` limits it to some rows.",
    "collect": "Waits for tasks and writes images and failures; reads only, costs nothing. Keeps "
    "the images' files too, where the batch has `files`.",
    "all": "Checks, sends, waits and collects in one run, with files and follow-ups where "
    "the batch has them.",
    "follow_up": "Has the images rated, described or reviewed, as the batch says; a paid task for "
    "each image that was not asked about.",
    "retry": "Sends rows again that failed and may end otherwise, each paid for again. In the "
    "launchpad: `retry: failed` for all failed or refused rows, `retry: partial` for those that "
    "lack some images, `force: true` for every finished row, `prompt_ids` for some rows only.",
}


def job_name(batch: str, doing: str) -> str:
    """`<batch>_submit`, `<batch>_collect`, `<batch>_all`, `<batch>_retry`, `<batch>_follow_up`."""
    return f"{batch}_{doing}"


def build_jobs(assets: BatchAssets) -> list[Any]:
    """
    Build the jobs over assets: explicit keys, in one process.

    A process for each step costs seconds; the parallel work is inside the step.
    """
    name = assets.batch.name
    asked = {"ops": {f"{name}__submit": {"config": {"retry": Retry.RETRYABLE.value}}}}
    return [
        dg.define_asset_job(
            job_name(name, doing),
            selection=FittingAssets(assets, *tables),
            config=asked if doing == "retry" else None,
            executor_def=assets.execution.executor,
            description=_DESCRIPTIONS[doing],
            tags=dict(assets.execution.tags),
            owners=list(assets.execution.owners) or None,
        )
        for doing, tables in _tables(assets).items()
    ]


def _tables(assets: BatchAssets) -> dict[str, tuple[str, ...]]:
    """Return the tables that each job makes; files come with collections, if they are kept."""
    files = (FILES,) if FILES in assets.names else ()
    follow_ups = assets.follow_up_tables
    tables = dict(_TABLES)
    tables["collect"] += files
    tables["all"] += (*files, *follow_ups)
    return {**tables, "follow_up": follow_ups} if follow_ups else tables


def build_schedule(assets: BatchAssets, *, cron: str, phase: str) -> dg.ScheduleDefinition:
    """
    Build the schedule of the last closed window: one run over its whole fan-out, or one each.

    Raises:
        ConfigError: The batch has no time windows.
    """
    windows = assets.partitions.windows
    if not isinstance(windows, dg.TimeWindowPartitionsDefinition):
        raise ConfigError("schedule", "only a batch with time windows can be scheduled")
    name = job_name(assets.batch.name, phase)

    @dg.schedule(
        name=f"{assets.batch.name}_nightly",
        job_name=name,
        cron_schedule=cron,
        execution_timezone=windows.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Runs {name} for the last closed window.",
        owners=list(assets.execution.owners) or None,
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> Any:
        return _requests(assets, windows, context.scheduled_execution_time)

    return nightly


def _requests(
    assets: BatchAssets,
    windows: dg.TimeWindowPartitionsDefinition,
    now: datetime,
) -> Any:
    closed = windows.get_prev_partition_window(now)
    if closed is None:
        return dg.SkipReason("no window is closed yet")
    window = windows.get_partition_key_for_timestamp(closed.start.timestamp())
    slices = assets.batch.slices(window)
    if assets.execution.is_run_per_partition or len(slices) == 1:
        return [dg.RunRequest(run_key=s.key, partition_key=s.key) for s in slices]
    return dg.RunRequest(run_key=window, tags=assets.partitions.range_tags(slices))


# Operations that materialize nothing: a quote, the resolution of what is in doubt, and a stop.
#
# Annotations are real objects in this module (no postponed evaluation): Dagster reads them.


LIST, ATTACH, RESUBMIT, ABANDON = "list", "attach", "resubmit", "abandon"

SETTLE_CONFIG = {
    "action": dg.Field(
        dg.Enum("MynthResolve", [dg.EnumValue(a) for a in (LIST, ATTACH, RESUBMIT, ABANDON)]),
        default_value=LIST,
        description="list: show what is in doubt, change nothing. attach: it was the task in "
        "task_id, which is read and checked. resubmit: the next submission sends the row again, "
        "and it may then be paid twice. abandon: the row is not wanted any more.",
    ),
    "intent_ids": dg.Field(
        [str], default_value=[], description="int_…, as listed; one for attach."
    ),
    "task_id": dg.Field(
        str, default_value="", description="tsk_…, for attach: the task that it was."
    ),
}
"""The launchpad's fields of `<batch>__resolve`."""

STOP, RESUME = "stop", "resume"

STOP_CONFIG = {
    "action": dg.Field(
        dg.Enum("MynthStop", [dg.EnumValue(a) for a in (STOP, RESUME)]),
        default_value=STOP,
        description="stop: nothing more is sent. resume: lift the stop; what is left is sent by a "
        "run that the completion sensor starts, or by yours.",
    ),
    "partition": dg.Field(
        str, default_value="", description="Key of the only partition that is meant; empty: all."
    ),
    "reason": dg.Field(
        str, default_value="", description="Why; shown with the rows that are not sent."
    ),
}
"""The launchpad's fields of `<batch>__stop`."""


def build_operations(assets: BatchAssets) -> list[dg.JobDefinition]:
    """Build the jobs `<batch>_quote`, `<batch>_resolve` and `<batch>_stop`."""
    return [
        _job(
            assets,
            "quote",
            show_quote,
            RUN_OPTIONS_CONFIG,
            "A dry run: shows what `submit` would send of a partition and what it would reserve, "
            "with the same launchpad fields. Sends nothing and spends nothing; `prompts` must be "
            "there.",
            partitions_def=assets.partitions.definition,
        ),
        _job(
            assets,
            "resolve",
            resolve_in_doubt,
            SETTLE_CONFIG,
            "Lists the paid requests of this batch whose outcome is unknown, with their evidence "
            "and what they may have cost, or resolves them as the launchpad says.",
        ),
        _job(
            assets,
            "stop",
            stop_or_resume,
            STOP_CONFIG,
            "Has nothing more sent of this batch, or of one partition, by any run on any machine, "
            "until it is resumed: when it succeeds, no further row is claimed. Requests that have "
            "left are paid for, and recorded.",
        ),
    ]


_RERUN = "run this job again."

Operation = Callable[[dg.OpExecutionContext, MynthResource, BatchAssets], None]


def _job(
    assets: BatchAssets,
    doing: str,
    work: Operation,
    config: Any,
    description: str,
    *,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
) -> dg.JobDefinition:
    """Build a job of one operation, in the process of its run."""
    resource_key = assets.execution.resource_key

    @dg.op(
        name=f"{assets.batch.name}__{doing}",
        required_resource_keys={resource_key},
        config_schema=config,
    )
    def operation(context: dg.OpExecutionContext) -> None:
        with errors_as_failures(rerun=_RERUN):
            work(context, getattr(context.resources, resource_key), assets)

    @dg.job(
        name=assets.job_names[doing],
        partitions_def=partitions_def,
        executor_def=dg.in_process_executor,
        description=description,
        tags=dict(assets.execution.tags),
        owners=list(assets.execution.owners) or None,
    )
    def job() -> None:
        operation()

    return job


def stop_or_resume(
    context: dg.OpExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> None:
    """Stop or resume as the launchpad has it, and log what is stopped then."""
    config, name = context.op_config, assets.batch.ledger_name
    target, clock = StopTarget(name, config["partition"] or None), SystemClock()
    who = f"{context.run.tags.get('user', 'somebody')} by Dagster run {context.run.run_id[:8]}"

    async def work() -> list[str]:
        with closing(Ledger.open(mynth.engine_settings().ledger_url)) as ledger:
            if config["action"] == STOP:
                reason = config["reason"]
                await stop_sending(ledger, target, who=who, reason=reason, clock=clock)
            else:
                await lift_stops(ledger, target, who=who, clock=clock)
            return stops_of(ledger, name)

    with errors_as_failures(money=_changed([]), rerun=_RERUN):
        stopped = asyncio.run(work())
    for line in stopped:
        context.log.info(f"stopped: {line}")
    text = "\n\n".join(map(as_text, stopped)) or "nothing is stopped"
    context.add_output_metadata({"mynth/stopped": dg.MetadataValue.md(text)})


def show_quote(context: dg.OpExecutionContext, mynth: MynthResource, assets: BatchAssets) -> None:
    """Log and record what a submission of the run's partitions would do."""
    slices = assets.partitions.in_run(context)
    options = run_options_from(context.op_config)

    async def work(session: Session) -> list[tuple[str, ...]]:
        quotes = await quote_each(session, ImageWork(assets.batch), slices, options)
        return [
            (as_text(slice_.key), str(plan.n_to_send), format_usd(quote.total_units))
            for slice_, (plan, quote) in quotes.items()
        ]

    rows = mynth.in_session(work)
    heads = ("partition", "rows to send", "would reserve")
    context.add_output_metadata({"mynth/quote": dg.MetadataValue.md(as_table(heads, rows))})
    for partition, n_rows, price in rows:
        context.log.info(f"{partition}: {n_rows} rows would be sent, {price}")


def resolve_in_doubt(
    context: dg.OpExecutionContext, mynth: MynthResource, assets: BatchAssets
) -> None:
    """Resolve as the launchpad has it, then log what is still in doubt."""
    config, name = context.op_config, assets.batch.ledger_name

    done: list[str] = []

    async def work(session: Session) -> list[HeldRequest]:
        await _resolve(session, config, done)
        now_us = session.clock.now_us()
        return await asyncio.to_thread(list_held, session.ledger, name, now_us=now_us)

    with errors_as_failures(money=_changed(done), rerun=_RERUN):
        left = mynth.in_session(work)
    for line in done:
        context.log.info(line)
    context.add_output_metadata(
        {
            "mynth/in_doubt": len(left),
            "mynth/list": dg.MetadataValue.md(_in_doubt_table(left)),
        }
    )
    context.log.info(f"{len(left)} in doubt")


async def _resolve(session: Session, config: Any, done: list[str]) -> None:
    """Resolve one intent after the other, and note each in `done`."""
    action, intent_ids = config["action"], list(config["intent_ids"])
    if action == LIST:
        return
    if not intent_ids or (action == ATTACH and (len(intent_ids) > 1 or not config["task_id"])):
        needed = "one intent id and a task_id" if action == ATTACH else "intent_ids"
        raise ConfigError(action, f"needs {needed}")
    if action == ATTACH:
        message = await attach(session, intent_ids[0], config["task_id"])
        done.append(f"{intent_ids[0]}: {config['task_id']} {message.value}; collect to read it")
        return
    for intent_id in intent_ids:
        await asyncio.to_thread(find_held, session.ledger, intent_id)
    then = "the next submission sends it again" if action == RESUBMIT else "it is given up"
    for intent_id in intent_ids:
        await give_up(session.ledger, intent_id, resubmit=action == RESUBMIT)
        done.append(f"{intent_id}: {then}")


def _changed(done: Sequence[str]) -> Callable[[MynthError], str]:
    """Describe what a decision that failed has changed."""

    def describe(error: MynthError) -> str:
        rest = "Nothing else was changed." if done else "Nothing was changed."
        if isinstance(error, LedgerUnavailableError):
            rest = "Whether the ledger kept the last change is not known."
        return " ".join([NOTHING_SENT, *(f"{line}." for line in done), rest])

    return describe


def _in_doubt_table(left: list[HeldRequest]) -> str:
    rows = [
        (
            as_text(unresolved.intent.intent_id),
            unresolved.intent.state.value,
            as_text(Slice(unresolved.intent.row.window, unresolved.intent.fan_out).key),
            as_text(unresolved.intent.prompt_id),
            f"{unresolved.age_s / 60:.0f} min",
            format_usd(unresolved.exposure_units),
            as_text("; ".join(seen.detail or seen.outcome for seen in unresolved.evidence)),
        )
        for unresolved in left[:TABLE_ROWS_MAX]
    ]
    heads = ("intent", "state", "partition", "prompt id", "age", "may have cost", "evidence")
    n_left = len(left) - len(rows)
    return as_table(heads, rows) + (f"\n\nand {n_left} more" if n_left else "")
