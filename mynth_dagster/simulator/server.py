"""The simulator on a real socket: on a thread for tests, in the foreground for people."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mynth_dagster.clock import Clock, ManualClock
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.app import Simulator
from mynth_dagster.simulator.faults import TRANSPORT
from mynth_dagster.simulator.request_log import ConnectionCounts
from mynth_dagster.simulator.scenario import Scenario
from mynth_dagster.simulator.state import Archive

Value = TypeVar("Value")

_START_TIMEOUT_S = 30.0
_BACKLOG = 2048


class SimulatorServer:
    """
    A simulated Mynth that listens on a port while the context is open.

    It serves from a thread of its own; the methods here may be called from any other thread.

    Args:
        scenario: What to play.
        port: TCP port; 0: any free one, chosen by `start`.
        host: Address to listen on.
        clock: Time of the simulated Mynth; None: the machine's.
        keep: File that keeps the requests of tasks, from which they are made again.

    Raises:
        ScenarioError: The tasks that were kept were made under another scenario.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        clock: Clock | None = None,
        keep: Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        archive = None if keep is None else Archive(keep)
        self.app = Simulator(scenario or Scenario(), clock=clock, archive=archive)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SimulatorServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def scenario(self) -> Scenario:
        """What is being played."""
        return self.app.scenario

    def start(self) -> None:
        """
        Listen, and return once clients can connect.

        Raises:
            OSError: The port is taken or the address is not this machine's.
        """
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._server = _Server(self.app)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="mynth-simulator", daemon=True
        )
        self._thread.start()
        if not self._server.is_ready.wait(_START_TIMEOUT_S):
            raise RuntimeError("the simulator did not start")

    def stop(self) -> None:
        """Stop listening, cut what is still delayed, and return once the thread has ended."""
        if self._server is None or self._thread is None:
            return
        self._server.stop()
        self._thread.join()
        self._server = self._thread = None

    def log(self) -> dict[str, Any]:
        """What ``GET /_simulator/log`` answers."""
        return self._run(self.app.log)

    def reset(self, scenario: Scenario | None = None) -> None:
        """Forget all tasks, money and counts; play ``scenario``, or the present one again."""
        self._run(lambda: self.app.reset(scenario))

    def set_scenario(self, **changes: Any) -> None:
        """
        Replace fields of the scenario, with plain or typed values; tasks and money stay.

        Raises:
            ScenarioError: A field is unknown or does not fit; nothing was changed.
        """
        self._run(lambda: self.app.change(changes))

    def complete(self, task_ids: Iterable[str] | None = None) -> int:
        """
        Settle the named tasks, or all that are pending; how many were pending.

        Raises:
            KeyError: An id is unknown.
        """
        return self._run(lambda: self.app.complete(task_ids))

    def advance(self, seconds: float) -> None:
        """
        Move a manual clock forward; tasks fall due and delayed answers leave.

        Raises:
            TypeError: The simulator does not run on a `ManualClock`.
        """
        clock = self.app.clock
        if not isinstance(clock, ManualClock):
            raise TypeError("only a simulator with a ManualClock can be advanced")
        self._run(lambda: clock.advance(seconds))

    def _run(self, function: Callable[[], Value]) -> Value:
        if self._server is None:
            return function()
        return self._server.run_on_loop(function)


def serve(
    scenario: Scenario,
    *,
    host: str = "127.0.0.1",
    port: int = 8787,
    keep: Path | None = None,
    announce: Callable[[str, str], None] | None = None,
) -> None:
    """
    Serve until SIGINT or SIGTERM; call it on the main thread.

    Args:
        scenario: What to play.
        host: Address to listen on.
        port: TCP port.
        keep: As of `SimulatorServer`.
        announce: Called once with the URL, and a line that names it and the key; None: the line
            is written to stdout.

    Raises:
        OSError: The port is taken or the address is not this machine's.
        ScenarioError: As of `SimulatorServer`.
    """
    stopping = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: stopping.set()) for number in signals]
    try:
        with SimulatorServer(scenario, host=host, port=port, keep=keep) as server:
            keys = ", ".join(entry.key for entry in server.scenario.api_keys) or "none"
            line = f"simulated Mynth {scenario.revision} at {server.url}, API key {keys}"
            if announce is None:
                print(line, flush=True)  # noqa: T201 - the one line that people wait for
            else:
                announce(server.url, line)
            stopping.wait()
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn without signals, which says when it is ready and stops at once when told."""

    def __init__(self, app: Simulator) -> None:
        config = uvicorn.Config(
            app,
            http=ObservedProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            date_header=False,  # the scenario's clock dates the answers
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_keep_alive=defaults.KEEP_ALIVE_S,
            backlog=_BACKLOG,
        )
        super().__init__(config)
        self.is_ready = threading.Event()
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await super().startup(sockets)
        self.is_ready.set()

    async def main_loop(self) -> None:
        assert self._stopping is not None
        delivering = asyncio.ensure_future(self._app.deliver())
        n_ticks = 0
        while not self._stopping.is_set():
            await self.on_tick(n_ticks)
            n_ticks += 1
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.1)
        delivering.cancel()
        with suppress(asyncio.CancelledError):
            await delivering
        self._app.close()

    def stop(self) -> None:
        """Make `run` return soon; called from another thread."""
        assert self._stopping is not None
        self.run_on_loop(self._stopping.set)

    def run_on_loop(self, function: Callable[[], Value]) -> Value:
        """The value of ``function`` called on the serving thread."""
        assert self._loop is not None
        outcome: Future[Value] = Future()

        def call() -> None:
            try:
                outcome.set_result(function())
            except Exception as exc:  # noqa: BLE001 - handed over to the thread that waits
                outcome.set_exception(exc)

        self._loop.call_soon_threadsafe(call)
        return outcome.result()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class ObservedProtocol(HttpToolsProtocol):
    """
    One connection of a client: uvicorn's HTTP protocol, which counts it and lets faults cut it.

    The app must have ``connections``, and be served as plain ASGI 3 without proxy headers,
    so that uvicorn hands it on unwrapped.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._observer.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._observer.closed()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Put the transport where `faults.cut` finds it."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["extensions"] = {TRANSPORT: self.transport}

    @property
    def _observer(self) -> ConnectionCounts:
        observer: ConnectionCounts = self.app.connections
        return observer
