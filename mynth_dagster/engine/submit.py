"""
Submission: many paid calls in flight, each written down before it leaves.

For every row: take a slot, commit the intent as `sending`, look at the clock, POST once,
commit what the answer proves, give the slot back. So there are never more rows `sending` than
slots, and a crash leaves at most that many outcomes open.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from mynth_dagster.client.outcome import Accepted, Cause, NotSent, PaidOutcome, Refused, Unknown
from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.funds import Funds
from mynth_dagster.engine.plan import Delivery
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import Breaker, StopReason, StopSwitch
from mynth_dagster.engine.uploads import UploadCounts
from mynth_dagster.errors import UnexpectedPayloadError
from mynth_dagster.ledger.delivery import Claim, Claimed, Ending
from mynth_dagster.ledger.evidence import Attachment, Sighting
from mynth_dagster.limits import SEND_BY_S
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.inspection import Inspection, doing_of
from mynth_dagster.models.intent import Intent, RowKey, intent_id, make_tag
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.task import PublicAccessToken
from mynth_dagster.models.transitions import Event, IntentState


@dataclass
class SubmitCounts:
    """
    What a run has done so far; read while it runs to show progress.

    `on_accepted` is called on the event loop after each answer that brought a task.
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


class Submitter:
    """
    Sends the deliveries of one batch and window.

    Args:
        window: Part of the identity of every row.
        account: The ledger's number of the account that pays.
        stop: Looked at before each claim; set here when the run must end.
        funds: Which partitions have no money left.
    """

    def __init__(
        self,
        session: Session,
        batch: Batch,
        window: str,
        quote: Quote,
        *,
        account: int,
        stop: StopSwitch,
        funds: Funds,
        counts: SubmitCounts,
    ) -> None:
        self._session = session
        self._batch = batch
        self._window = window
        self._quote = quote
        self._account = account
        self._stop = stop
        self._funds = funds
        self._counts = counts
        self._breaker = Breaker(max_unresolved=session.settings.client.concurrency)
        self._turn = asyncio.Lock()
        self._ready: deque[Delivery] = deque()
        self._claimant = os.urandom(8).hex()

    async def send_all(self, deliveries: AsyncGenerator[list[Delivery], None]) -> None:
        """Send until there is no more, or until the switch is set; answers in flight are kept."""
        n_workers = self._session.settings.client.concurrency
        async with aclosing(deliveries):
            workers = [asyncio.create_task(self._work(deliveries)) for _ in range(n_workers)]
            try:
                await asyncio.wait(workers)
            except BaseException:
                self._stop.set(StopReason("interrupted", "The run was interrupted."))
                await asyncio.wait(workers)
                raise
        errors = [worker.exception() for worker in workers if not worker.cancelled()]
        for error in filter(None, errors):
            raise error

    async def _work(self, deliveries: AsyncGenerator[list[Delivery], None]) -> None:
        try:
            while (delivery := await self._next(deliveries)) is not None:
                await self._deliver(delivery)
        except BaseException:
            self._stop.set(StopReason("failed", "The run failed; see the error."))
            raise

    async def _next(self, deliveries: AsyncGenerator[list[Delivery], None]) -> Delivery | None:
        while not self._stop.is_set and (self._ready or await self._fetch(deliveries)):
            delivery = self._ready.popleft()
            if not self._funds.is_closed(self._slice(delivery)):
                return delivery
            self._counts.n_over_budget += 1
        return None

    async def _fetch(self, deliveries: AsyncGenerator[list[Delivery], None]) -> bool:
        """Have one worker read on while the others wait for what it finds; whether it did."""
        async with self._turn:
            while not self._ready and (more := await anext(deliveries, None)) is not None:
                self._ready.extend(more)
        return bool(self._ready)

    def _slice(self, delivery: Delivery) -> Slice:
        return self._batch.slice(self._window, delivery.fan_out)

    async def _deliver(self, delivery: Delivery) -> None:
        pending: Delivery | None = delivery
        while pending is not None:
            await self._session.throttle.acquire(give_up=lambda: self._stop.is_set)
            try:
                if self._stop.is_set:
                    return
                pending = await self._try_once(pending)
            finally:
                await self._session.throttle.release()

    async def _try_once(self, delivery: Delivery) -> Delivery | None:
        """One attempt; the delivery to be tried again, or None when this row is through."""
        session, intent = self._session, self._intent(delivery)
        tag = make_tag(intent.intent_id, intent.request_hash, session.ledger.ledger_id)
        content = session.client.encode(delivery.request, str(tag))
        if isinstance(delivery.request, Inspection):
            wish = delivery.request
            await session.ledger.subjects.keep(intent.intent_id, wish.model, wish.url)
        send_by_s = session.clock.elapsed_s() + SEND_BY_S
        reach(CrashPoint.BEFORE_INTENT)
        if not await self._claim(delivery, intent):
            return None
        if delivery.obstacle is not None:
            await self._give_back(
                delivery, intent, delivery.obstacle.code, delivery.obstacle.message
            )
            return None
        reach(CrashPoint.INTENT_COMMITTED)
        if session.clock.elapsed_s() > send_by_s:
            return await self._give_back(delivery, intent, "too_late", "not sent in time")
        outcome = await session.client.create_task(content, doing_of(delivery.request))
        reach(CrashPoint.ANSWER_READ)
        self._counts.n_posts += not isinstance(outcome, NotSent)
        return await self._record(delivery, intent, outcome)

    async def _claim(self, delivery: Delivery, intent: Intent) -> bool:
        """Whether the row is ours to send now, and there is money for it."""
        claim = Claim(
            intent,
            self._account,
            delivery.rest.attempt if delivery.rest else None,
            self._session.client.server_now_us,
            self._batch.budget,
            self._claimant,
        )
        claimed = await self._session.ledger.claim(claim)
        if claimed is Claimed.LOST:
            self._counts.n_lost_races += 1
        elif claimed is not Claimed.WON:
            self._funds.close(claimed, self._slice(delivery))
            self._counts.n_over_budget += 1
        return claimed is Claimed.WON

    def _intent(self, delivery: Delivery) -> Intent:
        row = RowKey(self._batch.ledger_name, self._window, delivery.request_key)
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

    async def _record(
        self, delivery: Delivery, intent: Intent, outcome: PaidOutcome
    ) -> Delivery | None:
        if isinstance(outcome, Accepted):
            await self._record_accepted(intent, outcome)
            return None
        if isinstance(outcome, Unknown):
            await self._record_unknown(intent, outcome)
            return None
        if isinstance(outcome, NotSent):
            reason, code, asked_s = "not_sent", "unreachable", None
        elif outcome.cause is Cause.RATE:
            reason = code = "rate_limited"
            asked_s = outcome.error.retry_after_s
        else:
            return await self._record_refusal(delivery, intent, outcome)
        again = await self._give_back(delivery, intent, reason, outcome.error.reason)
        now_s = self._session.clock.elapsed_s()
        pause_s = self._breaker.note_silence(now_s, asked_s, code=code)
        if isinstance(pause_s, StopReason):
            self._stop.set(pause_s)
            return None
        self._session.throttle.push_back(pause_s)
        return again

    async def _record_accepted(self, intent: Intent, outcome: Accepted) -> None:
        session, created = self._session, outcome.created
        now_us = session.clock.now_us()
        sighting = Sighting.at(
            now_us,
            intent,
            created.task_id,
            "answer",
            deadline_s=self._batch.deadline_s,
            reserved_units=created.reserved_units,
        )
        if await session.ledger.record_sighting(sighting) is Attachment.FOREIGN:
            # An answer to somebody else's request, replayed: what became of ours is not known.
            error = UnexpectedPayloadError(
                "create task", revision=session.client.profile.REVISION, path="task of its own"
            )
            await self._record_unknown(intent, Unknown(error))
            return
        reach(CrashPoint.ANSWER_COMMITTED)
        if created.token is not None and self._batch.defaults.public_access_tokens:
            lifetime_us = session.client.profile.LIMITS.token_lifetime_s * US_PER_S
            token = PublicAccessToken(created.token, now_us + lifetime_us)
            await session.ledger.tokens.keep(created.task_id, token)
        self._counts.n_accepted += 1
        self._counts.reserved_units += created.reserved_units or intent.quoted_units or 0
        self._breaker.note_accepted()
        session.throttle.note_success()
        self._counts.on_accepted()

    async def _record_unknown(self, intent: Intent, outcome: Unknown) -> None:
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

    async def _record_refusal(
        self, delivery: Delivery, intent: Intent, refused: Refused
    ) -> Delivery | None:
        error, stop = refused.error, self._breaker.note_refusal(refused)
        self._stop_for(stop)
        if refused.cause is not Cause.ROW:
            await self._give_back(delivery, intent, stop.code if stop else "refused", error.reason)
            return None
        await self._end(
            intent,
            Event.REJECT,
            error.code or "rejected",
            error.message or error.reason,
            field=error.field,
            http_status=error.status,
        )
        self._counts.n_rejected += 1
        return None

    async def _give_back(
        self, delivery: Delivery, intent: Intent, reason: str, message: str
    ) -> Delivery:
        await self._end(intent, Event.GIVE_BACK, reason, message)
        self._counts.n_given_back += 1
        return replace(delivery, rest=intent)

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
