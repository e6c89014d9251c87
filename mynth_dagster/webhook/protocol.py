"""uvicorn's HTTP protocol with bounds on the head of a request: bytes, and time to send it."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mynth_dagster.limits import WEBHOOK_HEAD_MAX_BYTES, WEBHOOK_REQUEST_TIMEOUT_S


class BoundedProtocol(HttpToolsProtocol):
    """One connection; whoever is too slow or too long-winded with a head is cut off."""

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
