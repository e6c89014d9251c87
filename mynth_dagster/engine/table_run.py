"""One table from prompts to images in one go: the four phases, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mynth_dagster.engine.pipeline import SubmitReport, collect, prepare, submit
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.report import RunReport, build_report
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.engine.submit import SubmitCounts
from mynth_dagster.engine.survey import Survey
from mynth_dagster.engine.wait import Waiting, wait_until_settled
from mynth_dagster.models.batch import Batch
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.source import PromptSource


@dataclass
class Progress:
    """
    Where a run is; written by the run, read by whoever shows it.

    Args:
        on_phase: Called with `prepare`, `submit`, `wait` and `collect` as each begins.
        on_prepared: Called with what the prompts table holds.
        on_quote: Called before the first paid request.
        on_round: Called after each round of polling.
    """

    counts: SubmitCounts = field(default_factory=SubmitCounts)
    on_phase: Callable[[str], None] = lambda _: None
    on_prepared: Callable[[list[PromptsSummary]], None] = lambda _: None
    on_quote: Callable[[Survey, Quote], None] = lambda _, __: None
    on_round: Callable[[Waiting], None] = lambda _: None


async def run_table(
    session: Session,
    batch: Batch,
    source: PromptSource,
    *,
    window: str,
    stop: StopSwitch,
    progress: Progress,
) -> RunReport:
    """
    Check, price, send, wait and write; to be repeated as often as wanted.

    Ends when nothing is pending before its deadline, or when `stop` is set. Waiting starts while
    submission is still going on, so that early tasks are read early.
    """
    slices = batch.slices(window)
    await session.client.check_key()
    progress.on_phase("prepare")
    progress.on_prepared(await prepare(session, batch, source, window=window))
    progress.on_phase("submit")
    submitted = await _submit_and_wait(session, batch, window, stop, progress)
    progress.on_phase("collect")
    results = await collect(session, batch, slices)
    return build_report(submitted, results, n_requests=session.client.n_requests)


async def _submit_and_wait(
    session: Session, batch: Batch, window: str, stop: StopSwitch, progress: Progress
) -> SubmitReport:
    slices = batch.slices(window)
    submitted = await submit(
        session,
        batch,
        slices,
        submitter="command line",
        stop=stop,
        counts=progress.counts,
        on_quote=progress.on_quote,
    )
    progress.on_phase("wait")
    cancelled = stop if stop.reason and stop.reason.code == "cancelled" else StopSwitch()
    await wait_until_settled(session, batch, slices, stop=cancelled, on_round=progress.on_round)
    return submitted
