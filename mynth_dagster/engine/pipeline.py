"""
The phases of a run, each of which can be repeated safely: prepare, submit, wait, collect.

The command line runs them one after the other; Dagster runs them as assets, on other machines
and days if need be. What a phase needs to know lies in the tables and the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.account import require_may_generate
from mynth_dagster.engine.answers import SubmitCounts
from mynth_dagster.engine.asking import (
    NOTHING_AT_STAKE,
    NOTHING_SPECIAL,
    Asking,
    Stake,
    require_confirmed,
)
from mynth_dagster.engine.collect import collect_slice
from mynth_dagster.engine.funds import Funds, budget_reason, require_prices
from mynth_dagster.engine.guard import mark_tables, require_right_ledger
from mynth_dagster.engine.inbox import work_inbox
from mynth_dagster.engine.offers import ask_offers, list_destinations
from mynth_dagster.engine.quote import Quote, build_quote, paid_again_units
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.settle import (
    ALL_OPEN,
    NOTHING_SETTLED,
    Settled,
    expire_interrupted,
    settle,
)
from mynth_dagster.engine.stop import CANCELLED, StopReason, StopSwitch
from mynth_dagster.engine.submit import Sender, Submitter
from mynth_dagster.engine.survey import Survey, deliveries, survey
from mynth_dagster.engine.uploads import InputUploads
from mynth_dagster.errors import name_some
from mynth_dagster.ledger import Stopped
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.money import units_from_usd
from mynth_dagster.tables.columns import find_columns
from mynth_dagster.tables.manifest import require_same_source, write_source_mark
from mynth_dagster.tables.prompts import PromptsSummary, write_prompts
from mynth_dagster.tables.requests import said_by_table, settings_of
from mynth_dagster.tables.results import ResultsSummary
from mynth_dagster.tables.source import PromptSource
from mynth_dagster.tables.store import TableStore


@dataclass(frozen=True)
class SubmitReport:
    """
    What a submission found, told and did.

    `stopped` is None when every row that was to be sent was delivered to its end.
    """

    survey: Survey
    quote: Quote
    counts: SubmitCounts
    api_revision: str
    settled: Settled = NOTHING_SETTLED
    stopped: StopReason | None = None


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
        is_same_batch: Somebody said that the source is the batch's own, wherever it lies now.

    Raises:
        ConfigError: The batch asks for a model or default that does not exist, or its window was
            made from another source.
        TableError: The source is unusable; no partition was changed.
    """
    loop = asyncio.get_running_loop()
    store, whole_window = TableStore(session.settings.root, batch.name), batch.slice(window)
    if not is_same_batch:
        await asyncio.to_thread(require_same_source, store, whole_window, source)

    def announce(summaries: list[PromptsSummary]) -> None:
        write_source_mark(store, whole_window, source)
        asyncio.run_coroutine_threadsafe(_raise(session, batch, summaries), loop).result()

    found = await asyncio.to_thread(find_columns, source, batch.columns)
    names_storage = batch.defaults.destination is not None or "destination" in found.ours
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
    Changed prompts make the results of their partitions old.

    Before the rows are visible, so that a crash in between writes results once too often and never
    too seldom; and after, since a collection in between may have shown the rows before.
    """
    changed = [summary.slice for summary in summaries if summary.is_changed]
    await session.ledger.raise_partitions(batch.ledger_name, changed)


async def draft_quote(
    session: Session, batch: Batch, slices: Sequence[Slice], asking: Asking = NOTHING_SPECIAL
) -> tuple[Survey, Quote]:
    """What a submission of these partitions would send, and what it would reserve."""
    surveyed = await survey(session, batch, slices, asking)
    quote = await build_quote(
        session.client, surveyed.samples, surveyed.n_requests, batch.prices_usd
    )
    notes = await asyncio.to_thread(_from_table, session, batch, surveyed)
    notes += await _missing_destinations(session, surveyed)
    return surveyed, replace(quote, notes=(*quote.notes, *notes)) if notes else quote


def _from_table(session: Session, batch: Batch, surveyed: Survey) -> list[str]:
    """In words, where what multiplies money comes from, if it is from the prompt table."""
    if batch.inspection is not None:
        return []
    store = TableStore(session.settings.root, batch.name)
    said = {name for slice_ in surveyed.to_send_in for name in said_by_table(store, slice_)}
    n_images = sum(kind.count * n for kind, n in surveyed.n_requests.items())
    models = {kind.model for kind in surveyed.n_requests}
    words = {"count": f"{n_images} images", "model": name_some(sorted(models))}
    return [f"{name} from the table: {words[name]}" for name in sorted(said)]


async def _missing_destinations(session: Session, surveyed: Survey) -> list[str]:
    """In words, the destinations that rows to be sent name and the account does not have."""
    if not surveyed.destinations:
        return []
    known = await list_destinations(session)
    missing = sorted(surveyed.destinations - known) if known is not None else []
    return [
        f"the account has no destination {name!r}: Mynth will refuse the rows that name it"
        for name in missing
    ]


async def submit(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    *,
    submitter: str,
    stop: StopSwitch,
    asking: Asking = NOTHING_SPECIAL,
    counts: SubmitCounts | None = None,
    on_quote: Callable[[Survey, Quote], None] = lambda _, __: None,
) -> SubmitReport:
    """
    Send what is missing in these partitions and what a person asks for again, nothing else.

    Args:
        submitter: Names the run in the ledger while it sends.
        stop: Set it to end early; what is in flight is recorded.
        asking: What a person wants beyond what is missing.
        counts: Kept up to date while sending, to be shown as progress.
        on_quote: Called before the first paid request.

    Raises:
        UnauthorizedError: The key is refused; nothing was sent.
        ConfigError: The key may not create tasks; nothing was sent.
        ConfirmationNeededError: Much would be paid again and nobody confirmed it.
        PriceUnknownError: There is a budget and not every price is known; nothing was sent.
        AccountMismatchError: The key is another account's; nothing was sent.
        LedgerMismatchError: The tables know more than the ledger; nothing was sent.
        LedgerError: The ledger failed; what could be recorded was.
    """
    require_may_generate(await session.client.check_key())
    account = await session.account.number()
    await require_right_ledger(session, batch)
    session.ledger.prepare_to_send(session.settings.spool_folder)
    counts, funds = counts or SubmitCounts(), Funds()
    windows = sorted({slice_.window for slice_ in slices})
    await session.ledger.open_partitions(batch.ledger_name, slices, submitter)
    is_through = False
    try:
        await expire_interrupted(session, batch, windows)
        await work_inbox(session, batch)
        settled = await settle(session, batch, slices, states=ALL_OPEN)
        surveyed, quote = await draft_quote(session, batch, slices, asking)
        await session.ledger.move_intents(surveyed.moved)
        on_quote(surveyed, quote)
        require_prices(batch, quote)
        await _require_confirmed(session, batch, slices, asking, surveyed, quote)
        uploads = InputUploads(session, account, counts.uploads)
        await uploads.make_ready(surveyed.files.values())
        for window in windows:
            of_window = [s for s in slices if s.window == window and surveyed.to_send_in[s]]
            sender = Submitter(
                session,
                batch,
                window,
                quote,
                sender=Sender(account, submitter),
                stop=stop,
                funds=funds,
                counts=counts,
            )
            await sender.send_all(deliveries(session, batch, of_window, uploads, asking))
        reach(CrashPoint.SUBMITTED)
        is_through = True
    finally:
        if stop.is_cancelled:
            now = session.clock.instant()
            await session.ledger.stops.fence(submitter, CANCELLED.message, now)
        if is_through or stop.is_set:
            close = _close_for if not asking.prompt_ids else _leave
            await _close(session, batch, slices, stop, funds, counts, close)
        else:
            await session.ledger.leave_partitions(batch.ledger_name, slices)
        await mark_tables(session, batch)
    revision = session.client.profile.REVISION
    return SubmitReport(surveyed, quote, counts, revision, settled, stop.reason)


async def _require_confirmed(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    asking: Asking,
    surveyed: Survey,
    quote: Quote,
) -> None:
    """
    Compare models and defaults with those of the last submission, and remember them.

    A run for some rows leaves the others as they were asked for.
    """
    now, prefix = settings_of(batch), f"settings:{batch.ledger_name}:"
    before: dict[str, str] = {}
    for window in {slice_.window for slice_ in slices}:
        facts = await asyncio.to_thread(session.ledger.read.facts, f"{prefix}{window}")
        before.update({f"{window}{rest}": value for rest, value in facts.items()})
    changed = [slice_ for slice_ in slices if before.get(_place(slice_)) != now]
    limit_units = units_from_usd(batch.confirm_above_usd)
    stake = Stake(paid_again_units(surveyed, quote), limit_units) if changed else NOTHING_AT_STAKE
    require_confirmed(asking, surveyed.paid, quote.total_units, stake)
    for slice_ in changed if not asking.prompt_ids else []:
        await session.ledger.set_meta(f"{prefix}{_place(slice_)}", now)


def _place(slice_: Slice) -> str:
    return f"{slice_.window}|{slice_.fan_out}"


async def collect(
    session: Session, batch: Batch, slices: Sequence[Slice], *, collector: str | None = None
) -> AsyncIterator[ResultsSummary]:
    """
    Bring the tables of these partitions up to date, one after the other; idempotent.

    Args:
        collector: A run of Dagster's that has to tell so.
    """
    await session.account.number()
    windows = sorted({slice_.window for slice_ in slices})
    await expire_interrupted(session, batch, windows)
    await work_inbox(session, batch)
    for slice_ in slices:
        yield await collect_slice(session, batch, slice_, collector)


async def _close(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    stop: StopSwitch,
    funds: Funds,
    counts: SubmitCounts,
    close: Close,
) -> None:
    """Nobody sends any more; each partition is told why it was left, if it was left early."""
    for slice_, halted in stop.halted.items():
        await close(session, batch, [slice_], halted)
    left = [slice_ for slice_ in slices if slice_ not in stop.halted]
    closed = [slice_ for slice_ in left if funds.is_closed(slice_.window, slice_.fan_out)]
    others = [slice_ for slice_ in left if slice_ not in closed]
    await close(session, batch, others, stop.reason)
    if closed:
        rows = await asyncio.to_thread(session.ledger.read.partitions, batch.ledger_name)
        reason = budget_reason(batch, rows, closed, counts.n_over_budget)
        await close(session, batch, closed, reason)
        stop.set(reason)
    for halted in stop.halted.values():
        stop.set(halted)


Close = Callable[[Session, Batch, Sequence[Slice], StopReason | None], Awaitable[None]]


async def _leave(
    session: Session, batch: Batch, slices: Sequence[Slice], _: StopReason | None
) -> None:
    """
    A run for some rows says nothing of the others.

    Why those were not sent stays known, and nobody is asked to send them for what stopped it.
    """
    await session.ledger.leave_partitions(batch.ledger_name, slices)


async def _close_for(
    session: Session, batch: Batch, slices: Sequence[Slice], reason: StopReason | None
) -> None:
    at = session.clock.instant()
    stop = Stopped(reason.code, reason.message, at) if reason else None
    await session.ledger.close_partitions(batch.ledger_name, slices, stop)
