"""
Submission: many paid requests in flight, each recorded before it leaves.

For every row: take a slot, commit the intent as `sending`, check claim and clocks, POST once,
commit what the response proves, give the slot back. So there are never more rows `sending` than
slots, and a crash leaves at most that many outcomes open.

A worker whose row was accepted keeps its slot and claims its next row while the response is
recorded: both are handed to the ledger in this order and mostly share one COMMIT.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from mynth_dagster.client.http import MayLeave
from mynth_dagster.client.outcome import Accepted, Cause, NotSent, Refused, Unknown
from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.plan import Submission
from mynth_dagster.engine.quote import Funds, Quote
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import CancelToken, CircuitBreaker, StopReason, shut_out, stopped_by
from mynth_dagster.engine.uploads import UploadCounts
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import (
    ApiError,
    LedgerError,
    UnexpectedPayloadError,
    UnsupportedFeatureError,
    WithheldRequestError,
)
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed, Ending
from mynth_dagster.ledger.observations import Attachment, Observation, Observed, Source
from mynth_dagster.limits import SEND_BY_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import UNSUPPORTED
from mynth_dagster.models.intent import Intent, RowKey, intent_id, make_tag
from mynth_dagster.models.request import doing_of
from mynth_dagster.models.task import CatalogModel, Offers, PublicAccessToken
from mynth_dagster.models.transitions import Event, IntentState
from mynth_dagster.tables.inputs import BadInput

# Recording what a response proves: in the ledger, the counts and the circuit breaker.


async def _at_once() -> None:
    """Wait for nothing; the default of `before_more`."""


@dataclass
class SubmitCounts:
    """
    The counts of a run so far; read while it runs to show progress.

    `on_accepted` is called on the event loop after each response with a task; `before_more` is
    awaited before more rows are taken to be sent.
    """

    n_posts: int = 0
    n_accepted: int = 0
    n_rejected: int = 0
    n_unresolved: int = 0
    n_given_back: int = 0
    n_lost_races: int = 0
    n_over_budget: int = 0
    reserved_units: int = 0
    uploads: UploadCounts = field(default_factory=UploadCounts)
    on_accepted: Callable[[], None] = lambda: None
    before_more: Callable[[], Awaitable[None]] = _at_once


@dataclass(frozen=True)
class PendingRecord:
    """A task id on its way into the ledger; `kept` is done after its COMMIT."""

    intent: Intent
    outcome: Accepted
    seen_at_us: int
    kept: asyncio.Future[Observed]


class ResponseRecorder:
    """Records the responses to one batch's requests."""

    def __init__(
        self, session: Session, work: Work, *, stop: CancelToken, counts: SubmitCounts
    ) -> None:
        self._session = session
        self._work = work
        self._stop = stop
        self._counts = counts
        self._breaker = CircuitBreaker(max_unresolved=session.settings.client.concurrency)

    def begin(self, intent: Intent, outcome: Accepted) -> PendingRecord:
        """Hand a task id to the ledger; `finish` must follow."""
        created, now = outcome.created, self._session.clock.instant()
        observation = Observation.of_intent(
            Source.RESPONSE,
            intent,
            created.task_id,
            now,
            deadline_s=self._work.batch.delivery.deadline_s,
            reserved_units=created.reserved_units,
        )
        kept = self._session.ledger.enqueue(observation)
        return PendingRecord(intent, outcome, now.wall_us, kept)

    async def finish(self, recording: PendingRecord) -> None:
        """Wait until the task id is in the ledger."""
        session, intent, created = self._session, recording.intent, recording.outcome.created
        if (await recording.kept).attachment is Attachment.FOREIGN:
            # A response to another request, replayed: the outcome of ours is unknown.
            error = UnexpectedPayloadError(
                "create task", revision=session.client.profile.REVISION, path="task of its own"
            )
            await self.unknown(intent, Unknown(error))
            return
        reach(CrashPoint.ANSWER_COMMITTED)
        if created.token is not None and self._work.delivery.public_access_tokens:
            lifetime_us = session.client.profile.LIMITS.token_lifetime_s * US_PER_S
            token = PublicAccessToken(created.token, recording.seen_at_us + lifetime_us)
            await session.ledger.save_token(created.task_id, token)
        self._counts.n_accepted += 1
        self._counts.reserved_units += created.reserved_units or intent.quoted_units or 0
        self._breaker.note_accepted()
        session.throttle.note_success()
        self._counts.on_accepted()

    async def unknown(self, intent: Intent, outcome: Unknown) -> None:
        """Record that the outcome is unknown: the row is never sent again by itself."""
        await self._end(
            intent,
            Event.LOSE_SIGHT,
            "outcome_unknown",
            outcome.error.reason,
            http_status=outcome.http_status,
        )
        self._counts.n_unresolved += 1
        self._session.throttle.push_back()
        self._stop_for(self._breaker.note_unknown(outcome))

    async def silence(self, intent: Intent, outcome: NotSent | Refused) -> bool:
        """Give back a request that was not sent or got 429; return whether to try again."""
        if isinstance(outcome, NotSent):
            reason, code, retry_after_s = "not_sent", "unreachable", None
        else:
            reason = code = "rate_limited"
            retry_after_s = outcome.error.retry_after_s
        await self.give_back(intent, reason, outcome.error.reason)
        now_s = self._session.clock.elapsed_s()
        pause_s = self._breaker.note_silence(now_s, retry_after_s, code=code)
        if isinstance(pause_s, StopReason):
            self._stop.set(pause_s)
            return False
        self._session.throttle.push_back(pause_s)
        return True

    async def refused(self, intent: Intent, refused: Refused) -> None:
        """Record a refusal: of the row itself, or of all until its cause is corrected."""
        error, stop = refused.error, self._breaker.note_refusal(refused)
        self._stop_for(stop)
        if refused.cause is not Cause.ROW:
            await self.give_back(intent, stop.code if stop else "refused", error.reason)
            return
        await self._end(
            intent,
            Event.REJECT,
            error.code or "rejected",
            error.message or error.reason,
            field=error.field,
            http_status=error.status,
        )
        self._counts.n_rejected += 1

    async def give_back(self, intent: Intent, reason: str, message: str) -> None:
        """Give the row back: no request is on its way for it, and another attempt may follow."""
        await self._end(intent, Event.GIVE_BACK, reason, message)
        self._counts.n_given_back += 1

    async def _end(
        self,
        intent: Intent,
        event: Event,
        reason: str,
        message: str,
        *,
        field: str | None = None,
        http_status: int | None = None,
    ) -> None:
        await self._session.ledger.record_ending(
            Ending(
                intent=intent,
                event=event,
                ended_at=self._session.clock.instant(),
                reason=reason,
                error_code=reason,
                error_message=message,
                error_field=field,
                http_status=http_status,
            )
        )

    def _stop_for(self, reason: StopReason | None) -> None:
        if reason is not None:
            self._stop.set(reason)


@dataclass(frozen=True)
class Sender:
    """
    The account and run that send.

    Args:
        account: The ledger's number of the account that pays.
        run: The name of the run in its claims; if it is fenced, nothing more is sent.
    """

    account: int
    run: str


class _Lane:
    """A worker's slot, and the response of its last row while it is being recorded."""

    __slots__ = ("has_slot", "recording")

    def __init__(self) -> None:
        self.has_slot = False
        self.recording: PendingRecord | None = None


@dataclass
class _Round:
    """The claims that one query checks, and the claimants that it found."""

    intent_ids: list[str] = field(default_factory=list)
    standing: frozenset[str] = frozenset()


class _Standing:
    """Checks that claims still stand, with one query for all that wait for it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turn = asyncio.Lock()
        self._next = _Round()

    async def includes(self, intent_id: str, claimant: str) -> bool:
        """Whether the intent is still `sending` for this claimant; False if that is unknown."""
        mine = self._next
        mine.intent_ids.append(intent_id)
        async with self._turn:
            if mine is self._next:
                self._next = _Round()
                with suppress(LedgerError):
                    found = await asyncio.to_thread(self._ledger.read.standing, mine.intent_ids)
                    mine.standing = frozenset(found)
        return claimant in mine.standing


class Submitter:
    """
    Sends the deliveries of one batch and window.

    Args:
        window: Part of the identity of every row.
        stop: Checked before each claim, and in its transaction; set here when the run must end.
        funds: Which partitions have no money left.
    """

    def __init__(
        self,
        session: Session,
        work: Work,
        window: str,
        quote: Quote,
        *,
        sender: Sender,
        stop: CancelToken,
        funds: Funds,
        counts: SubmitCounts,
    ) -> None:
        self._session = session
        self._work = work
        self._window = window
        self._quote = quote
        self._sender = sender
        self._stop = stop
        self._funds = funds
        self._counts = counts
        self._answers = ResponseRecorder(session, work, stop=stop, counts=counts)
        self._turn = asyncio.Lock()
        self._ready: deque[Submission] = deque()
        self._standing = _Standing(session.ledger)
        self._name = os.urandom(8).hex()
        self._numbers = itertools.count()

    async def send_all(self, deliveries: AsyncGenerator[list[Submission], None]) -> None:
        """Send until no row is left or the run is stopped; responses in flight are recorded."""
        n_workers = self._session.settings.client.concurrency
        async with aclosing(deliveries):
            workers = [asyncio.create_task(self._worker(deliveries)) for _ in range(n_workers)]
            try:
                await asyncio.wait(workers)
            except BaseException:
                self._stop.set(StopReason("interrupted", "The run was interrupted."))
                await asyncio.wait(workers)
                raise
        errors = [worker.exception() for worker in workers if not worker.cancelled()]
        for error in filter(None, errors):
            raise error

    async def _worker(self, deliveries: AsyncGenerator[list[Submission], None]) -> None:
        lane = _Lane()
        try:
            while (delivery := await self._next(deliveries, lane)) is not None:
                await self._deliver(delivery, lane)
        except BaseException:
            self._stop.set(StopReason("failed", "The run failed; see the error."))
            raise
        finally:
            await self._leave(lane)

    async def _next(
        self, deliveries: AsyncGenerator[list[Submission], None], lane: _Lane
    ) -> Submission | None:
        while not self._stop.is_set:
            if not self._ready:
                await self._leave(lane)
                if not await self._fetch(deliveries):
                    break
            delivery = self._ready.popleft()
            if self._slice(delivery) in self._stop.halted:
                continue
            if not self._funds.is_closed(self._window, delivery.fan_out):
                return delivery
            self._counts.n_over_budget += 1
        return None

    async def _fetch(self, deliveries: AsyncGenerator[list[Submission], None]) -> bool:
        """Have one worker read more rows while the others wait; return whether it found any."""
        async with self._turn:
            if not self._ready:
                await self._counts.before_more()
            while not self._ready and (more := await anext(deliveries, None)) is not None:
                self._ready.extend(more)
        return bool(self._ready)

    def _slice(self, delivery: Submission) -> Slice:
        return self._work.batch.slice(self._window, delivery.fan_out)

    async def _deliver(self, delivery: Submission, lane: _Lane) -> None:
        pending: Submission | None = delivery
        while pending is not None and await self._enter(lane):
            pending = await self._try_once(pending, lane)

    async def _enter(self, lane: _Lane) -> bool:
        """Take a slot, or keep that of the row before; False if no more is sent."""
        throttle = self._session.throttle
        if throttle.is_pushed_back:
            await self._leave(lane)
        if not lane.has_slot:
            await throttle.acquire(give_up=lambda: self._stop.is_set)
            lane.has_slot = True
        return not self._stop.is_set

    async def _leave(self, lane: _Lane) -> None:
        """Give the slot back, once its outcome is recorded."""
        try:
            await self._finish(lane)
        finally:
            if lane.has_slot:
                lane.has_slot = False
                await self._session.throttle.release()

    async def _finish(self, lane: _Lane) -> None:
        recording, lane.recording = lane.recording, None
        if recording is not None:
            await self._answers.finish(recording)

    async def _try_once(self, delivery: Submission, lane: _Lane) -> Submission | None:
        """Make one attempt; return the delivery to be tried again, or None if the row is done."""
        session, intent = self._session, self._intent(delivery)
        tag = make_tag(intent.intent_id, intent.request_hash, session.ledger.ledger_id)
        content, delivery = self._encoded(delivery, str(tag))
        await self._work.before_claim(session, intent.intent_id, delivery.request)
        claimant = f"{self._name}.{next(self._numbers)}"
        may_leave = self._last_look(intent, claimant)
        reach(CrashPoint.BEFORE_INTENT)
        if not await self._claim_after(lane, delivery, intent, claimant):
            return None
        if delivery.obstacle is not None:
            obstacle = delivery.obstacle
            await self._answers.give_back(intent, obstacle.code, obstacle.message)
            return None
        reach(CrashPoint.INTENT_COMMITTED)
        outcome = await session.client.create_task(
            content, doing_of(delivery.request), may_leave=may_leave
        )
        reach(CrashPoint.ANSWER_READ)
        if isinstance(outcome, NotSent) and isinstance(outcome.error, WithheldRequestError):
            await self._answers.give_back(intent, "too_late", outcome.error.reason)
            return replace(delivery, rest=intent)
        self._counts.n_posts += not isinstance(outcome, NotSent)
        if isinstance(outcome, Accepted):
            lane.recording = self._answers.begin(intent, outcome)
            return None
        is_again = await self._record(intent, outcome)
        return replace(delivery, rest=intent) if is_again else None

    def _last_look(self, intent: Intent, claimant: str) -> MayLeave:
        """
        Whether the claim may still be sent: the ledger holds it unchanged, its time is not over by
        either clock of the machine, and the run was not cancelled.

        A process that was suspended, or a machine that slept or was paused, wakes up with its
        requests ready to leave, hours after others took its rows for lost. On a paused machine one
        of the clocks may have stood still, or both: then only the ledger shows it. The ledger is
        asked first, since the process may be suspended while it answers.
        """
        clock = self._session.clock
        by_s = clock.elapsed_s() + SEND_BY_S
        by_us = clock.now_us() + round(SEND_BY_S * US_PER_S)

        async def may_leave() -> bool:
            if not await self._standing.includes(intent.intent_id, claimant):
                return False
            is_in_time = clock.elapsed_s() <= by_s and clock.now_us() <= by_us
            return is_in_time and not self._stop.is_cancelled

        return may_leave

    def _encoded(self, delivery: Submission, tag: str) -> tuple[bytes, Submission]:
        """The bytes to send; a row that the revision cannot express has an obstacle instead."""
        try:
            return self._session.client.encode(delivery.request, tag), delivery
        except UnsupportedFeatureError as error:
            obstacle = BadInput(UNSUPPORTED, str(error))
            return b"", replace(delivery, obstacle=delivery.obstacle or obstacle)

    async def _record(self, intent: Intent, outcome: NotSent | Refused | Unknown) -> bool:
        """Record a response without a task; return whether to try again."""
        if isinstance(outcome, Unknown):
            await self._answers.unknown(intent, outcome)
            return False
        if isinstance(outcome, NotSent) or outcome.cause is Cause.RATE:
            return await self._answers.silence(intent, outcome)
        await self._answers.refused(intent, outcome)
        return False

    async def _claim_after(
        self, lane: _Lane, delivery: Submission, intent: Intent, claimant: str
    ) -> bool:
        """Claim a row together with the response before it; return whether it may be sent."""
        is_ours = await self._claim(delivery, intent, claimant)
        try:
            await self._finish(lane)
        except Exception:
            if is_ours:
                with suppress(LedgerError):
                    await self._answers.give_back(intent, "not_sent", "the run failed before it")
            raise
        return is_ours

    async def _claim(self, delivery: Submission, intent: Intent, claimant: str) -> bool:
        """Whether the row is ours to send now, and there is money for it."""
        claim = Claim(
            intent,
            self._sender.account,
            delivery.rest.attempt if delivery.rest else None,
            self._work.budget,
            claimant,
            self._sender.run,
            lambda: not self._stop.is_set,
        )
        claimed = await self._session.ledger.claim(claim)
        if claimed is Claimed.LOST:
            self._counts.n_lost_races += 1
        elif claimed in (Claimed.STOPPED, Claimed.FENCED):
            await self._halt(self._slice(delivery))
        elif claimed not in (Claimed.WON, Claimed.UNWANTED):
            self._funds.close(claimed, self._slice(delivery))
            self._counts.n_over_budget += 1
        return claimed is Claimed.WON

    async def _halt(self, slice_: Slice) -> None:
        """Stop for a person's stop of the partition or more, or for a fence of this run."""
        stops = self._session.ledger.stops
        fenced = await asyncio.to_thread(stops.fenced, [self._sender.run])
        if fenced:
            self._stop.set(shut_out(fenced[self._sender.run]))
            return
        name = self._work.ledger_name
        for stop in await asyncio.to_thread(stops.active):
            if stop.covers(name, slice_.window, slice_.fan_out):
                reason = stopped_by(stop)
                self._stop.halted[slice_] = reason
                if stop.window is None:
                    self._stop.set(reason)

    def _intent(self, delivery: Submission) -> Intent:
        row = RowKey(self._work.ledger_name, self._window, delivery.request_key)
        now_us = self._session.clock.now_us()
        return Intent(
            intent_id=intent_id(self._session.ledger.ledger_id, row, delivery.generation),
            row=row,
            prompt_id=delivery.prompt_id,
            fan_out=delivery.fan_out,
            generation=delivery.generation,
            attempt=delivery.attempt,
            state=IntentState.SENDING,
            request_hash=delivery.request_hash,
            model=delivery.request.model,
            n_asked=delivery.request.count,
            claimed_at_us=now_us,
            send_by_us=now_us + round(SEND_BY_S * US_PER_S),
            quoted_units=self._quote.price_of(delivery.request),
        )


# What the server lists, free of charge: its models, and the account's own storage.
#
# Optional: it finds mistakes before they are sent. Without it Mynth itself checks each request.


async def ask_offers(session: Session, *, with_destinations: bool) -> Offers:
    """Read the catalogue, and if wanted the account's own storage; a failure is no error."""
    destinations = await list_destinations(session) if with_destinations else None
    return Offers(await _list_models(session), destinations)


async def list_destinations(session: Session) -> frozenset[str] | None:
    """List the account's own storage by name; None if the key or the revision cannot."""
    if not session.client.profile.HAS_DESTINATIONS:
        return None
    try:
        return await session.client.list_destinations()
    except ApiError:
        return None


async def _list_models(session: Session) -> dict[str, CatalogModel] | None:
    if not session.client.profile.HAS_CATALOG:
        return None
    try:
        return await session.client.get_catalog()
    except ApiError:
        return None
