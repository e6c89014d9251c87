"""One table from prompts to images in one go: the four phases, one after the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mynth_dagster.engine.account import require_may_generate
from mynth_dagster.engine.answers import SubmitCounts
from mynth_dagster.engine.asking import NOTHING_SPECIAL, Asking
from mynth_dagster.engine.collect import write_tables
from mynth_dagster.engine.download import FilesReport, keep_files
from mynth_dagster.engine.look import Looker, Waiting
from mynth_dagster.engine.meanwhile import submit_and_look
from mynth_dagster.engine.pipeline import collect, prepare
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.report import RunReport, build_report
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import StopSwitch, key_refused
from mynth_dagster.engine.survey import Survey, survey
from mynth_dagster.engine.wait import wait_until_settled
from mynth_dagster.errors import UnauthorizedError
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import ResultsSummary
from mynth_dagster.tables.source import PromptSource


@dataclass
class Progress:
    """
    Where a run is; written by the run, read by whoever shows it.

    Args:
        on_phase: Called with `prepare`, `submit`, `wait`, `collect` and, where files are kept,
            `download` as each begins.
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
    asking: Asking = NOTHING_SPECIAL,
    is_same_batch: bool = False,
) -> RunReport:
    """
    Check, price, send, wait and write; to be repeated as often as wanted.

    Ends when nothing is pending before its deadline, or when `stop` is cancelled. Whatever stops
    it after the first paid request, the tables show what is known by then.

    Args:
        is_same_batch: Somebody said that the source is the batch's own, wherever it lies now.

    Raises:
        UnauthorizedError: The key is refused from the start; nothing was sent.
        ConfigError: The key may not create tasks; nothing was sent.
        ConfirmationNeededError: Much would be paid again and nobody confirmed it.
    """
    slices = batch.slices(window)
    require_may_generate(await session.client.check_key())
    progress.on_phase("prepare")
    prepared = await prepare(session, batch, source, window=window, is_same_batch=is_same_batch)
    progress.on_prepared(prepared)
    quotes: list[Quote] = []
    submitter = f"command line {os.urandom(4).hex()}"
    for asked in (asking, *[NOTHING_SPECIAL] * batch.retries):
        progress.on_phase("submit")
        submitted, looker = await submit_and_look(
            session,
            batch,
            slices,
            submitter=submitter,
            stop=stop,
            asking=asked,
            counts=progress.counts,
            on_quote=progress.on_quote,
        )
        quotes.append(submitted.quote)
        results = await _results(session, batch, slices, stop, progress, looker)
        if stop.is_set or not await _has_retries(session, batch, slices):
            break
    files = await _files(session, batch, slices, stop, progress)
    newest = {report.summary.slice: report.results for report in files}
    results = [newest.get(summary.slice) or summary for summary in results]
    submitted = replace(submitted, stopped=stop.reason)
    receipt = await asyncio.to_thread(session.ledger.money.receipt, batch.ledger_name, slices)
    n_requests = session.client.n_requests
    report = build_report(
        submitted, quotes, results, n_requests=n_requests, receipt=receipt, files=files
    )
    notes = [note for summary in prepared for note in summary.notes]
    return replace(report, notes=tuple(dict.fromkeys([*notes, *report.notes])))


async def _files(
    session: Session, batch: Batch, slices: Sequence[Slice], stop: StopSwitch, progress: Progress
) -> list[FilesReport]:
    """The files of the images, where the batch keeps any."""
    if batch.files is None or stop.is_cancelled:
        return []
    progress.on_phase("download")
    return [await keep_files(session, batch, slice_, stop=stop) for slice_ in slices]


async def _has_retries(session: Session, batch: Batch, slices: Sequence[Slice]) -> bool:
    """Whether tasks failed that are asked for again by themselves."""
    if not batch.retries:
        return False
    return (await survey(session, batch, slices)).n_again > 0


async def _results(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    stop: StopSwitch,
    progress: Progress,
    looker: Looker,
) -> list[ResultsSummary]:
    try:
        progress.on_phase("wait")
        await wait_until_settled(
            session, batch, slices, stop=stop, on_round=progress.on_round, looker=looker
        )
        progress.on_phase("collect")
        return [summary async for summary in collect(session, batch, slices)]
    except UnauthorizedError as error:
        stop.set(key_refused(error))
        return [await write_tables(session, batch, slice_) for slice_ in slices]
