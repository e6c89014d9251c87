"""
The plan of a run: the prompt table minus the ledger, computed again by each run.

A row is sent if no generation of it has the content that it has now, if its delivery rests in a
state from which it may be tried again, or if a person resubmits it. Every other row waits, is done,
or is held for evidence.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.uploads import InputUploads
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import ConfirmationNeededError
from mynth_dagster.limits import (
    AUTO_RESUBMIT_GUARD_ROWS,
    AUTO_RESUBMIT_GUARD_SHARE,
    UPLOADS_AHEAD_MAX,
)
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import is_retryable
from mynth_dagster.models.intent import Intent, choose_current
from mynth_dagster.models.money import format_usd
from mynth_dagster.models.request import InputImage, PaidRequest, RowRequest
from mynth_dagster.models.transitions import FINAL, HELD, RESUBMIT, SENDABLE, IntentState
from mynth_dagster.tables.inputs import BadInput
from mynth_dagster.tables.requests import PlannedBatch, PlannedRow
from mynth_dagster.tables.store import TableStore

# What a run sends beyond what is missing, and when that needs a confirmation. Pure.


CONFIRM = "confirm it (`--confirm`, or `confirm: true` in the run's configuration)."


class Retry(str, Enum):
    """Which finished rows are sent again, as a new generation that is paid for."""

    NONE = "none"
    RETRYABLE = "retryable"
    FAILED = "failed"
    PARTIAL = "partial"


@dataclass(frozen=True)
class RunOptions:
    """
    What one run sends beyond the rows that are missing, and which rows it leaves out.

    Args:
        retry: `retryable` (failed or refused, and may end otherwise), `failed` (all failed and
            refused rows), `partial` (also rows of which some images failed).
        force: Send every finished row again, delivered or not.
        prompt_ids: Only rows with these ids are sent at all; empty means every row.
        confirm: The run may pay again for a large part of a partition.
        begun_at_us: When the first try of this run began, by the ledger's clock: rows claimed at or
            after it are left alone. None: the run has no earlier try.
    """

    retry: Retry = Retry.NONE
    force: bool = False
    prompt_ids: frozenset[str] = frozenset()
    confirm: bool = False
    begun_at_us: int | None = None

    @property
    def pays_again(self) -> bool:
        """Whether finished rows are sent again, so that a repetition would pay once more."""
        return self.force or self.retry is not Retry.NONE

    @property
    def is_special(self) -> bool:
        """Whether delivered rows may be sent again, or some rows are left out."""
        return self.force or bool(self.prompt_ids)

    def covers(self, prompt_id: str) -> bool:
        """Whether the run is for this row."""
        return not self.prompt_ids or prompt_id in self.prompt_ids

    def wants_again(self, intent: Intent) -> bool:
        """Whether a finished row is to be sent again."""
        if intent.state not in FINAL or self._was_sent_since(intent):
            return False
        if self.force:
            return True
        if intent.state is IntentState.COMPLETED or self.retry is Retry.NONE:
            return False
        if intent.state is IntentState.PARTIAL:
            return self.retry is Retry.PARTIAL
        return self.retry is not Retry.RETRYABLE or is_retryable(intent)

    def _was_sent_since(self, intent: Intent) -> bool:
        return self.begun_at_us is not None and intent.claimed_at_us >= self.begun_at_us


DEFAULT_RUN_OPTIONS = RunOptions()


@dataclass
class PaidAgain:
    """
    How much of one partition would be paid for again.

    `n_paid` rows have a task; `n_again` of them would be sent again; `n_present` of them are in
    the prompt table; `n_new` rows to send were never sent under their key.
    """

    n_paid: int = 0
    n_again: int = 0
    n_present: int = 0
    n_new: int = 0

    @property
    def n_suspect(self) -> int:
        """Rows paid again: sent again, or gone while as many new ones came (another key)."""
        return self.n_again + max(0, min(self.n_new, self.n_paid - self.n_present))

    @property
    def needs_confirmation(self) -> bool:
        too_many = self.n_suspect > AUTO_RESUBMIT_GUARD_ROWS
        return too_many and self.n_suspect > AUTO_RESUBMIT_GUARD_SHARE * self.n_paid


@dataclass(frozen=True)
class Stake:
    """
    What would be paid again because models or defaults are not those of the last submission.

    Units of 10⁻⁸ USD; `units` is None where a price is not known.
    """

    units: int | None
    limit_units: int

    @property
    def needs_confirmation(self) -> bool:
        return self.units is None or self.units > self.limit_units


NOTHING_AT_STAKE = Stake(0, 0)


def require_confirmed(
    options: RunOptions,
    by_partition: Mapping[str, PaidAgain],
    quoted_units: int | None,
    stake: Stake = NOTHING_AT_STAKE,
) -> None:
    """
    Stop before a large part of a partition is paid for again, unless a person confirmed it.

    After a change of models or defaults a small amount is enough to stop.

    Raises:
        ConfirmationNeededError: Names partitions, figures and price; nothing was sent.
    """
    if options.confirm:
        return
    suspects = {
        key: paid
        for key, paid in by_partition.items()
        if paid.needs_confirmation or (paid.n_suspect and stake.needs_confirmation)
    }
    if not suspects:
        return
    raise ConfirmationNeededError(
        "confirmation_needed",
        f"This would pay again for rows that were paid before: {_in_words(suspects)}. "
        "Did a default, a model or the prompt ids change?",
        money=f"nothing was sent; the run would reserve {format_usd(quoted_units)}.",
        next_step=f"undo the change, or {CONFIRM}",
    )


def _in_words(suspects: Mapping[str, PaidAgain]) -> str:
    shown: Sequence[str] = [
        f"{paid.n_suspect} of {paid.n_paid} in {key}" for key, paid in list(suspects.items())[:5]
    ]
    more = len(suspects) - len(shown)
    return ", ".join(shown) + (f" and {more} more partitions" if more > 0 else "")


class Step(str, Enum):
    """What a run does with a row."""

    SEND = "send"
    WAIT = "wait"
    DONE = "done"
    HOLD = "hold"


@dataclass(frozen=True)
class Submission:
    """
    One row to be sent.

    Args:
        rest: The resting intent whose delivery is tried again, or None for a new generation.
        generation: 1-based.
        obstacle: Why it cannot be sent now, whatever Mynth would answer.
    """

    prompt_id: str
    request_key: str
    request_hash: str
    request: PaidRequest
    fan_out: str
    generation: int = 1
    rest: Intent | None = None
    obstacle: BadInput | None = None

    @property
    def attempt(self) -> int:
        """The number of the coming attempt, 1-based."""
        return 1 if self.rest is None else self.rest.attempt + 1


@dataclass(frozen=True)
class Decision:
    """
    A row's step, with the intent that it rests on or the generation to be made.

    `was_paid`: some generation of the row has a task that cost, or may have cost, something.
    """

    step: Step
    generation: int = 1
    rest: Intent | None = None
    was_paid: bool = False

    @property
    def is_first_send(self) -> bool:
        """Whether the row is sent, and was never sent under its key before."""
        return self.step is Step.SEND and self.rest is None and self.generation == 1

    @property
    def is_new_generation(self) -> bool:
        """Whether the row is sent as a new generation: edited, or paid for again."""
        return self.step is Step.SEND and self.rest is None and self.generation > 1


def decide(
    request_hash: str,
    intents: Sequence[Intent],
    options: RunOptions = DEFAULT_RUN_OPTIONS,
    *,
    retries: int = 0,
) -> Decision:
    """
    Decide what to do with a valid row, given all generations that the ledger has of it.

    Args:
        retries: How often a row whose task failed is sent again automatically, where another
            try may end otherwise.
    """
    current = choose_current(intents, request_hash)
    was_paid = any(intent.task_id and intent.charged_units != 0 for intent in intents)
    n_generations = sum(intent.request_hash == request_hash for intent in intents)
    if (
        current is None
        or _is_requested_again(current, options)
        or (n_generations <= retries and _may_end_otherwise(current))
    ):
        newest = max((intent.generation for intent in intents), default=0)
        return Decision(Step.SEND, newest + 1, None, was_paid)
    return Decision(_step_of(current), current.generation, current, was_paid)


def _may_end_otherwise(current: Intent) -> bool:
    return current.state is IntentState.FAILED and is_retryable(current)


def _is_requested_again(current: Intent, options: RunOptions) -> bool:
    """Whether a person resubmitted the row, or wants the finished row again."""
    is_resubmitted = current.state is IntentState.ABANDONED and current.reason == RESUBMIT
    return is_resubmitted or options.wants_again(current)


def _step_of(current: Intent) -> Step:
    if current.state in SENDABLE:
        return Step.SEND
    if current.state in FINAL:
        return Step.DONE
    return Step.HOLD if current.state in HELD else Step.WAIT


@dataclass(frozen=True)
class PriceClass:
    """Requests that cost the same: what the price of one depends on, as far as is documented."""

    model: str
    is_4k: bool
    count: int
    n_inputs: int
    enhanced: bool
    rated: bool


def price_class(request: PaidRequest) -> PriceClass:
    """The price class of one request."""
    return PriceClass(
        model=request.model,
        is_4k=(request.size or "").endswith("_4k"),
        count=request.count,
        n_inputs=len(request.inputs),
        enhanced=request.enhance is not None,
        rated=request.rating is not None,
    )


# Reading the prompt tables of partitions against the ledger: first to count and price, then to
# send.
#
# Two passes, since a price is shown before anything is sent. Between them the ledger may change;
# whoever claims a row first wins it.


ROWS_AT_ONCE = 500
"""Rows that are requests, and decisions, at a time; cells of a table are far smaller."""


@dataclass
class Plan:
    """
    What a run would do.

    `rows` counts rows by step, `to_send_in` those to send by partition; `n_again` of those to send
    were sent before, with the present content or another; `n_repeated` rest in the middle of a
    delivery. `paid` has by partition how much would be paid again, `n_paid_again` the rows of them
    that are sent again, by price. `moved` are the intents of
    rows whose partition changed with the fan-out, each with its new key. `files` are the input
    files of rows to send, each once, up to `UPLOADS_AHEAD_MAX`; `destinations` the storage that
    they name.
    """

    rows: Counter[Step] = field(default_factory=Counter)
    n_requests: Counter[PriceClass] = field(default_factory=Counter)
    samples: dict[PriceClass, PaidRequest] = field(default_factory=dict)
    n_again: int = 0
    n_repeated: int = 0
    moved: list[tuple[str, str]] = field(default_factory=list)
    paid: dict[str, PaidAgain] = field(default_factory=dict)
    n_paid_again: Counter[PriceClass] = field(default_factory=Counter)
    files: dict[str, InputImage] = field(default_factory=dict)
    to_send_in: Counter[Slice] = field(default_factory=Counter)
    destinations: set[str] = field(default_factory=set)

    @property
    def n_to_send(self) -> int:
        return self.rows[Step.SEND]

    def add_delivered(self, n_rows: int, slice_: Slice) -> None:
        """Count rows that were delivered, and paid for, with their present content."""
        self.rows[Step.DONE] += n_rows
        self.paid.setdefault(slice_.key, PaidAgain()).n_present += n_rows

    def add(self, row: PlannedRow, decision: Decision, slice_: Slice) -> None:
        """Count one row."""
        self.rows[decision.step] += 1
        rest = decision.rest
        if rest is not None and rest.fan_out != slice_.fan_out:
            self.moved.append((rest.intent_id, slice_.fan_out))
        paid = self.paid.setdefault(slice_.key, PaidAgain())
        paid.n_present += decision.was_paid
        paid.n_again += decision.was_paid and decision.is_new_generation
        paid.n_new += decision.is_first_send
        if decision.step is not Step.SEND:
            return
        self.to_send_in[slice_] += 1
        kind = price_class(row.request)
        self.n_requests[kind] += 1
        self.samples.setdefault(kind, row.request)
        self.n_again += decision.is_new_generation
        self.n_paid_again[kind] += decision.was_paid and decision.is_new_generation
        self.n_repeated += rest is not None
        if isinstance(row.request, RowRequest) and row.request.routing.destination:
            self.destinations.add(row.request.routing.destination)
        for image in row.request.inputs:
            if image.content_hash and len(self.files) < UPLOADS_AHEAD_MAX:
                self.files.setdefault(image.content_hash, image)


async def build_plan(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> Plan:
    """Count and classify every row of these partitions; sends nothing."""
    counted, reader = Plan(), session.ledger.read
    for slice_ in slices:
        n_paid = await asyncio.to_thread(reader.n_paid_rows, work.ledger_name, slice_)
        counted.paid[slice_.key] = PaidAgain(n_paid=n_paid)
        async for decided in _decided(session, work, slice_, options):
            counted.add_delivered(decided.n_delivered, slice_)
            for row, decision in decided.others:
                counted.add(row, decision, slice_)
    return counted


async def iter_submissions(
    session: Session,
    work: Work,
    slices: Sequence[Slice],
    uploads: InputUploads,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> AsyncGenerator[list[Submission], None]:
    """The rows to send, in the order of the tables, once their input files are at Mynth."""
    for slice_ in slices:
        async for decided in _decided(session, work, slice_, options):
            to_send = [(row, how) for row, how in decided.others if how.step is Step.SEND]
            await uploads.make_ready(image for row, _ in to_send for image in row.request.inputs)
            yield [_delivery(row, decision, slice_, uploads) for row, decision in to_send]


def _delivery(
    row: PlannedRow, decision: Decision, slice_: Slice, uploads: InputUploads
) -> Submission:
    resolved = uploads.resolve(row.request)
    obstacle = resolved if isinstance(resolved, BadInput) else None
    return Submission(
        prompt_id=row.prompt_id,
        request_key=row.request_key,
        request_hash=row.request_hash,
        request=row.request if isinstance(resolved, BadInput) else resolved,
        fan_out=slice_.fan_out,
        generation=decision.generation,
        rest=decision.rest,
        obstacle=obstacle,
    )


@dataclass(frozen=True)
class _Decided:
    """Rows of which nothing is left to decide, and the others with their decisions."""

    n_delivered: int
    others: list[tuple[PlannedRow, Decision]]


async def _decided(
    session: Session, work: Work, slice_: Slice, options: RunOptions
) -> AsyncIterator[_Decided]:
    """Yield row batches with their decisions; files and ledger are read on a worker thread."""
    batches = _decide_batches(session, work, slice_, options)
    while (decided := await asyncio.to_thread(next, batches, None)) is not None:
        yield decided


def _decide_batches(
    session: Session, work: Work, slice_: Slice, options: RunOptions
) -> Iterator[_Decided]:
    store = TableStore(session.settings.root, work.batch.name)
    for planned in work.iter_rows(store, slice_):
        open_ = _open_places(session, work, slice_, planned, options)
        yield _Decided(len(planned.request_keys) - len(open_), [])
        for places in chunks(open_, ROWS_AT_ONCE):
            rows = planned.rows(places)
            yield _Decided(0, _decide_each(session, work, slice_, rows, options))


def _open_places(
    session: Session, work: Work, slice_: Slice, planned: PlannedBatch, options: RunOptions
) -> list[int]:
    """Return the places of rows that were not delivered with this content, or are sent again."""
    keys, hashes = planned.request_keys, planned.request_hashes
    if options.is_special:
        return list(range(len(keys)))
    settled = session.ledger.read.delivered(work.ledger_name, slice_, keys)
    each = enumerate(zip(keys, hashes, strict=True))
    return [place for place, (key, identity) in each if settled.get(key) != identity]


def _decide_each(
    session: Session, work: Work, slice_: Slice, rows: Sequence[PlannedRow], options: RunOptions
) -> list[tuple[PlannedRow, Decision]]:
    covered = [row for row in rows if options.covers(row.prompt_id)]
    keys = [row.request_key for row in covered]
    known = session.ledger.read.intents_for(work.ledger_name, slice_.window, keys)

    def decision(row: PlannedRow) -> Decision:
        intents = known.get(row.request_key, ())
        return decide(row.request_hash, intents, options, retries=work.retries)

    return [(row, decision(row)) for row in covered]


# When a run that pays again began, by the ledger's own clock, so that a further try goes on there.


BEGUN = "begun:"
"""Prefix of the ledger's facts when runs that pay again began, by batch and run."""

KEPT_US = 30 * 86_400 * US_PER_S
"""After this time a run is not recognised as a further try, and may pay for rows again."""


async def resume_options(
    session: Session, ledger_name: str, options: RunOptions, run_id: str
) -> RunOptions:
    """
    Add to the options when the first try of this run began, so that its rows are not paid twice.

    The ledger keeps that time, by the clock that dates its intents: clocks of other machines have
    no part in it. It is taken before anything is sent.

    Args:
        run_id: Identifies the run; the same in each try of it.
    """
    if not options.pays_again:
        return options
    now = await session.ledger.now(session.clock.instant())
    key = f"{BEGUN}{ledger_name}:{run_id}"
    kept = await session.ledger.ensure_meta(key, str(now.wall_us))
    await session.ledger.forget_moments(BEGUN, now.wall_us - KEPT_US, but=key)
    return replace(options, begun_at_us=int(kept))
