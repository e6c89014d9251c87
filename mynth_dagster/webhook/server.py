"""The receiver on a port of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mynth_dagster.clock import SystemClock
from mynth_dagster.limits import WEBHOOK_HEAD_MAX_BYTES, WEBHOOK_REQUEST_TIMEOUT_S
from mynth_dagster.webhook.app import WebhookApp, WebhookSettings

BACKLOG = 2048
KEEP_ALIVE_S = 15


def serve(
    settings: WebhookSettings, *, host: str, port: int, announce: Callable[[str], None]
) -> None:
    """
    Receive until SIGINT or SIGTERM; what came by then is committed.

    Args:
        settings: Where events go, and who is believed.
        host: Address to listen on.
        port: TCP port; 0: any free one.
        announce: Called with the base URL once the port is open.

    Raises:
        ConfigError: The ledger's URL is none.
        SchemaVersionError: A newer release wrote the ledger.
        OSError: The port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    with socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_dual
    ) as listener:
        asyncio.run(_serve(settings, listener, host, announce))


async def _serve(
    settings: WebhookSettings,
    listener: socket.socket,
    host: str,
    announce: Callable[[str], None],
) -> None:
    app = WebhookApp(settings, SystemClock())
    await app.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        await _Server(_configure(app)).serve([listener])
    finally:
        await app.close()


class _Server(uvicorn.Server):
    """uvicorn which ends by a signal without raising it again: the ledger is closed after it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _configure(app: WebhookApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,  # paths hold tokens
        log_config=None,
        log_level="critical",  # what is no HTTP would be logged line by line
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=20,
        backlog=BACKLOG,
    )


class BoundedProtocol(HttpToolsProtocol):
    """
    One connection; whoever is too slow or too long-winded with a head is cut off.

    uvicorn has no setting for either: its timeouts begin after a response, and its bound on an
    incomplete head (of its other parser) answers with a text of its own.
    """

    _timer: asyncio.TimerHandle | None = None
    _n_head_bytes = 0
    _is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._n_head_bytes += len(data)
            if self._n_head_bytes > WEBHOOK_HEAD_MAX_BYTES and not self.transport.is_closing():
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._n_head_bytes = True, 0
        self._watch()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._unwatch()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """One text for whatever is no HTTP."""
        super().send_400_response("refused\n")

    def _watch(self) -> None:
        self._unwatch()
        self._timer = self.loop.call_later(WEBHOOK_REQUEST_TIMEOUT_S, self.transport.close)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
