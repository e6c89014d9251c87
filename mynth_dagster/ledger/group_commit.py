"""
One writer thread; whatever is queued when the last COMMIT returns goes into the next one.

No timer: an idle ledger commits a lone write at once, a busy one commits hundreds together.
What is asked for within one turn of an event loop is handed over together: callers that one
COMMIT woke would otherwise meet the writer one by one.
Callers wake only after COMMIT. Writes run in the order of their `rank`, so that answers, which
are paid for, go ahead of new intents. A failed group is retried member by member: one bad
write must not take its neighbours' task ids with it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.errors import LedgerUnavailableError

P = TypeVar("P")
R = TypeVar("R")

GROUP_MAX = 1000


@dataclass(frozen=True)
class Write(Generic[P, R]):
    """
    A kind of write.

    `apply` runs inside a transaction on all queued members at once and returns their results
    in order. `rank` orders the kinds of one group; lower goes first.
    """

    name: str
    rank: int
    apply: Callable[[Connection, Sequence[P]], Sequence[R]]


@dataclass
class _Queued:
    write: Write[Any, Any]
    params: Any
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = field(default=None)


class GroupCommit:
    """The writer thread of one process; `submit` from any event loop, `close` once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[list[_Queued] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._this_turn: dict[asyncio.AbstractEventLoop, list[_Queued]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mynth-ledger", daemon=True)
        self._thread.start()

    async def submit(self, write: Write[P, R], params: P) -> R:
        """
        Queue one write and wait for its COMMIT.

        Raises:
            LedgerError: What `apply` raised for this member.
            LedgerUnavailableError: The database did not confirm.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        with self._lock:
            if self._closed:
                raise LedgerUnavailableError("the ledger is closed")
            waiting = self._this_turn.setdefault(loop, [])
            waiting.append(_Queued(write, params, loop, done))
        if len(waiting) == 1:
            loop.call_soon(self._hand_over, loop)
        # A write is never taken back: a cancelled caller must not lose a task id.
        return await asyncio.shield(done)

    def close(self) -> None:
        """Commit what was asked for and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for waiting in self._this_turn.values():
                self._queue.put(waiting)
            self._this_turn.clear()
            self._queue.put(None)
        self._thread.join()

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            waiting = self._this_turn.pop(loop, None)
            if waiting:
                self._queue.put(waiting)

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._next_group()
            if group:
                self._commit(group)
                _wake(group)

    def _next_group(self) -> tuple[list[_Queued], bool]:
        group: list[_Queued] = []
        item = self._queue.get()
        while item is not None:
            group += item
            if len(group) >= GROUP_MAX:
                return group, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _commit(self, group: list[_Queued]) -> None:
        group.sort(key=lambda queued: queued.write.rank)
        try:
            self._transact(group)
        except Exception as error:  # noqa: BLE001 - a write that fails must not end the only writer
            if len(group) == 1:
                group[0].error = _translated(error)
                return
            for queued in group:
                self._commit([queued])

    def _transact(self, group: Iterable[_Queued]) -> None:
        with self._engine.begin() as connection:
            for _, members_of_kind in groupby(group, key=lambda queued: queued.write.name):
                members = list(members_of_kind)
                apply = members[0].write.apply
                results = apply(connection, [queued.params for queued in members])
                for queued, result in zip(members, results, strict=True):
                    queued.result = result


def _translated(error: Exception) -> Exception:
    if not isinstance(error, sa.exc.SQLAlchemyError):
        return error
    cause = getattr(error, "orig", None) or error
    unavailable = LedgerUnavailableError(f"the ledger did not confirm a write: {cause}")
    unavailable.__cause__ = error
    return unavailable


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
