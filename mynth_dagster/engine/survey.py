"""
Reading the prompt tables of partitions against the ledger: first to count and price, then to send.

Two passes, since a price is told before anything is sent. Between them the ledger may change;
whoever claims a row first wins it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from mynth_dagster.chunks import chunks
from mynth_dagster.engine.asking import NOTHING_SPECIAL, Asking, PaidAgain
from mynth_dagster.engine.plan import Decision, Delivery, PriceClass, Step, decide, price_class
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.uploads import InputUploads
from mynth_dagster.limits import UPLOADS_AHEAD_MAX
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.request import ImageRequest, InputImage, Wish
from mynth_dagster.tables.inputs import BadInput
from mynth_dagster.tables.requests import (
    PlannedBatch,
    PromptRow,
    iter_planned_batches,
    iter_rows_to_inspect,
)
from mynth_dagster.tables.store import TableStore

ROWS_AT_ONCE = 500
"""Rows that are requests, and decisions, at a time; cells of a table are far smaller."""


@dataclass
class Survey:
    """
    What a run would do.

    `rows` counts rows by step, `to_send_in` those to send by partition; `n_again` of those to send
    were asked for before, as they read now or otherwise; `n_repeated` rest in the middle of a
    delivery. `paid` tells by partition how much would be paid again, `n_paid_again` the rows asked
    anew of them by price. `moved` are the intents of
    rows whose partition changed with the fan-out, each with its new key. `files` are the input
    files of rows to send, each once, up to `UPLOADS_AHEAD_MAX`; `destinations` the storage that
    they name.
    """

    rows: Counter[Step] = field(default_factory=Counter)
    n_requests: Counter[PriceClass] = field(default_factory=Counter)
    samples: dict[PriceClass, Wish] = field(default_factory=dict)
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
        """Count rows that were delivered, and paid for, as they read now."""
        self.rows[Step.DONE] += n_rows
        self.paid.setdefault(slice_.key, PaidAgain()).n_present += n_rows

    def add(self, row: PromptRow, decision: Decision, slice_: Slice) -> None:
        """Count one row."""
        self.rows[decision.step] += 1
        rest = decision.rest
        if rest is not None and rest.fan_out != slice_.fan_out:
            self.moved.append((rest.intent_id, slice_.fan_out))
        paid = self.paid.setdefault(slice_.key, PaidAgain())
        paid.n_present += decision.was_paid
        paid.n_again += decision.was_paid and decision.is_further_wish
        paid.n_new += decision.is_first_wish
        if decision.step is not Step.SEND:
            return
        self.to_send_in[slice_] += 1
        kind = price_class(row.request)
        self.n_requests[kind] += 1
        self.samples.setdefault(kind, row.request)
        self.n_again += decision.is_further_wish
        self.n_paid_again[kind] += decision.was_paid and decision.is_further_wish
        self.n_repeated += rest is not None
        if isinstance(row.request, ImageRequest) and row.request.delivery.destination:
            self.destinations.add(row.request.delivery.destination)
        for image in row.request.inputs:
            if image.content_hash and len(self.files) < UPLOADS_AHEAD_MAX:
                self.files.setdefault(image.content_hash, image)


async def survey(
    session: Session, batch: Batch, slices: Sequence[Slice], asking: Asking = NOTHING_SPECIAL
) -> Survey:
    """Count and classify every row of these partitions; sends nothing."""
    counted, reader = Survey(), session.ledger.read
    for slice_ in slices:
        n_paid = await asyncio.to_thread(reader.n_paid_rows, batch.ledger_name, slice_)
        counted.paid[slice_.key] = PaidAgain(n_paid=n_paid)
        async for decided in _decided(session, batch, slice_, asking):
            counted.add_delivered(decided.n_delivered, slice_)
            for row, decision in decided.others:
                counted.add(row, decision, slice_)
    return counted


async def deliveries(
    session: Session,
    batch: Batch,
    slices: Sequence[Slice],
    uploads: InputUploads,
    asking: Asking = NOTHING_SPECIAL,
) -> AsyncGenerator[list[Delivery], None]:
    """The rows to send, in the order of the tables, once their input files are at Mynth."""
    for slice_ in slices:
        async for decided in _decided(session, batch, slice_, asking):
            to_send = [(row, how) for row, how in decided.others if how.step is Step.SEND]
            await uploads.make_ready(image for row, _ in to_send for image in row.request.inputs)
            yield [_delivery(row, decision, slice_, uploads) for row, decision in to_send]


def _delivery(row: PromptRow, decision: Decision, slice_: Slice, uploads: InputUploads) -> Delivery:
    resolved = uploads.resolve(row.request)
    obstacle = resolved if isinstance(resolved, BadInput) else None
    return Delivery(
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
    """Rows of which nothing is left to decide, and the others with what is decided of them."""

    n_delivered: int
    others: list[tuple[PromptRow, Decision]]


async def _decided(
    session: Session, batch: Batch, slice_: Slice, asking: Asking
) -> AsyncIterator[_Decided]:
    """Row batches with their decisions; files and ledger are read on a worker thread."""
    batches = _decide_batches(session, batch, slice_, asking)
    while (decided := await asyncio.to_thread(next, batches, None)) is not None:
        yield decided


def _decide_batches(
    session: Session, batch: Batch, slice_: Slice, asking: Asking
) -> Iterator[_Decided]:
    store = TableStore(session.settings.root, batch.name)
    if batch.inspection is not None:
        for rows in iter_rows_to_inspect(store, slice_, batch=batch):
            yield _Decided(0, _decide_each(session, batch, slice_, rows, asking))
        return
    for planned in iter_planned_batches(store, slice_, batch=batch):
        open_ = _open_places(session, batch, slice_, planned, asking)
        yield _Decided(len(planned.request_keys) - len(open_), [])
        for places in chunks(open_, ROWS_AT_ONCE):
            rows = planned.rows(places)
            yield _Decided(0, _decide_each(session, batch, slice_, rows, asking))


def _open_places(
    session: Session, batch: Batch, slice_: Slice, planned: PlannedBatch, asking: Asking
) -> list[int]:
    """Where the rows are that were not delivered as they read now, or are asked for again."""
    keys, hashes = planned.request_keys, planned.request_hashes
    if asking.is_special:
        return list(range(len(keys)))
    settled = session.ledger.read.delivered(batch.ledger_name, slice_, keys)
    each = enumerate(zip(keys, hashes, strict=True))
    return [place for place, (key, identity) in each if settled.get(key) != identity]


def _decide_each(
    session: Session, batch: Batch, slice_: Slice, rows: Sequence[PromptRow], asking: Asking
) -> list[tuple[PromptRow, Decision]]:
    covered = [row for row in rows if asking.covers(row.prompt_id)]
    keys = [row.request_key for row in covered]
    known = session.ledger.read.intents_for(batch.ledger_name, slice_.window, keys)

    def decision(row: PromptRow) -> Decision:
        intents = known.get(row.request_key, ())
        return decide(row.request_hash, intents, asking, retries=batch.retries)

    return [(row, decision(row)) for row in covered]
