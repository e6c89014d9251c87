"""
What the answer to a paid request proves, written down: in the ledger, the counts and the breaker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mynth_dagster.client.outcome import Accepted, Cause, NotSent, Refused, Unknown
from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.stop import Breaker, StopReason, StopSwitch
from mynth_dagster.engine.uploads import UploadCounts
from mynth_dagster.errors import UnexpectedPayloadError
from mynth_dagster.ledger.claims import Ending
from mynth_dagster.ledger.observations import ANSWER, Attachment, Sighting
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.task import PublicAccessToken
from mynth_dagster.models.transitions import Event


async def _at_once() -> None:
    """Nobody has to catch up."""


@dataclass
class SubmitCounts:
    """
    What a run has done so far; read while it runs to show progress.

    `on_accepted` is called on the event loop after each answer that brought a task;
    `before_more` is awaited before more rows are taken to be sent.
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
class Recording:
    """A task id on its way into the ledger; `kept` is done after its COMMIT."""

    intent: Intent
    outcome: Accepted
    seen_at_us: int
    kept: asyncio.Future[Attachment]


class Answers:
    """The answers to one batch's requests."""

    def __init__(
        self, session: Session, batch: Batch, *, stop: StopSwitch, counts: SubmitCounts
    ) -> None:
        self._session = session
        self._batch = batch
        self._stop = stop
        self._counts = counts
        self._breaker = Breaker(max_unresolved=session.settings.client.concurrency)

    def begin(self, intent: Intent, outcome: Accepted) -> Recording:
        """Hand a task id to the ledger; `finish` must follow."""
        created, now_us = outcome.created, self._session.clock.now_us()
        sighting = Sighting.at(
            now_us,
            intent,
            created.task_id,
            ANSWER,
            deadline_s=self._batch.deadline_s,
            reserved_units=created.reserved_units,
        )
        return Recording(intent, outcome, now_us, self._session.ledger.begin_sighting(sighting))

    async def finish(self, recording: Recording) -> None:
        """Wait until the task id is in the ledger."""
        session, intent, created = self._session, recording.intent, recording.outcome.created
        if await recording.kept is Attachment.FOREIGN:
            # An answer to somebody else's request, replayed: what became of ours is not known.
            error = UnexpectedPayloadError(
                "create task", revision=session.client.profile.REVISION, path="task of its own"
            )
            await self.unknown(intent, Unknown(error))
            return
        reach(CrashPoint.ANSWER_COMMITTED)
        if created.token is not None and self._batch.defaults.public_access_tokens:
            lifetime_us = session.client.profile.LIMITS.token_lifetime_s * US_PER_S
            token = PublicAccessToken(created.token, recording.seen_at_us + lifetime_us)
            await session.ledger.tokens.keep(created.task_id, token)
        self._counts.n_accepted += 1
        self._counts.reserved_units += created.reserved_units or intent.quoted_units or 0
        self._breaker.note_accepted()
        session.throttle.note_success()
        self._counts.on_accepted()

    async def unknown(self, intent: Intent, outcome: Unknown) -> None:
        """Nobody can tell whether it was taken: never sent again by itself."""
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
        """Not sent, or 429: given back; whether to try again after the pause that is on now."""
        if isinstance(outcome, NotSent):
            reason, code, asked_s = "not_sent", "unreachable", None
        else:
            reason = code = "rate_limited"
            asked_s = outcome.error.retry_after_s
        await self.give_back(intent, reason, outcome.error.reason)
        now_s = self._session.clock.elapsed_s()
        pause_s = self._breaker.note_silence(now_s, asked_s, code=code)
        if isinstance(pause_s, StopReason):
            self._stop.set(pause_s)
            return False
        self._session.throttle.push_back(pause_s)
        return True

    async def refused(self, intent: Intent, refused: Refused) -> None:
        """Refused for good, or until somebody mends what the run stops for."""
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
        """No request is on its way for this row; another attempt may follow."""
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
