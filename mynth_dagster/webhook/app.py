"""
The receiver as an ASGI app: verify, keep, acknowledge.

`POST /` takes signed events, `POST /custom/<token>` unsigned ones, `GET /health` says whether the
ledger answers. An event is acknowledged only after its COMMIT; working it is left to the engine.
All refusals carry the same text, so that they teach nobody anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from mynth_dagster.clock import Clock, SystemClock
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import ConfigError, LedgerError, MynthError, SchemaVersionError
from mynth_dagster.limits import WEBHOOK_BODY_MAX_BYTES, WEBHOOK_REQUEST_TIMEOUT_S
from mynth_dagster.models.receiver import RECEIVER_META
from mynth_dagster.webhook.gate import Refused, admit, require_bounded_head, require_known_place
from mynth_dagster.webhook.settings import WebhookSettings
from mynth_dagster.webhook.shelf import Shelf
from mynth_dagster.webhook.tally import Tally

REFUSED = b"refused\n"
HEALTH = "/health"
RETRY_AFTER_S = 5
_UNREADABLE = frozenset({404, 405, 408, 413, 431})
"""Refused before the body was read: the connection cannot be used again."""


def create_app(
    ledger_url: str,
    secrets: Sequence[str] = (),
    *,
    tokens: Sequence[str] = (),
    clock: Clock | None = None,
) -> WebhookApp:
    """
    A receiver to be mounted in any ASGI application.

    Args:
        ledger_url: SQLAlchemy URL of the ledger; the same that runs and sensors use.
        secrets: Of registered webhooks; two while one is being replaced.
        tokens: Secrets in the URLs of custom endpoints.
        clock: Time; None: the machine's.

    Raises:
        ConfigError: There is no secret, or one of them is unfit.
    """
    return WebhookApp(WebhookSettings(ledger_url, secrets, tokens), clock or SystemClock())


class WebhookApp:
    """A receiver; see `create_app`. Mounted apps need no start: the ledger opens on first use."""

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._shelf = Shelf(settings.ledger_url, clock)
        self.tally = Tally(clock)
        self._reporting: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._follow_lifespan(receive, send)
        elif scope["type"] == "http":
            status = await self._answer(scope, receive)
            await _send(send, status)
            self._report_sometimes()
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def start(self) -> None:
        """
        Open the ledger; one that does not answer yet is no reason not to start.

        Raises:
            ConfigError: The URL is no ledger's.
            SchemaVersionError: A newer release wrote it.
        """
        try:
            await self._shelf.ping()
        except SchemaVersionError:
            raise
        except LedgerError as error:
            self.tally.warn("the ledger does not answer: events get 503 until it does", str(error))

    async def close(self) -> None:
        """Remember the counts, commit what waits, and let go of the ledger."""
        await asyncio.gather(*self._reporting, return_exceptions=True)
        if self._shelf.is_open:
            await self._report()
        await self._shelf.close()

    async def _answer(self, scope: Scope, receive: Receive) -> int:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            if path == HEALTH and scope["method"] in ("GET", "HEAD"):
                await self._shelf.ping()
                return 204
            return await self._take_in(scope, path, receive)
        except Refused as refused:
            self.tally.refused(refused.reason)
            return refused.status
        except (LedgerError, ConfigError) as error:
            self.tally.warn("answered 503", str(error))
        except MynthError as error:
            self.tally.warn("answered 503", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - no request may bring the receiver down
            self.tally.warn("answered 503", type(error).__name__)
        return 503

    async def _take_in(self, scope: Scope, path: str, receive: Receive) -> int:
        headers = list(scope["headers"])
        is_signed = require_known_place(self._settings, scope["method"], path)
        require_bounded_head(headers)
        body = await _read_body(headers, receive)
        event = admit(
            self._settings,
            is_signed=is_signed,
            headers=headers,
            body=body,
            now_us=self._clock.now_us(),
        )
        if event is not None:
            reach(CrashPoint.EVENT_VERIFIED)
            is_new = await self._shelf.keep(event)
            reach(CrashPoint.EVENT_KEPT)
            self.tally.kept(is_new=is_new)
            if not is_new and await self._shelf.differs(event):
                self.tally.warn("an event came again and says something else", event.event_id)
        return 200

    def _report_sometimes(self) -> None:
        report = self.tally.take_report()
        if report is not None:
            task = asyncio.ensure_future(self._report())
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)

    async def _report(self) -> None:
        try:
            await self._shelf.remember(RECEIVER_META, self.tally.report().to_json())
            await self._shelf.tidy()
        except MynthError as error:
            self.tally.warn("the counts cannot be remembered", type(error).__name__)

    async def _follow_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except (ConfigError, SchemaVersionError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _read_body(headers: Sequence[tuple[bytes, bytes]], receive: Receive) -> bytes:
    """
    The whole body, within bounds of size and time.

    Raises:
        Refused: Too large, too slow, or cut off.
    """
    announced = [value for name, value in headers if name.lower() == b"content-length"]
    if any(not n.isdigit() or int(n[:20]) > WEBHOOK_BODY_MAX_BYTES for n in announced):
        raise Refused(413, "the body is too large")
    try:
        return await asyncio.wait_for(_gather(receive), WEBHOOK_REQUEST_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise Refused(408, "the body came too slowly") from None


async def _gather(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the sender went away")
        body += message.get("body", b"")
        if len(body) > WEBHOOK_BODY_MAX_BYTES:
            raise Refused(413, "the body is too large")
        if not message.get("more_body"):
            return bytes(body)


async def _send(send: Send, status: int) -> None:
    body = b"" if status < 300 else REFUSED
    headers = [(b"content-length", b"%d" % len(body))] if status != 204 else []
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if status in _UNREADABLE:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
