"""uvicorn's HTTP protocol, observed: connections are counted and can be cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mynth_dagster.simulator.wire import TRANSPORT

if TYPE_CHECKING:
    from mynth_dagster.simulator.journal import Connections


class ObservedProtocol(HttpToolsProtocol):
    """
    One connection of a client.

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
        """Put the transport where `wire.cut` finds it."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["extensions"] = {TRANSPORT: self.transport}

    @property
    def _observer(self) -> Connections:
        observer: Connections = self.app.connections
        return observer
