"""
Processing of webhook events: each becomes the observation that polling would have made.

A signed event is evidence. It attaches its task to the intent that its tag names, and if it
contains the whole task, the task is not read again. An unsigned event is unverified: the task is
read from Mynth first. Events that come twice, late or out of order meet the same compare-and-set in
the ledger as every other observation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.poll import is_own
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.work import Work
from mynth_dagster.errors import ApiError, LedgerError, UnauthorizedError
from mynth_dagster.ledger.events import EventEnd, EventOutcome, Postponement, WebhookEvent
from mynth_dagster.ledger.observations import Attachment, Observation, Source
from mynth_dagster.limits import (
    EVENTS_BATCH,
    INTENT_TAG_KEY,
    TASK_DEADLINE_S,
    UNVERIFIED_DELAY_S,
    UNVERIFIED_TRIES_MAX,
)
from mynth_dagster.models.intent import Awaited, Intent, IntentTag, parse_tag
from mynth_dagster.models.request import FOLLOW_UP_TASKS
from mynth_dagster.models.task import Task, TaskEvent, TaskStatus
from mynth_dagster.models.transitions import FINAL
from mynth_dagster.wire.decode import parse_json

IN_FLIGHT_MAX = 16
UNVERIFIED_KEPT_US = 86_400 * US_PER_S
"""An event about another batch's or server's task is left to its sessions, but not for ever."""


async def process_events(session: Session, work: Work, *, until_s: float | None = None) -> int:
    """
    Process the events that are due; return how many brought something new.

    Signed events of any batch are processed; unsigned ones if they are about this work or an
    unknown one.

    Args:
        until_s: On `Clock.elapsed_s`; no request starts later.

    Raises:
        UnauthorizedError: The key is refused.
        LedgerError: The ledger does not answer.
    """
    n_news, last = 0, None
    worker = _Worker(session, work, until_s)
    while True:
        now_us = session.clock.now_us()
        events = await asyncio.to_thread(
            session.ledger.events.due, now_us, EVENTS_BATCH, after=last
        )
        if not events:
            return n_news
        n_news += await worker.process(events)
        last = events[-1]


@dataclass(frozen=True)
class _Event:
    """An event with what can be known of it without a request."""

    event: WebhookEvent
    task_event: TaskEvent | None
    tag: IntentTag | None


@dataclass
class _Worker:
    session: Session
    work: Work
    until_s: float | None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT_MAX))

    async def process(self, events: Sequence[WebhookEvent]) -> int:
        items = [self._open(event) for event in events]
        owners = await asyncio.to_thread(self._owners, items)
        news = await asyncio.gather(
            *(self._work_safely(item, owners.get(item.event.event_id)) for item in items)
        )
        return sum(news)

    def _open(self, event: WebhookEvent) -> _Event:
        if event.body is None:
            return _Event(event, None, None)
        stands_for_end_us = event.signed_at_us or event.received_at_us
        body = parse_json(event.body.encode("utf-8"))
        task_event = self.session.client.profile.decode_event(body, at_us=stands_for_end_us)
        return _Event(event, task_event, self._own_tag(task_event.metadata) if task_event else None)

    def _own_tag(self, metadata: object) -> IntentTag | None:
        value = metadata.get(INTENT_TAG_KEY) if isinstance(metadata, dict) else None
        tag = parse_tag(value)
        return tag if tag is not None and tag.ledger_id == self.session.ledger.ledger_id else None

    def _owners(self, items: Sequence[_Event]) -> dict[str, Intent]:
        """The intents that the events are about, by event: by task where known, else by tag."""
        ledger = self.session.ledger
        by_task = ledger.read.owners([item.event.task_id for item in items])
        by_tag = {x.event.event_id: x.tag.intent_id for x in items if x.tag is not None}
        wanted = {
            item.event.event_id: by_task.get(item.event.task_id) or by_tag.get(item.event.event_id)
            for item in items
        }
        ids = sorted({intent_id for intent_id in wanted.values() if intent_id})
        intents = ledger.read.intents_by_id(ids)
        return {
            event_id: intents[intent_id]
            for event_id, intent_id in wanted.items()
            if intent_id in intents
        }

    async def _work_safely(self, item: _Event, intent: Intent | None) -> bool:
        """Process one event, postponed if that fails; return whether it brought something new."""
        try:
            if item.event.is_signed:
                return await self._work_signed(item, intent)
            async with self._slots:
                return await self._work_unverified(item.event, intent)
        except (LedgerError, ArithmeticError, ValueError):
            await self._try_later(item.event)
            return False

    async def _work_signed(self, item: _Event, intent: Intent | None) -> bool:
        event, task_event = item.event, item.task_event
        if task_event is None:
            return await self._end(event, EventOutcome.KNOWN)
        attachment = await self._attach(event.task_id, intent, item.tag)
        if intent is None or attachment is None:
            is_ours = item.tag is not None
            return await self._end(
                event, EventOutcome.UNMATCHED if is_ours else EventOutcome.FOREIGN
            )
        task = task_event.task
        if task is None:
            # The row has the status of its first task.
            has_to_ask = attachment is Attachment.SURPLUS
        else:
            has_to_ask = not self._is_beyond_doubt(task, intent)
        if has_to_ask:
            task = await self._ask(event)
            if task is None:
                return False
        if task is not None:
            is_news = await self._record(intent, task)
        else:
            # To be read like a task that polling found: that it is finished is known now.
            now = self.session.clock.instant()
            await self.session.ledger.observe(
                Observation(Source.WEBHOOK, task_event.task_id, now, status=task_event.status)
            )
            is_news = intent.state not in FINAL
        outcome = EventOutcome.READ if is_news else EventOutcome.KNOWN
        return await self._end(event, outcome, intent)

    async def _work_unverified(self, event: WebhookEvent, intent: Intent | None) -> bool:
        if intent is not None and intent.state in FINAL and intent.task_id == event.task_id:
            return await self._end(event, EventOutcome.KNOWN, intent)
        if intent is not None and intent.row.batch != self.work.ledger_name:
            age_us = self.session.clock.now_us() - event.received_at_us
            if age_us > UNVERIFIED_KEPT_US:
                await self._end(event, EventOutcome.UNCONFIRMED)
            return False
        task = await self._ask(event)
        if task is None:
            return False
        tag = self._own_tag(dict(task.metadata))
        if intent is None and tag is not None:
            found = await asyncio.to_thread(self.session.ledger.read.intents_by_id, [tag.intent_id])
            intent = found.get(tag.intent_id)
        attachment = await self._attach(task.task_id, intent, tag)
        if intent is None or attachment is None:
            outcome = EventOutcome.FOREIGN if tag is None else EventOutcome.UNMATCHED
            return await self._end(event, outcome)
        is_news = await self._record(intent, task)
        return await self._end(event, EventOutcome.READ if is_news else EventOutcome.KNOWN, intent)

    async def _ask(self, event: WebhookEvent) -> Task | None:
        """Read the task that an event is about; None if it is not finished at Mynth now."""
        clock = self.session.clock
        if self.until_s is not None and clock.elapsed_s() >= self.until_s:
            return None
        if not await self.session.account.may_read(event.task_id):
            if clock.now_us() - event.received_at_us > UNVERIFIED_KEPT_US:
                await self._end(event, EventOutcome.UNCONFIRMED)
            return None
        try:
            task = await self.session.client.get_task(event.task_id)
        except UnauthorizedError:
            raise
        except ApiError:
            task = None
        if task is None or not task.status.is_final:
            await self._try_later(event)
            return None
        return task

    async def _attach(
        self, task_id: str, intent: Intent | None, tag: IntentTag | None
    ) -> Attachment | None:
        """Attach the task to the intent; None if it is not a task of this intent."""
        if intent is None:
            return None
        if tag is not None and not tag.is_of(intent.intent_id, intent.request_hash):
            # Proof of nothing; but the row may not be cleared as if nobody had named it.
            now = self.session.clock.instant()
            await self.session.ledger.record_dispute(intent.intent_id, task_id, now)
            return None
        is_own_batch = intent.row.batch == self.work.ledger_name
        deadline_s = self.work.batch.delivery.deadline_s if is_own_batch else TASK_DEADLINE_S
        now = self.session.clock.instant()
        observed = await self.session.ledger.observe(
            Observation.of_intent(Source.WEBHOOK, intent, task_id, now, deadline_s=deadline_s)
        )
        return None if observed.attachment is Attachment.FOREIGN else observed.attachment

    def _is_beyond_doubt(self, task: Task, intent: Intent) -> bool:
        """
        Whether an event may close its row: its signature proves who sent it, not what is true.

        An event to the row's disadvantage is confirmed by a free read of the task: a failure, fewer
        images than requested, or a task that does not carry the row's tag.
        """
        is_whole = task.status is TaskStatus.COMPLETED and task.n_delivered >= intent.n_asked
        return is_whole and (task.type in FOLLOW_UP_TASKS or INTENT_TAG_KEY in task.metadata)

    async def _record(self, intent: Intent, task: Task) -> bool:
        if not await is_own(self.session, task, intent):
            return False
        reach(CrashPoint.EVENT_ATTACHED)
        now, attached = self.session.clock.instant(), Awaited.of(intent, task.task_id)
        observed = await self.session.ledger.observe(
            Observation(Source.WEBHOOK, task.task_id, now, attached, task=task)
        )
        reach(CrashPoint.EVENT_RECORDED)
        return observed.is_news

    async def _end(
        self, event: WebhookEvent, outcome: EventOutcome, intent: Intent | None = None
    ) -> bool:
        """Mark an event as processed; return whether it brought something new."""
        await self.session.ledger.events.finish(
            EventEnd(
                event_id=event.event_id,
                outcome=outcome,
                at_us=self.session.clock.now_us(),
                batch=intent.row.batch if intent else None,
            )
        )
        return outcome is EventOutcome.READ

    async def _try_later(self, event: WebhookEvent) -> None:
        if event.n_tries + 1 >= UNVERIFIED_TRIES_MAX:
            await self._end(event, EventOutcome.UNCONFIRMED)
            return
        delay_s = UNVERIFIED_DELAY_S * 2.0**event.n_tries
        due_at_us = self.session.clock.now_us() + round(delay_s * US_PER_S)
        await self.session.ledger.events.postpone(Postponement(event.event_id, due_at_us))
