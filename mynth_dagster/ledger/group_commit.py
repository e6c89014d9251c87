"""
Group commit: one writer thread that commits many writes with one COMMIT.

A durable COMMIT waits for the disk, and a paid request needs two of them; hundreds of requests are
in flight. So writes are not committed one by one. A single thread takes whatever is queued when the
last COMMIT returns, and commits it together. There is no timer: an idle ledger commits a lone write
at once, and the busier it is, the larger the groups become. Writes of one event loop are handed
over as soon as a turn of the loop adds no more: the callers that one COMMIT wakes would otherwise
reach the writer one by one, and each would wait for a COMMIT of its own.

Callers wake only after COMMIT. Within a group, writes run in the order of their `rank`: responses,
which are paid for, go before new intents. If a group fails, its members are committed one by one,
so that one bad write does not lose the task ids of the others.

If the database is unreachable, the thread waits and tries again. Every write may be repeated, so
the whole group is; meanwhile responses that were paid for are written to the journal, and new
writes join the group.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from sqlalchemy.engine import Connection, Engine

from mynth_dagster.clock import block_s
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import LedgerMismatchError, LedgerUnavailableError
from mynth_dagster.ledger.database import RetryBudget, in_our_words, is_outage
from mynth_dagster.ledger.journal import Journal, JournalEntry

P = TypeVar("P")
R = TypeVar("R")
Args = ParamSpec("Args")

GROUP_MAX = 1000
FORGOTTEN = (
    "The database came back without something that it had confirmed: an older copy was put in "
    "its place, or a failover lost transactions. Nothing more is sent, since rows that it forgot "
    "would be paid for again. Bring the lost part back, or make a new ledger from the tables and "
    "the task list: `mynth-dagster ledger rebuild --root ROOT --batch BATCH --ledger URL`."
)


@dataclass(frozen=True)
class Write(Generic[P, R]):
    """
    A kind of write.

    `apply` runs inside a transaction on all queued members at once and returns their results
    in order; it may be called again with the same members, and then changes nothing more.
    `rank` orders the kinds of one group; lower goes first. `journaled` returns what of a member has
    to survive this process if the database does not answer, None if nothing has to. `is_kept`
    checks whether a member that was confirmed, with this result, is still there; it is called for
    members that have to survive, and for all of a kind without `journaled`.
    """

    name: str
    rank: int
    apply: Callable[[Connection, Sequence[P]], Sequence[R]]
    journaled: Callable[[P], JournalEntry | None] | None = None
    is_kept: Callable[[Connection, P, R], bool] | None = None


def _apply_calls(connection: Connection, calls: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    return [call(connection) for call in calls]


CALL: Write[Callable[[Connection], Any], Any] = Write("call", 5, _apply_calls)
"""Rare writes, each a function of the connection."""


@dataclass
class _Queued:
    write: Write[Any, Any]
    params: Any
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = field(default=None)
    is_journaled: bool = False

    @property
    def entry(self) -> JournalEntry | None:
        """What of the write has to survive this process."""
        return self.write.journaled(self.params) if self.write.journaled else None


class GroupCommit:
    """The writer thread of one process; `submit` from any event loop, `close` once."""

    def __init__(self, engine: Engine, *, pause: Callable[[float], None] = block_s) -> None:
        self._engine = engine
        self._pause = pause
        self.journal: Journal | None = None
        self._has_left_answers = False
        self._confirmed: dict[str, _Queued] = {}
        self._was_away = False
        self._queue: queue.SimpleQueue[list[_Queued] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.AbstractEventLoop, list[_Queued]] = {}
        self._closed = False
        self._open = True
        self._thread = threading.Thread(target=self._run, name="mynth-ledger", daemon=True)
        self._thread.start()

    async def submit(self, write: Write[P, R], params: P) -> R:
        """
        Queue one write and wait for its COMMIT.

        Raises:
            LedgerError: What `apply` raised for this member.
            LedgerUnavailableError: The database did not confirm.
        """
        # A write is never taken back: a cancelled caller loses its future and no task id.
        return await self.enqueue(write, params)

    async def call(
        self,
        function: Callable[Concatenate[Connection, Args], R],
        *args: Args.args,
        **kwargs: Args.kwargs,
    ) -> R:
        """Run a rare write, a function of the connection, in the next transaction."""
        return cast("R", await self.submit(CALL, lambda c: function(c, *args, **kwargs)))

    def enqueue(self, write: Write[P, R], params: P) -> asyncio.Future[R]:
        """Queue one write and return at once; the future is done after its COMMIT."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        with self._lock:
            if self._closed:
                raise LedgerUnavailableError("the ledger is closed")
            waiting = self._waiting.setdefault(loop, [])
            waiting.append(_Queued(write, params, loop, done))
        if len(waiting) == 1:
            loop.call_soon(self._hand_over, loop, 1)
        return done

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for waiting in self._waiting.values():
                self._queue.put(waiting)
            self._waiting.clear()
            self._queue.put(None)
        self._thread.join()

    def _hand_over(self, loop: asyncio.AbstractEventLoop, n_before: int) -> None:
        """Hand the loop's writes over once a turn added no more."""
        with self._lock:
            waiting = self._waiting.get(loop, ())
            if n_before < len(waiting) < GROUP_MAX:
                loop.call_soon(self._hand_over, loop, len(waiting))
            elif waiting:
                self._queue.put(self._waiting.pop(loop))

    def _run(self) -> None:
        while self._open:
            group = self._next_group()
            if group:
                self._commit(group)
                _wake(group)

    def _next_group(self) -> list[_Queued]:
        """Wait for a write, and take all that are queued."""
        item = self._queue.get()
        self._open = item is not None
        return [*(item or ()), *(self._queued() if self._open else ())]

    def _queued(self) -> list[_Queued]:
        """Take what is in the queue now, without waiting."""
        more: list[_Queued] = []
        while self._open and len(more) < GROUP_MAX:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            self._open = item is not None
            more += item or ()
        return more

    def _commit(self, group: list[_Queued]) -> None:
        """Commit a group, which grows while the database is unreachable."""
        patience = RetryBudget()
        while (error := self._try(group)) is not None:
            pause_s = patience.next_pause_s() if is_outage(error) else None
            if pause_s is None:
                self._fail(group, error)
                return
            self._keep_answers(group)
            self._pause(pause_s)
            group += self._queued()
        self._forget_answers(group)

    def _try(self, group: list[_Queued]) -> Exception | None:
        group.sort(key=lambda queued: queued.write.rank)
        try:
            self._transact(group)
        except Exception as error:  # noqa: BLE001 - a write that fails must not end the only writer
            self._was_away |= is_outage(error)
            return error
        self._was_away = False
        newest: dict[str, _Queued] = {}
        for queued in reversed(group):
            write = queued.write
            if write.is_kept is None or write.name in newest:
                continue
            if write.journaled is None or queued.entry is not None:
                newest[write.name] = queued
        self._confirmed |= newest
        return None

    def _require_intact(self, connection: Connection) -> None:
        """Check after an outage that the database still has what it confirmed last."""
        for last in self._confirmed.values():
            is_kept = last.write.is_kept
            if is_kept is not None and not is_kept(connection, last.params, last.result):
                raise LedgerMismatchError(FORGOTTEN)

    def _fail(self, group: list[_Queued], error: Exception) -> None:
        """Commit members one by one if one of them may be bad; fail all in an outage."""
        self._keep_answers(group)
        for queued in group:
            failure = error if is_outage(error) or len(group) == 1 else self._try([queued])
            if failure is not None:
                error = failure if is_outage(failure) else error
                queued.error = in_our_words(failure, "the ledger did not confirm a write")
                self._has_left_answers |= queued.is_journaled
        self._forget_answers(group)

    def _keep_answers(self, group: list[_Queued]) -> None:
        """Write responses that were paid for to the journal, before the wait for the database."""
        paid = [q for q in group if q.entry is not None and not q.is_journaled]
        if self.journal is None or not paid:
            return
        with suppress(OSError):  # the last resort failed too: the database may still come back
            self.journal.write([q.entry for q in paid if q.entry])
            for queued in paid:
                queued.is_journaled = True
        reach(CrashPoint.ANSWER_SPOOLED)

    def _forget_answers(self, group: list[_Queued]) -> None:
        if self.journal is None or self._has_left_answers:
            return
        if any(queued.is_journaled for queued in group):
            with suppress(OSError):  # taken in once more by whoever comes next, to no effect
                self.journal.clear()

    def _transact(self, group: Iterable[_Queued]) -> None:
        with self._engine.begin() as connection:
            if self._was_away:
                self._require_intact(connection)
            for _, members_of_kind in groupby(group, key=lambda queued: queued.write.name):
                members = list(members_of_kind)
                apply = members[0].write.apply
                results = apply(connection, [queued.params for queued in members])
                for queued, result in zip(members, results, strict=True):
                    queued.result = result
            reach(CrashPoint.IN_TRANSACTION)


def _wake(group: list[_Queued]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Queued]] = {}
    for queued in group:
        by_loop.setdefault(queued.loop, []).append(queued)
    for loop, members in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, members)


def _resolve(members: list[_Queued]) -> None:
    for queued in members:
        if queued.done.done():
            continue
        if queued.error is not None:
            queued.done.set_exception(queued.error)
        else:
            queued.done.set_result(queued.result)
