"""
The phases of a run, each of which can be repeated safely: prepare, submit, wait, collect.

The command line runs them one after the other; Dagster runs them as assets, on other machines
and days if need be. What a phase needs to know lies in the tables and the ledger.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.collect import collect_slice, write_tables
from mynth_dagster.engine.download import FilesReport, keep_files
from mynth_dagster.engine.events import process_events
from mynth_dagster.engine.lost_responses import (
    ALL_OPEN,
    NOTHING_RESOLVED,
    ResolveResult,
    expire_interrupted,
    resolve_unresolved,
)
from mynth_dagster.engine.plan import (
    DEFAULT_RUN_OPTIONS,
    NOTHING_AT_STAKE,
    Plan,
    RunOptions,
    Stake,
    build_plan,
    iter_submissions,
    require_confirmed,
)
from mynth_dagster.engine.quote import (
    Funds,
    Quote,
    budget_reason,
    build_quote,
    paid_again_units,
    require_prices,
    total_of,
)
from mynth_dagster.engine.reconcile import (
    PAUSE_STEP_S,
    Progress,
    Reconciler,
    wait_until_idle,
)
from mynth_dagster.engine.recover import mark_tables, require_right_ledger
from mynth_dagster.engine.session import Session, require_may_generate
from mynth_dagster.engine.stop import CANCELLED, CancelToken, StopReason, key_refused
from mynth_dagster.engine.submit import (
    Sender,
    SubmitCounts,
    Submitter,
    ask_offers,
    list_destinations,
)
from mynth_dagster.engine.uploads import InputUploads
from mynth_dagster.engine.work import ImageWork, Work
from mynth_dagster.errors import RunStoppedError, UnauthorizedError, name_some
from mynth_dagster.ledger import Stopped
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.money import NO_MONEY, Receipt, format_usd, units_from_usd, usd_from_units
from mynth_dagster.tables.columns import find_columns
from mynth_dagster.tables.images import open_image_store
from mynth_dagster.tables.manifest import require_same_source, write_source_mark
from mynth_dagster.tables.prompts import PromptsSummary, write_prompts
from mynth_dagster.tables.results import ResultsSummary
from mynth_dagster.tables.source import PromptSource
from mynth_dagster.tables.store import TableStore


@dataclass(frozen=True)
class SubmitReport:
    """
    What a submission found and did.

    `stopped` is None if every row that was to be sent reached the end of its delivery.
    """

    plan: Plan
    quote: Quote
    counts: SubmitCounts
    api_revision: str
    settled: ResolveResult = NOTHING_RESOLVED
    stopped: StopReason | None = None

    def require_all_sent(self, left: str) -> None:
        """
        Do nothing if every row was sent; ``left`` says how much was not.

        Raises:
            RunStoppedError: Why not, what was created, and what to do next.
        """
        if self.stopped is not None:
            raise RunStoppedError(
                self.stopped.code,
                f"{self.stopped.message} {self.counts.n_accepted} tasks were created; {left}",
                money=f"{format_usd(self.counts.reserved_units)} reserved by this run, nothing for "
                "the rows that are left.",
                next_step=self.stopped.next_step,
            )


async def prepare(
    session: Session,
    batch: Batch,
    source: PromptSource,
    *,
    window: str,
    wanted: Sequence[Slice] | None = None,
    is_same_batch: bool = False,
) -> list[PromptsSummary]:
    """
    Check the prompts of a window and write them, normalised, into its partitions.

    Spends nothing. Models are checked against the server's catalogue where it has one, and named
    destinations against the account's own, where the key may list them.

    Args:
        is_same_batch: A person confirms that the source is the batch's own, wherever it lies now.

    Raises:
        ConfigError: The batch has a model or default that does not exist, or its window was made
            from another source.
        TableError: The source is unusable; no partition was changed.
    """
    loop = asyncio.get_running_loop()
    store, whole_window = TableStore(session.settings.root, batch.name), batch.slice(window)
    if not is_same_batch:
        await asyncio.to_thread(require_same_source, store, whole_window, source)

    def announce(summaries: list[PromptsSummary]) -> None:
        write_source_mark(store, whole_window, source)
        asyncio.run_coroutine_threadsafe(_raise(session, batch, summaries), loop).result()

    found = await asyncio.to_thread(find_columns, source, batch.prompts.columns)
    names_storage = batch.request.destination is not None or "destination" in found.ours
    summaries = await asyncio.to_thread(
        write_prompts,
        source,
        batch=batch,
        window=window,
        limits=session.client.profile.LIMITS,
        store=store,
        wanted=wanted,
        offers=await ask_offers(session, with_destinations=names_storage),
        before_publishing=announce,
    )
    await _raise(session, batch, summaries)
    return summaries


async def _raise(session: Session, batch: Batch, summaries: Sequence[PromptsSummary]) -> None:
    """
    Raise the versions of partitions whose prompts change, so that their results are written again.

    Once before the rows are visible, so that a crash in between writes results once too often and
    never too seldom; and once after, since a collection in between may have shown the old rows.
    """
    changed = [summary.slice for summary in summaries if summary.is_changed]
    await session.ledger.bump_versions(batch.ledger_name, changed)


async def draft_quote(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> tuple[Plan, Quote]:
    """Plan and price a submission of these partitions; nothing is sent."""
    plan = await build_plan(session, work, slices, options)
    prices_usd = work.batch.spending.prices_usd
    quote = await build_quote(session.client, plan.samples, plan.n_requests, prices_usd)
    notes = await asyncio.to_thread(_from_table, session, work, plan)
    notes += await _missing_destinations(session, plan)
    return plan, replace(quote, notes=(*quote.notes, *notes)) if notes else quote


def _from_table(session: Session, work: Work, plan: Plan) -> list[str]:
    """Describe the columns of the prompt table that multiply the price."""
    store = TableStore(session.settings.root, work.batch.name)
    columns = {name for slice_ in plan.to_send_in for name in work.multiplied_by(store, slice_)}
    n_images = sum(kind.count * n for kind, n in plan.n_requests.items())
    models = {kind.model for kind in plan.n_requests}
    words = {"count": f"{n_images} images", "model": name_some(sorted(models))}
    return [f"{name} from the table: {words[name]}" for name in sorted(columns)]


async def _missing_destinations(session: Session, plan: Plan) -> list[str]:
    """Describe the destinations that rows to be sent name and the account does not have."""
    if not plan.destinations:
        return []
    known = await list_destinations(session)
    missing = sorted(plan.destinations - known) if known is not None else []
    return [
        f"the account has no destination {name!r}: Mynth will refuse the rows that name it"
        for name in missing
    ]


async def submit(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    *,
    submitter: str,
    stop: CancelToken,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
    counts: SubmitCounts | None = None,
    on_quote: Callable[[Plan, Quote], None] = lambda _, __: None,
) -> SubmitReport:
    """
    Send the rows that are missing in these partitions, and those that the options send again.

    Args:
        submitter: Names the run in the ledger while it sends.
        stop: Set it to end early; what is in flight is recorded.
        asking: What a person wants beyond what is missing.
        counts: Kept up to date while sending, to be shown as progress.
        on_quote: Called before the first paid request.

    Raises:
        UnauthorizedError: The key is refused; nothing was sent.
        ConfigError: The key may not create tasks, or files cannot be kept where they should be;
            nothing was sent.
        ConfirmationNeededError: Many rows would be paid for again, without a confirmation.
        PriceUnknownError: There is a budget and not every price is known; nothing was sent.
        AccountMismatchError: The key is another account's; nothing was sent.
        LedgerMismatchError: The tables know more than the ledger; nothing was sent.
        LedgerError: The ledger failed; everything that could be recorded is.
    """
    if work.batch.delivery.files is not None:
        open_image_store(work.batch.delivery.files.store or session.settings.root, work.batch.name)
    require_may_generate(await session.client.check_key())
    account = await session.account.number()
    await require_right_ledger(session, work)
    session.ledger.prepare_to_send(session.settings.journal_folder)
    counts, funds = counts or SubmitCounts(), Funds()
    windows = sorted({slice_.window for slice_ in slices})
    await session.ledger.open_partitions(work.ledger_name, slices, submitter)
    is_through = False
    try:
        await expire_interrupted(session, work.ledger_name, windows)
        await process_events(session, work)
        settled = await resolve_unresolved(session, work, slices, states=ALL_OPEN)
        plan, quote = await draft_quote(session, work, slices, options)
        await session.ledger.move_intents(plan.moved)
        on_quote(plan, quote)
        require_prices(work.budget, quote)
        await _require_confirmed(session, work, slices, options, plan, quote)
        uploads = InputUploads(session, account, counts.uploads)
        await uploads.make_ready(plan.files.values())
        for window in windows:
            of_window = [s for s in slices if s.window == window and plan.to_send_in[s]]
            sender = Submitter(
                session,
                work,
                window,
                quote,
                sender=Sender(account, submitter),
                stop=stop,
                funds=funds,
                counts=counts,
            )
            await sender.send_all(iter_submissions(session, work, of_window, uploads, options))
        reach(CrashPoint.SUBMITTED)
        is_through = True
    finally:
        if stop.is_cancelled:
            now = session.clock.instant()
            await session.ledger.stops.fence(submitter, CANCELLED.message, now)
        if is_through or stop.is_set:
            close = _close_for if not options.prompt_ids else _leave
            await _close(session, work, slices, stop, funds, counts, close)
        else:
            await session.ledger.release_partitions(work.ledger_name, slices)
        await mark_tables(session, work.batch)
    revision = session.client.profile.REVISION
    return SubmitReport(plan, quote, counts, revision, settled, stop.reason)


async def _require_confirmed(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    options: RunOptions,
    plan: Plan,
    quote: Quote,
) -> None:
    """
    Compare models and defaults with those of the last submission, and remember them.

    A run for some rows changes nothing for the others.
    """
    now, prefix = work.settings, f"settings:{work.ledger_name}:"
    before: dict[str, str] = {}
    for window in {slice_.window for slice_ in slices}:
        facts = await asyncio.to_thread(session.ledger.read.facts, f"{prefix}{window}")
        before.update({f"{window}{rest}": value for rest, value in facts.items()})
    changed = [slice_ for slice_ in slices if before.get(_place(slice_)) != now]
    limit_units = units_from_usd(work.batch.spending.confirm_above_usd)
    stake = Stake(paid_again_units(plan, quote), limit_units) if changed else NOTHING_AT_STAKE
    require_confirmed(options, plan.paid, quote.total_units, stake)
    for slice_ in changed if not options.prompt_ids else []:
        await session.ledger.set_meta(f"{prefix}{_place(slice_)}", now)


def _place(slice_: Slice) -> str:
    return f"{slice_.window}|{slice_.fan_out}"


async def collect(
    session: Session, batch: Batch, slices: Sequence[Slice], *, collector: str | None = None
) -> AsyncIterator[ResultsSummary]:
    """
    Bring the tables of these partitions up to date, one after the other; idempotent.

    Args:
        collector: The Dagster run that reports the tables.
    """
    await session.account.number()
    windows = sorted({slice_.window for slice_ in slices})
    await expire_interrupted(session, batch.ledger_name, windows)
    await process_events(session, ImageWork(batch))
    for slice_ in slices:
        yield await collect_slice(session, batch, slice_, collector)


async def _close(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    stop: CancelToken,
    funds: Funds,
    counts: SubmitCounts,
    close: Close,
) -> None:
    """Record that the run sends no more, and why, if it ended early."""
    for slice_, halted in stop.halted.items():
        await close(session, work, [slice_], halted)
    left = [slice_ for slice_ in slices if slice_ not in stop.halted]
    closed = [slice_ for slice_ in left if funds.is_closed(slice_.window, slice_.fan_out)]
    others = [slice_ for slice_ in left if slice_ not in closed]
    await close(session, work, others, stop.reason)
    if closed:
        rows = await asyncio.to_thread(session.ledger.read.partitions, work.ledger_name)
        reason = budget_reason(work.budget, rows, closed, counts.n_over_budget)
        await close(session, work, closed, reason)
        stop.set(reason)
    for halted in stop.halted.values():
        stop.set(halted)


Close = Callable[[Session, Work, Sequence[Slice], StopReason | None], Awaitable[None]]


async def _leave(
    session: Session, work: Work, slices: Sequence[Slice], _: StopReason | None
) -> None:
    """
    Record the end of a run for some rows without a statement about the others.

    The reason why those were not sent stays, and no run is requested because of this one's stop.
    """
    await session.ledger.release_partitions(work.ledger_name, slices)


async def _close_for(
    session: Session, work: Work, slices: Sequence[Slice], reason: StopReason | None
) -> None:
    at = session.clock.instant()
    stop = Stopped(reason.code, reason.message, at) if reason else None
    await session.ledger.close_partitions(work.ledger_name, slices, stop)


# The figures of a run as one value; whatever shows figures shows these.


@dataclass(frozen=True)
class RunReport:
    """
    The result of a run over a table. Money in units of 10⁻⁸ USD.

    Args:
        rows: Request rows (prompts × models), rejected ones included.
        images_asked: Images that valid rows ask for.
        images_missing: Those of them that are not there.
        images_beyond_asked: Images that rows got beyond their count; each is paid for.
        failures: Rows of the failure table by code.
        api_revision: The API revision that the server spoke.
        posts_sent: Paid requests of this run.
        requests: HTTP requests of this run, of every kind.
        quoted_units: The quotes of this run, first sending and retries together; None where
            a price was unknown.
        reserved_units: Reserved by this run's accepted requests, as far as known.
        receipt: The money of all the table's rows, over all runs.
        charged_units: Known charges of all the table's tasks, over all runs.
        files: Images whose file is kept; None: the batch keeps none.
        file_bytes: Of all kept files together.
        n_cost_unknown: Tasks that may have cost something which is not known yet.
        stopped: The code of the reason why the run ended early, if it did; `stop_message` and
            `stop_next_step` are its sentences.
    """

    rows: int
    images_asked: int
    images_missing: int
    images: int
    failures: dict[str, int]
    rows_by_status: dict[str, int]
    posts_sent: int
    accepted: int
    requests: int
    quoted_units: int | None
    quote_is_exact: bool
    reserved_units: int
    charged_units: int
    n_cost_unknown: int
    unresolved: int
    stalled: int
    pending: int
    withheld: int
    api_revision: str
    receipt: Receipt = NO_MONEY
    tables: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: int | None = None
    file_bytes: int = 0
    stopped: str | None = None
    stop_message: str | None = None
    stop_next_step: str | None = None
    images_beyond_asked: int = 0

    @property
    def is_accounted_for(self) -> bool:
        """Whether no row is still moving, unresolved, stalled or withheld."""
        open_rows = self.unresolved + self.stalled + self.pending + self.withheld
        return open_rows == 0 and self.stopped is None

    def to_json(self) -> dict[str, Any]:
        """For machines: plain JSON types, money as decimal strings in USD."""
        return {
            "rows": self.rows,
            "images_asked": self.images_asked,
            "images_missing": self.images_missing,
            "images": self.images,
            "images_beyond_asked": self.images_beyond_asked,
            "failures": self.failures,
            "rows_by_status": self.rows_by_status,
            "api_revision": self.api_revision,
            "posts_sent": self.posts_sent,
            "accepted": self.accepted,
            "requests": self.requests,
            "quoted_usd": usd(self.quoted_units),
            "quote_is_exact": self.quote_is_exact,
            "reserved_usd": usd(self.reserved_units),
            "charged_usd": usd(self.charged_units),
            "cost_unknown": self.n_cost_unknown,
            "unresolved": self.unresolved,
            "stalled": self.stalled,
            "pending": self.pending,
            "withheld": self.withheld,
            "receipt": receipt_json(self.receipt),
            "tables": self.tables,
            "notes": list(self.notes),
            "files": self.files,
            "file_bytes": self.file_bytes,
            "stopped": self.stopped,
            "stop_message": self.stop_message,
            "stop_next_step": self.stop_next_step,
        }


def build_report(
    submitted: SubmitReport,
    quotes: Sequence[Quote],
    results: Sequence[ResultsSummary],
    *,
    n_requests: int,
    receipt: Receipt = NO_MONEY,
    files: Sequence[FilesReport] = (),
) -> RunReport:
    """
    Add up the partitions of one run.

    ``submitted`` is its last submission, which has the counts of all; ``quotes`` are those of each.
    """
    stop = submitted.stopped
    statuses = _added(summary.rows_by_status for summary in results)
    return RunReport(
        rows=sum(summary.n_rows for summary in results),
        images_asked=sum(summary.n_images_asked for summary in results),
        images_missing=sum(summary.n_images_missing for summary in results),
        images=sum(summary.n_images for summary in results),
        images_beyond_asked=sum(summary.n_images_beyond_asked for summary in results),
        failures=dict(sorted(_added(summary.failures_by_code for summary in results).items())),
        rows_by_status=dict(sorted(statuses.items())),
        posts_sent=submitted.counts.n_posts,
        accepted=submitted.counts.n_accepted,
        requests=n_requests,
        quoted_units=total_of(quotes),
        quote_is_exact=all(quote.is_exact for quote in quotes),
        reserved_units=submitted.counts.reserved_units,
        charged_units=sum(summary.charged_units for summary in results),
        n_cost_unknown=sum(summary.n_cost_unknown for summary in results),
        unresolved=sum(summary.n_unresolved for summary in results),
        stalled=sum(summary.n_stalled for summary in results),
        pending=sum(summary.n_pending for summary in results),
        withheld=statuses["withheld"] + statuses["not_submitted"] + statuses["not_accepted"],
        api_revision=submitted.api_revision,
        receipt=receipt,
        tables=_tables(results),
        notes=tuple(dict.fromkeys(note for quote in quotes for note in quote.notes)),
        files=sum(report.summary.n_files for report in files) if files else None,
        file_bytes=sum(report.summary.n_bytes for report in files),
        stopped=stop.code if stop else None,
        stop_message=stop.message if stop else None,
        stop_next_step=stop.next_step if stop else None,
    )


def _added(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


def _tables(results: Sequence[ResultsSummary]) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for summary in results:
        for name, uri in summary.uris.items():
            tables.setdefault(name, []).append(uri)
    return tables


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """For machines: amounts as decimal strings in USD, counts as numbers."""
    return {
        name if name.startswith("n_") else f"{name}_usd": (
            value if name.startswith("n_") else usd(value)
        )
        for name, value in asdict(receipt).items()
    }


def usd(units: int | None) -> str | None:
    """An amount for machines: a decimal string in USD."""
    return None if units is None else f"{usd_from_units(units):f}"


# Sending in a run that also waits: finished tasks are read while other rows are sent.


async def submit_and_wait(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    *,
    submitter: str,
    stop: CancelToken,
    options: RunOptions,
    progress: RunProgress,
) -> SubmitReport:
    """
    Submit, then wait as `wait_until_idle` does; finished tasks are also read while sending.

    Raises:
        MynthError: As `submit`, where `progress.report` is None, or as `wait_until_idle`.
    """
    progress.report = None
    reconciler = Reconciler(session, work, slices)
    meanwhile = _Meanwhile(session, reconciler, stop)
    counts = progress.counts
    counts.on_accepted = meanwhile.start_if_due
    counts.before_more = meanwhile.catch_up
    progress.on_phase("submit")
    try:
        report = await submit(
            session,
            work,
            slices,
            submitter=submitter,
            stop=stop,
            options=options,
            counts=counts,
            on_quote=progress.on_quote,
        )
    except BaseException:
        await meanwhile.cancel()
        raise
    if stop.is_cancelled:
        await meanwhile.cancel()
    await meanwhile.end()
    progress.report = report
    progress.on_phase("wait")
    await wait_until_idle(
        session, work, slices, stop=stop, on_round=progress.on_round, reconciler=reconciler
    )
    return report


UNREAD_MAX = 2_000
"""
The most finished tasks that a pass may still have to read while more rows are sent.

If sending is faster than reading, unread tasks would grow with the table, and with them the memory
of each pass.
"""


class _Meanwhile:
    """The reconciler's passes while rows are sent, one at a time, each begun by a response."""

    def __init__(self, session: Session, reconciler: Reconciler, stop: CancelToken) -> None:
        self._clock = session.clock
        self._reconciler = reconciler
        self._stop = stop
        self._pass: asyncio.Task[object] | None = None

    def start_if_due(self) -> None:
        """Begin a pass after an accepted task, if the schedule says so."""
        now_s, schedule = self._clock.elapsed_s(), self._reconciler.schedule
        schedule.begin(now_s)
        if now_s >= schedule.next_at_s and not self._is_running and not self._has_failed:
            self._pass = asyncio.create_task(self._reconciler.run())

    async def catch_up(self) -> None:
        """Wait before more is sent until little is left to read."""
        while self._is_running and self._reconciler.n_reading > UNREAD_MAX:
            if self._stop.is_set:
                return
            assert self._pass is not None
            await asyncio.wait([self._pass], timeout=PAUSE_STEP_S)

    async def end(self) -> None:
        """Let the pass that is under way end; the next pass meets a refused key again."""
        if self._pass is not None:
            with suppress(UnauthorizedError):
                await self._pass

    async def cancel(self) -> None:
        """Cancel the pass; what was read is kept."""
        running, self._pass = self._pass, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @property
    def _is_running(self) -> bool:
        return self._pass is not None and not self._pass.done()

    @property
    def _has_failed(self) -> bool:
        """Whether the last pass failed: the wait that follows raises the error."""
        ended = None if self._is_running else self._pass
        return ended is not None and (ended.cancelled() or ended.exception() is not None)


# One table from prompts to images in one go: the four phases, one after the other.


@dataclass
class RunProgress:
    """
    The progress of a run: the run writes it, a display reads it.

    Args:
        on_phase: Called with `prepare`, `submit`, `wait`, `collect` and, where files are kept,
            `download` as each begins.
        on_prepared: Called with the summary of the prompts table.
        on_quote: Called before the first paid request.
        on_round: Called after each pass of the reconciler.
        report: Of the last submission, once it has ended.
    """

    counts: SubmitCounts = field(default_factory=SubmitCounts)
    on_phase: Callable[[str], None] = lambda _: None
    on_prepared: Callable[[list[PromptsSummary]], None] = lambda _: None
    on_quote: Callable[[Plan, Quote], None] = lambda _, __: None
    on_round: Callable[[Progress], None] = lambda _: None
    report: SubmitReport | None = None


async def run_table(
    session: Session,
    batch: Batch,
    source: PromptSource,
    *,
    window: str,
    stop: CancelToken,
    progress: RunProgress,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
    is_same_batch: bool = False,
) -> RunReport:
    """
    Check, price, send, wait and write; may be repeated at any time.

    Ends when nothing is pending before its deadline, or when `stop` is cancelled. Whatever stops
    it after the first paid request, the tables show what is known by then.

    Args:
        is_same_batch: A person confirms that the source is the batch's own, wherever it lies now.

    Raises:
        UnauthorizedError: The key is refused from the start; nothing was sent.
        ConfigError: The key may not create tasks, or files cannot be kept where they should be;
            nothing was sent.
        ConfirmationNeededError: Many rows would be paid for again, without a confirmation.
    """
    work, slices = ImageWork(batch), batch.slices(window)
    require_may_generate(await session.client.check_key())
    progress.on_phase("prepare")
    prepared = await prepare(session, batch, source, window=window, is_same_batch=is_same_batch)
    progress.on_prepared(prepared)
    quotes: list[Quote] = []
    submitter = f"command line {os.urandom(4).hex()}"
    for options_now in (options, *[DEFAULT_RUN_OPTIONS] * batch.spending.retries):
        try:
            submitted = await submit_and_wait(
                session,
                work,
                slices,
                submitter=submitter,
                stop=stop,
                options=options_now,
                progress=progress,
            )
        except UnauthorizedError as error:
            if progress.report is None:
                raise
            submitted = progress.report
            stop.set(key_refused(error))
        quotes.append(submitted.quote)
        progress.on_phase("collect")
        results = await _results(session, batch, slices, stop)
        if stop.is_set or not await _has_retries(session, work, slices):
            break
    files = await _files(session, batch, slices, stop, progress)
    newest = {report.summary.slice: report.results for report in files}
    results = [newest.get(summary.slice) or summary for summary in results]
    submitted = replace(submitted, stopped=stop.reason)
    receipt = await asyncio.to_thread(session.ledger.read.receipt, batch.ledger_name, slices)
    n_requests = session.client.n_requests
    report = build_report(
        submitted, quotes, results, n_requests=n_requests, receipt=receipt, files=files
    )
    notes = [note for summary in prepared for note in summary.notes]
    return replace(report, notes=tuple(dict.fromkeys([*notes, *report.notes])))


async def _files(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    stop: CancelToken,
    progress: RunProgress,
) -> list[FilesReport]:
    """The files of the images, where the batch keeps any."""
    if batch.delivery.files is None or stop.is_cancelled:
        return []
    progress.on_phase("download")
    return [await keep_files(session, batch, slice_, stop=stop) for slice_ in slices]


async def _has_retries(session: Session, work: Work, slices: Sequence[Slice]) -> bool:
    """Whether tasks failed that are sent again automatically."""
    if not work.retries:
        return False
    return (await build_plan(session, work, slices)).n_again > 0


async def _results(
    session: Session, batch: Batch, slices: Sequence[Slice], stop: CancelToken
) -> list[ResultsSummary]:
    try:
        return [summary async for summary in collect(session, batch, slices)]
    except UnauthorizedError as error:
        stop.set(key_refused(error))
        return [await write_tables(session, batch, slice_) for slice_ in slices]
