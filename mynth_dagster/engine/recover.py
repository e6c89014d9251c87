"""
Recognition of a wrong ledger, and rebuilding of a lost one from the tables and the task list.

The tables contain what was sent until they were last written. Where the revision has a task list,
the tag in each task's metadata identifies the rest: an intent's id is a hash of ledger, row and
generation, so it can be computed for each row of the prompt tables and compared with the tag.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mynth_dagster.clock import Instant
from mynth_dagster.engine.lost_responses import ListSearch
from mynth_dagster.engine.session import Session
from mynth_dagster.engine.work import ImageWork, Work
from mynth_dagster.errors import LedgerMismatchError
from mynth_dagster.ledger.observations import Observation, Source
from mynth_dagster.limits import WALK_PAGES
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.intent import Intent, RowKey, intent_id, tag_of
from mynth_dagster.models.task import Task
from mynth_dagster.models.transitions import IntentState
from mynth_dagster.tables.manifest import (
    LedgerMark,
    RememberedPrompt,
    has_results,
    iter_prompts,
    read_mark,
    write_mark,
)
from mynth_dagster.tables.store import PROMPTS, TableStore

# The check that it is the right ledger, before anything is spent.
#
# A ledger that does not know what was paid for would pay for it again: another one, an older copy
# that was restored, or a new one beside the tables of a lost one.


NEWEST_PAGES = 2
"""Of the task list, read before a run pays, where no task on them is known."""

REBUILDING = "rebuild"
"""The submitter of partitions that are being restored: none."""


async def require_right_ledger(session: Session, work: Work) -> None:
    """
    Compare the ledger with the manifest beside the tables, and renew the manifest.

    Raises:
        LedgerMismatchError: The tables know another ledger, or this one when it knew more; or
            the newest tasks at Mynth carry intents of this ledger that it does not know.
    """
    batch = work.batch
    store = TableStore(session.settings.root, batch.name)
    known = await asyncio.to_thread(session.ledger.read.partitions, work.ledger_name)
    if any(row.submitter == REBUILDING for row in known):
        raise LedgerMismatchError(
            "The ledger is half made: a rebuild was cut off. Nothing was sent: rows that it does "
            f"not know yet would be paid for again. Run `{rebuild_command(session, batch)}` again."
        )
    mark = await asyncio.to_thread(read_mark, store)
    number = await session.ledger.newest_seq()
    ours = LedgerMark(session.ledger.ledger_id, number)
    reason = await asyncio.to_thread(_mismatch, ours, work, store, mark, is_known=bool(known))
    if reason is not None:
        raise LedgerMismatchError(
            f"{reason} {_put_back(session, batch)} If this one is what you want, run "
            f"`{_command('adopt', session, batch)}`. Both need --ledger URL where the ledger does "
            "not lie in the root."
        )
    await _require_newest_known(session, batch)
    await mark_tables(session, batch)


async def _require_newest_known(session: Session, batch: Batch) -> None:
    """
    Recognise a ledger that was restored together with its tables, so that their manifest fits.

    Tasks that it sent after the copy was made lie on top of the list, above all that it knows.
    """
    profile = session.client.profile
    if not profile.HAS_TASK_LIST:
        return
    walk = ListSearch(
        session,
        deadline_s=batch.delivery.deadline_s,
        page_size=profile.LIMITS.list_page_max,
        older_than_seq=await session.ledger.newest_seq() + 1,
    )
    await walk.go(n_pages=NEWEST_PAGES)
    if walk.unknown_intents:
        raise LedgerMismatchError(
            f"Mynth lists a task of the ledger {session.ledger.ledger_id} that it does not know "
            f"({walk.unknown_intents[0]}): an older copy was restored. {_put_back(session, batch)}"
        )


def _put_back(session: Session, batch: Batch) -> str:
    return (
        "Nothing was sent: rows that this ledger does not know would be paid for again. Put the "
        "right ledger back. If it is lost, name a new, empty one, or move this one's file away, "
        f"and run `{rebuild_command(session, batch)}`."
    )


def rebuild_command(session: Session, batch: Batch) -> str:
    """The command that makes the ledger of this batch, and of its follow-ups, anew."""
    is_named = batch.ledger_name != batch.name
    named = f" --identity {shlex.quote(batch.ledger_name)}" if is_named else ""
    return _command("rebuild", session, batch) + named


def _command(doing: str, session: Session, batch: Batch) -> str:
    root = shlex.quote(session.settings.root)
    return f"mynth-dagster ledger {doing} --root {root} --batch {batch.name}"


async def mark_tables(session: Session, batch: Batch) -> None:
    """Write beside the tables which ledger they belong to, and how much it knows now."""
    store = TableStore(session.settings.root, batch.name)
    mark = LedgerMark(session.ledger.ledger_id, await session.ledger.newest_seq())
    await asyncio.to_thread(write_mark, store, mark)


def _mismatch(
    ours: LedgerMark, work: Work, store: TableStore, mark: LedgerMark | None, *, is_known: bool
) -> str | None:
    ledger_id, number, where = ours.ledger_id, ours.number, store.batch_folder
    table, is_marked = work.result_table, mark is not None and work.is_known_by_mark
    if not is_marked and not is_known and has_results(store, table):
        return f"{where}/{table} holds results, the ledger {ledger_id} knows nothing of them."
    if mark is None:
        return None
    if mark.ledger_id != ledger_id:
        return f"The tables in {where} belong to the ledger {mark.ledger_id}, this is {ledger_id}."
    if mark.number > number:
        return (
            f"The ledger {ledger_id} knew more when it wrote the tables in {where} "
            f"(number {mark.number}) than it knows now ({number}): an older copy was restored."
        )
    return None


GENERATIONS_MAX = 50
"""Generations of a row that are looked for in the task list."""


@dataclass(frozen=True)
class Rebuilt:
    """What was found: intents in the tables, further ones in the list, and tasks of no row."""

    ledger_id: str
    n_from_tables: int
    n_from_list: int
    n_unplaced: int


async def rebuild(session: Session, batch: Batch, follow_ups: Sequence[Work]) -> Rebuilt:
    """
    Fill an empty ledger with what the tables and the task list contain of a batch.

    Nothing is sent. Tasks that are finished are read by the next collection, free of charge. If it
    is interrupted, repeat it: each step restores what is not there yet.

    Args:
        follow_ups: All that may have been asked about the batch's images. They carry no tag: what
            their tables do not tell is lost.

    Raises:
        TableError: The folders are not those of the batch; nothing was written.
        LedgerMismatchError: The ledger knows the batch already, or is another one and not empty.
        ApiError: The task list could not be read to its end; what was restored stays.
    """
    store = TableStore(session.settings.root, batch.name)
    slices = await asyncio.to_thread(store.slices, PROMPTS, batch)
    slices_of = [await asyncio.to_thread(store.slices, w.result_table, batch) for w in follow_ups]
    await _become(session, batch, store)
    account = await session.account.number()
    await session.ledger.open_partitions(batch.ledger_name, slices, REBUILDING)
    n_from_tables = await _restore_tables(session, ImageWork(batch), slices, account)
    tagged = await _tagged_tasks(session)
    n_from_list = 0
    for slice_ in slices:
        prompts = await asyncio.to_thread(lambda s: list(iter_prompts(store, s)), slice_)
        found = _from_list(session.ledger.ledger_id, batch, slice_, prompts, tagged)
        n_from_list += await _restore(session, found, account)
    for work, its_slices in zip(follow_ups, slices_of, strict=True):
        await session.ledger.open_partitions(work.ledger_name, its_slices, REBUILDING)
        n_from_tables += await _restore_tables(session, work, its_slices, account)
        await session.ledger.close_partitions(work.ledger_name, its_slices)
    n_unplaced = await _observe_all(session, tagged)
    # In this order: a ledger that is not marked yet can still be told from a finished one.
    await mark_tables(session, batch)
    await session.ledger.close_partitions(batch.ledger_name, slices)
    return Rebuilt(session.ledger.ledger_id, n_from_tables, n_from_list, n_unplaced)


async def _restore_tables(
    session: Session, work: Work, slices: Sequence[Slice], account: int
) -> int:
    n_restored = 0
    for slice_ in slices:
        n_restored += await _restore(session, await work.restore(session, slice_), account)
    return n_restored


async def _become(session: Session, batch: Batch, store: TableStore) -> None:
    """Take the id of the ledger that the tables name, so that its intents keep their ids."""
    known = await asyncio.to_thread(session.ledger.read.partitions, batch.ledger_name)
    if any(row.submitter != REBUILDING for row in known):
        raise LedgerMismatchError(
            f"The ledger knows {batch.name} already: nothing to rebuild. If it is not the right "
            "one, put that back; or name a new, empty ledger (--ledger URL), or move this one's "
            f"file away, and run `{rebuild_command(session, batch)}`."
        )
    mark = await asyncio.to_thread(read_mark, store)
    if mark is None or mark.ledger_id == session.ledger.ledger_id:
        return
    if not await session.ledger.adopt_id(mark.ledger_id):
        raise LedgerMismatchError(
            f"The tables belong to the ledger {mark.ledger_id}, and this one is in use already: "
            "name a new, empty ledger (--ledger URL), and run "
            f"`{rebuild_command(session, batch)}`."
        )


def _from_list(
    ledger_id: str,
    batch: Batch,
    slice_: Slice,
    prompts: Sequence[RememberedPrompt],
    tagged: Mapping[str, Sequence[Task]],
) -> list[Intent]:
    """Find the intents of these rows in the tags of tasks."""
    found: list[Intent] = []
    for prompt in prompts:
        row = RowKey(batch.ledger_name, slice_.window, prompt.request_key)
        for generation in range(1, GENERATIONS_MAX + 1):
            name = intent_id(ledger_id, row, generation)
            if name in tagged:
                found.append(_intent(name, row, generation, slice_, prompt, tagged[name][0]))
    return found


def _intent(
    name: str, row: RowKey, generation: int, slice_: Slice, prompt: RememberedPrompt, task: Task
) -> Intent:
    tag = tag_of(task)
    is_as_asked_now = tag is not None and tag.matches(prompt.request_hash)
    return Intent(
        intent_id=name,
        row=row,
        prompt_id=prompt.prompt_id,
        fan_out=slice_.fan_out,
        generation=generation,
        attempt=1,
        state=IntentState.ACCEPTED,
        request_hash=prompt.request_hash if is_as_asked_now else f"lost:{name}",
        model=prompt.model,
        n_asked=prompt.n_asked,
        claimed_at_us=task.created_at_us,
        send_by_us=task.created_at_us,
        submitted_at_us=task.created_at_us,
        deadline_at_us=task.created_at_us,
        task_id=task.task_id,
    )


async def _tagged_tasks(session: Session) -> dict[str, list[Task]]:
    """Read all tasks of the key's list that carry this ledger's tag, oldest first, by intent."""
    found: defaultdict[str, list[Task]] = defaultdict(list)
    if not session.client.profile.HAS_TASK_LIST:
        return found
    after: str | None = None
    while page := await session.client.list_tasks(limit=WALK_PAGES[0], after=after):
        known = await asyncio.to_thread(session.ledger.read.owners, [task.task_id for task in page])
        for listed in page:
            if listed.task_id not in known:
                task = await session.client.get_task(listed.task_id)
                tag = tag_of(task)
                if tag is not None and tag.ledger_id == session.ledger.ledger_id:
                    found[tag.intent_id].insert(0, task)
        after = page[-1].task_id
    return found


async def _restore(session: Session, intents: Sequence[Intent], account: int) -> int:
    return await session.ledger.restore(intents, account, session.clock.instant())


async def _observe_all(session: Session, tagged: Mapping[str, Sequence[Task]]) -> int:
    """Attach the other tasks, as first or further ones; return how many are of no known intent."""
    intents = await asyncio.to_thread(session.ledger.read.intents_by_id, list(tagged))
    n_unplaced = 0
    for name, tasks in tagged.items():
        for task in tasks:
            if name not in intents:
                n_unplaced += 1
                continue
            created_at = Instant(task.created_at_us)
            await session.ledger.observe(
                Observation(
                    Source.LIST, task.task_id, created_at, intents[name], task.created_at_us
                )
            )
    return n_unplaced
