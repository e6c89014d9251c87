"""The receiver on a port of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from mynth_dagster.clock import SystemClock
from mynth_dagster.webhook.app import WebhookApp
from mynth_dagster.webhook.protocol import BoundedProtocol
from mynth_dagster.webhook.settings import WebhookSettings

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
    with _listen(host, port) as listener:
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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
