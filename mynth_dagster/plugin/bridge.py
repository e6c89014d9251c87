"""
The one bridge from Dagster's synchronous bodies to the asynchronous engine.

The engine's loop runs on a thread of its own; the body waits on Dagster's thread, where
cancellation is raised. Then sending stops and the answers in flight get a grace period.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Any, TypeVar

import dagster as dg

from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.session import run
from mynth_dagster.engine.stop import CANCELLED, StopSwitch, shut_out
from mynth_dagster.limits import DRAIN_GRACE_S

T = TypeVar("T")
Notice = Callable[[], None]

LOOK_UP_S = 0.2
"""How often the waiting body looks up, to be cancelled and to deliver notices."""
WATCH_S = 1.0
"""How often it asks whether its run is over to everybody else."""

Watch = Callable[[], str]
"""Says why the work is to end; an empty text: it goes on."""


def run_watch(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Watch:
    """
    Notices that a run is over although nobody interrupted its process.

    A run that is cancelled by force, or marked as failed by whoever watches it, is ended in Dagster
    alone; a step whose parent was killed is left behind.
    """
    instance, run_id = context.instance, context.run.run_id

    def watch() -> str:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            return "the process that started it is gone"
        try:
            run = instance.get_run_by_id(run_id)
        except Exception:  # noqa: BLE001 - Dagster's storage may be away for a while
            return ""
        if run is None:
            return "Dagster does not know it any more"
        return f"Dagster says that it is {run.status.value}" if run.status in _OVER else ""

    return watch


_OVER = (
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.FAILURE,
)


class Notices:
    """Things that the engine wants done on Dagster's thread, such as logging an event."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Notice] = queue.SimpleQueue()

    def put(self, notice: Notice) -> None:
        """From the engine's thread: have this called on Dagster's thread soon."""
        self._queue.put(notice)

    def deliver(self) -> None:
        """On Dagster's thread: call what is waiting."""
        while not self._queue.empty():
            self._queue.get()()


def run_on_engine_thread(
    work: Callable[[], Coroutine[Any, Any, T]],
    *,
    stop: StopSwitch,
    notices: Notices | None = None,
    watch: Watch = lambda: "",
    grace_s: float = DRAIN_GRACE_S,
) -> T:
    """
    Run a coroutine on a loop and thread of its own and wait for it.

    Whatever interrupts the wait (Dagster's cancel, Ctrl-C) sets `stop`, waits up to ``grace_s``
    for the work to record what is in flight, and is then raised on. What `watch` says about once a
    second ends the sending in the same way, and the work's own end is waited for.
    """
    done: Future[T] = Future()
    notices = notices or Notices()
    threading.Thread(target=_run, args=(work, done), name="mynth-engine", daemon=True).start()
    try:
        clock = SystemClock()
        watched_at_s = clock.elapsed_s()
        while not wait_for_futures([done], timeout=LOOK_UP_S).done:
            notices.deliver()
            if not stop.is_cancelled and clock.elapsed_s() - watched_at_s >= WATCH_S:
                watched_at_s = clock.elapsed_s()
                if why := watch():
                    stop.set(shut_out(why))
    except BaseException:
        stop.set(CANCELLED)
        wait_for_futures([done], timeout=grace_s)
        raise
    notices.deliver()
    return done.result()


def _run(work: Callable[[], Coroutine[Any, Any, T]], done: Future[T]) -> None:
    try:
        done.set_result(run(work()))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
        done.set_exception(error)
