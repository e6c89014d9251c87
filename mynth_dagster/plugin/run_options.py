"""The launchpad's options of a submission, and their fate in re-executions of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mynth_dagster.engine.plan import Retry, RunOptions, resume_options
from mynth_dagster.engine.session import Session

RUN_OPTIONS_CONFIG = {
    "retry": dg.Field(
        dg.Enum("MynthRetry", [dg.EnumValue(choice.value) for choice in Retry]),
        default_value=Retry.NONE.value,
        description="Finished rows to send again, each paid for again: retryable (failed, and "
        "may end otherwise), failed (all failed or refused), partial (also those of which some "
        "images failed).",
    ),
    "force": dg.Field(
        bool, default_value=False, description="Send every finished row again, delivered or not."
    ),
    "prompt_ids": dg.Field(
        [str], default_value=[], description="Send only these rows; empty: all that are missing."
    ),
    "confirm": dg.Field(
        bool, default_value=False, description="Yes, pay again for rows that were paid before."
    ),
}
"""The launchpad's fields of `<batch>__submit` and `<batch>__quote`."""


def run_options_from(config: Mapping[str, Any]) -> RunOptions:
    """Read the options of one run."""
    return RunOptions(
        retry=Retry(config["retry"]),
        force=config["force"],
        prompt_ids=frozenset(config["prompt_ids"]),
        confirm=config["confirm"],
    )


@dataclass(frozen=True)
class OptionsOfRun:
    """The options of a run, and the run that first had them."""

    options: RunOptions
    first_run_id: str

    @property
    def how_to_go_on(self) -> str:
        """What to add to a failure, if a run with the same configuration would pay again."""
        return GO_ON if self.options.pays_again else ""

    async def of(self, session: Session, ledger_name: str) -> RunOptions:
        """Return the options without the rows that earlier tries of the same run sent."""
        return await resume_options(session, ledger_name, self.options, self.first_run_id)


GO_ON = (
    " Re-execute this run to go on: rows that it sent again are left alone. A new run with "
    "the same configuration would pay for them again."
)


def options_of_run(context: dg.AssetExecutionContext) -> OptionsOfRun:
    """Read the launchpad's options of this run."""
    options = run_options_from(context.op_execution_context.op_config)
    return OptionsOfRun(options, _first_try(context.instance, context.run))


def _first_try(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return the first of the failed runs that this one goes on with."""
    while run.parent_run_id:
        parent = instance.get_run_by_id(run.parent_run_id)
        if parent is None:
            return run.root_run_id or run.parent_run_id
        if parent.is_success:
            break
        run = parent
    return run.run_id
