"""
The receiver as an ASGI app: verify, keep, acknowledge.

`POST /` takes signed events, `POST /custom/<token>` unsigned ones, `GET /health` says whether the
ledger answers. An event is acknowledged only after its COMMIT; working it is left to the engine.
All refusals carry the same text, so that they teach nobody anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mynth_dagster.clock import US_PER_S, Clock, SystemClock
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import (
    ConfigError,
    LedgerError,
    LedgerUnavailableError,
    MynthError,
    SchemaVersionError,
    WebhookRejectedError,
)
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import WebhookEvent
from mynth_dagster.limits import (
    EVENTS_KEPT_S,
    WEBHOOK_BODY_MAX_BYTES,
    WEBHOOK_COMMIT_TIMEOUT_S,
    WEBHOOK_HEAD_MAX_BYTES,
    WEBHOOK_HEADERS_MAX,
    WEBHOOK_REQUEST_TIMEOUT_S,
    WEBHOOK_TOKEN_MIN_CHARS,
    WEBHOOK_WAITING_MAX,
)
from mynth_dagster.models.receiver import RECEIVER_META, ReceiverReport
from mynth_dagster.printable import printable_logger
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.events import FINAL_EVENTS, EventHead, read_head
from mynth_dagster.wire.signatures import Stamp, read_stamp, verify, verify_standard

SECRETS_MAX = 2
"""The one in use, and the one that it replaces."""


_PLAIN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class WebhookSettings:
    """
    Settings of a receiver; secrets and tokens are never part of a repr.

    Args:
        ledger_url: SQLAlchemy URL of the ledger that stores the events.
        secrets: Secrets of registered webhooks, the whole text as Mynth shows it; two while one
            is being replaced, of either form. None: signed events are refused.
        tokens: Secrets in the URLs of custom endpoints, two while one is being replaced.
            None: there are no custom endpoints.

    Raises:
        ConfigError: Neither is given, or one of them is unfit.
    """

    ledger_url: str
    secrets: Sequence[str] = field(default=(), repr=False)
    tokens: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.secrets and not self.tokens:
            raise ConfigError(
                "MYNTH_WEBHOOK_SECRET",
                "a receiver without a secret would believe anybody: set it to the secret of the "
                "registered webhook, or MYNTH_WEBHOOK_TOKEN for custom endpoints",
            )
        for name, values in (("secret", self.secrets), ("token", self.tokens)):
            if isinstance(values, str) or len(values) > SECRETS_MAX:
                raise ConfigError(f"webhook {name}s", f"a list of at most {SECRETS_MAX}")
            if not all(_PLAIN.fullmatch(value) for value in values):
                raise ConfigError(f"webhook {name}", "empty, or with spaces or odd characters")
        if any(len(token) < WEBHOOK_TOKEN_MIN_CHARS or "/" in token for token in self.tokens):
            raise ConfigError(
                "webhook token",
                f"at least {WEBHOOK_TOKEN_MIN_CHARS} characters, none of them a slash",
            )

    def knows_token(self, given: str) -> bool:
        """Whether this is one of the tokens; takes as long for every wrong one."""
        raw = given.encode("utf-8", "replace")
        matches = [hmac.compare_digest(token.encode("utf-8"), raw) for token in self.tokens]
        return any(matches)


T = TypeVar("T")
RETRY_AFTER_S = 5
TIDIED_EVERY_S = 86_400.0
_UNREADABLE = frozenset({404, 405, 408, 413, 431})
"""Refused before the body was read: the connection cannot be used again."""
_REASONS = {"Not Found": "no such path", "Method Not Allowed": "the method is another one"}


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
    """
    A receiver; see `create_app`. Mounted apps need no start: the ledger opens on first use.

    A ledger that does not answer costs each request `WEBHOOK_COMMIT_TIMEOUT_S` at most, and all
    of them together a bounded number of writes that wait.
    """

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.stats = Stats(clock)
        self._opening: asyncio.Task[Ledger] | None = None
        self._tidied_at_s: float | None = None
        self._waiting: set[asyncio.Future[bool]] = set()
        self._reporting: set[asyncio.Task[None]] = set()
        self._routed = Starlette(
            routes=[
                Route("/", self._take_signed, methods=["POST"]),
                Route("/custom/{token:path}", self._take_custom, methods=["POST"]),
                Route("/health", self._health),
            ],
            exception_handlers={HTTPException: self._refuse},
        )
        self._routed.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._follow_lifespan(receive, send)
            return
        if scope["path"] == scope.get("root_path", ""):  # mounted, and called without a slash
            scope = {**scope, "path": f"{scope['path']}/"}
        await self._routed(scope, receive, send)
        if self.stats.is_report_due():
            task = asyncio.ensure_future(self._report())
            self._reporting.add(task)
            task.add_done_callback(self._reporting.discard)

    async def start(self) -> None:
        """
        Open the ledger; one that does not answer yet is no reason not to start.

        Raises:
            ConfigError: The URL is no ledger's.
            SchemaVersionError: A newer release wrote it.
        """
        try:
            await self._ping()
        except SchemaVersionError:
            raise
        except LedgerError as error:
            self.stats.warn("the ledger does not answer: events get 503 until it does", str(error))

    async def close(self) -> None:
        """Remember the counts, commit what waits, and let go of the ledger."""
        await asyncio.gather(*self._reporting, return_exceptions=True)
        opening = self._opening
        if opening is None:
            return
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            await self._report()
        opened = (await asyncio.gather(opening, return_exceptions=True))[0]
        self._opening = None
        if isinstance(opened, Ledger):
            await asyncio.to_thread(opened.close)

    async def ledger(self) -> Ledger:
        """
        The ledger, opened if need be; one for all requests.

        Raises:
            LedgerError: It cannot be opened; the next call tries again.
            ConfigError: The URL is no ledger's.
        """
        if self._opening is None:
            opened = asyncio.to_thread(Ledger.open, self._settings.ledger_url)
            self._opening = asyncio.ensure_future(opened)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._opening is opening:
                self._opening = None
            raise

    async def keep(self, event: WebhookEvent) -> bool:
        """
        Commit an event; False if it was kept before.

        Raises:
            LedgerError: The ledger did not confirm.
            ConfigError: The ledger cannot be opened at all.
        """

        async def commit() -> bool:
            return await (await self.ledger()).events.receive(event)

        def done(write: asyncio.Future[bool]) -> None:
            self._waiting.discard(write)
            if not write.cancelled():
                write.exception()  # whoever waited may have left; the error is not lost on anybody

        if len(self._waiting) >= WEBHOOK_WAITING_MAX:
            raise LedgerUnavailableError("too many events wait for the ledger")
        write = asyncio.ensure_future(commit())
        self._waiting.add(write)
        write.add_done_callback(done)
        return await _in_time(asyncio.shield(write))

    async def _take_signed(self, request: Request) -> Response:
        return await self._answered(self._take(request, is_signed=True))

    async def _take_custom(self, request: Request) -> Response:
        if not self._settings.knows_token(request.path_params["token"]):
            raise HTTPException(404, "the token in the URL is wrong")
        return await self._answered(self._take(request, is_signed=False))

    async def _health(self, _request: Request) -> Response:
        return await self._answered(self._ping(), status=204)

    async def _take(self, request: Request, *, is_signed: bool) -> None:
        headers = list(request.headers.raw)
        n_bytes = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > WEBHOOK_HEADERS_MAX or n_bytes > WEBHOOK_HEAD_MAX_BYTES:
            raise HTTPException(431, "too many or too long headers")
        body = await _read_body(request)
        event = admit(
            self._settings,
            is_signed=is_signed,
            headers=headers,
            body=body,
            now_us=self._clock.now_us(),
        )
        if event is not None:
            reach(CrashPoint.EVENT_VERIFIED)
            is_new = await self.keep(event)
            reach(CrashPoint.EVENT_KEPT)
            self.stats.kept(is_new=is_new)
            if not is_new and await self._differs(event):
                self.stats.warn("an event came again and says something else", event.event_id)

    async def _answered(self, work: Awaitable[None], status: int = 200) -> Response:
        """The answer once the work is done: no failure of ours may be a 500, or bring us down."""
        try:
            await work
        except HTTPException:
            raise
        except (LedgerError, ConfigError) as error:
            self.stats.warn("answered 503", str(error))
        except Exception as error:  # noqa: BLE001 - see above
            self.stats.warn("answered 503", type(error).__name__)
        else:
            return Response(status_code=status)
        return _refusal(503)

    async def _refuse(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        self.stats.refused(_REASONS.get(error.detail, error.detail))
        return _refusal(error.status_code)

    async def _ping(self) -> None:
        ledger = await _in_time(self.ledger())
        await _in_time(asyncio.to_thread(ledger.read.meta, "ledger_id"))

    async def _differs(self, event: WebhookEvent) -> bool:
        """Whether an event with this id was kept before with another body."""
        ledger = await _in_time(self.ledger())
        return await _in_time(asyncio.to_thread(ledger.events.differs, event))

    async def _report(self) -> None:
        """Remember the counts; once a day, forget events that were worked long ago."""
        try:
            ledger = await _in_time(self.ledger())
            await _in_time(ledger.set_meta(RECEIVER_META, self.stats.report().to_json()))
            now_s = self._clock.elapsed_s()
            if self._tidied_at_s is None or now_s - self._tidied_at_s >= TIDIED_EVERY_S:
                self._tidied_at_s = now_s
                kept_us = round(EVENTS_KEPT_S * US_PER_S)
                await _in_time(ledger.events.forget(self._clock.now_us() - kept_us))
        except MynthError as error:
            self.stats.warn("the counts cannot be remembered", type(error).__name__)

    async def _follow_lifespan(self, receive: Receive, send: Send) -> None:
        # Starlette's own would tell a wrong setting as a traceback.
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


def _refusal(status: int) -> Response:
    headers = {"retry-after": f"{RETRY_AFTER_S}"} if status == 503 else {}
    if status in _UNREADABLE:
        headers["connection"] = "close"
    return Response("refused\n", status, headers, media_type="text/plain")


async def _read_body(request: Request) -> bytes:
    """
    The whole body, within bounds of size and time.

    Raises:
        HTTPException: Too large, too slow, or cut off.
    """

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > WEBHOOK_BODY_MAX_BYTES:
                raise HTTPException(413, "the body is too large")
        return bytes(body)

    announced = request.headers.getlist("content-length")
    if any(not n.isdecimal() or int(n[:20]) > WEBHOOK_BODY_MAX_BYTES for n in announced):
        raise HTTPException(413, "the body is too large")
    try:
        return await asyncio.wait_for(read(), WEBHOOK_REQUEST_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise HTTPException(408, "the body came too slowly") from None
    except ClientDisconnect:
        raise HTTPException(400, "the sender went away") from None


async def _in_time(waiting: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(waiting, WEBHOOK_COMMIT_TIMEOUT_S)
    except asyncio.TimeoutError:
        message = f"the ledger did not answer within {WEBHOOK_COMMIT_TIMEOUT_S:g} s"
        raise LedgerUnavailableError(message) from None


# Who is let in: pure decisions about one request, from its raw bytes.
#
# A signature proves the sender; a token in the URL proves only that somebody knows the URL, so
# what comes that way is an unverified event. The headers say which form a request has, that of
# revision 2026-10 or the older one; a request with headers of both is refused.


Headers = Sequence[tuple[bytes, bytes]]

ID, TIMESTAMP, SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
"""Of revision 2026-10; one of them is enough for a request to be judged by its rules."""

OLDER_SIGNATURE, OLDER_EVENT = b"x-mynth-signature", b"x-mynth-event"
"""Of the revisions before."""


def admit(
    settings: WebhookSettings, *, is_signed: bool, headers: Headers, body: bytes, now_us: int
) -> WebhookEvent | None:
    """
    The event in a request; None where it is genuine and means nothing to us.

    Raises:
        HTTPException: Not signed by a secret of ours, stale, or no event; `detail` is for our log.
    """
    try:
        stamp, signed_at_s = _prove(settings, headers, body, now_us, is_signed=is_signed)
    except WebhookRejectedError as error:
        raise HTTPException(401, error.reason) from None
    head = read_head(parse_json(body))
    if head is None:
        raise HTTPException(400, "the body is no event")
    _require_agreement(headers, stamp, head)
    if head.name not in FINAL_EVENTS:
        return None
    # Mynth gives an event one id for all its deliveries; before 2026-10 it had none.
    shared = f"{head.name}:{head.task_id}" if stamp is None else stamp.event_id
    return WebhookEvent(
        event_id=f"{'signed' if is_signed else 'unverified'}:{shared}",
        is_signed=is_signed,
        event=head.name,
        task_id=head.task_id,
        # An unverified event is confirmed by reading the task; nothing else in it is used.
        body=body.decode("utf-8") if is_signed else None,
        received_at_us=now_us,
        signed_at_us=None if signed_at_s is None else signed_at_s * US_PER_S,
        body_sha256=hashlib.sha256(body).hexdigest(),
    )


def _prove(
    settings: WebhookSettings, headers: Headers, body: bytes, now_us: int, *, is_signed: bool
) -> tuple[Stamp | None, int | None]:
    """
    The stamp, which the newer form alone has; and when the sender signed, where it has to.

    Raises:
        WebhookRejectedError: The headers do not prove what they have to.
    """
    if not any(name.lower() in (ID, TIMESTAMP, SIGNATURE) for name, _ in headers):
        if not is_signed:
            return None, None
        header = _only(headers, OLDER_SIGNATURE)
        return None, verify(body, header, settings.secrets, now_us=now_us)
    if _values(headers, OLDER_SIGNATURE):
        raise WebhookRejectedError("headers of both forms")
    stamp = read_stamp(_only(headers, ID), _only(headers, TIMESTAMP), now_us=now_us)
    if is_signed:
        verify_standard(body, stamp, _only(headers, SIGNATURE), settings.secrets)
    return stamp, stamp.at_s if is_signed else None


def _require_agreement(headers: Headers, stamp: Stamp | None, head: EventHead) -> None:
    """
    Headers and body are of one form and name one event.

    Raises:
        HTTPException: They do not.
    """
    if (stamp is None) is not (head.event_id is None):
        raise HTTPException(400, "the body is of another form than the headers")
    named = _values(headers, OLDER_EVENT) if stamp is None else []
    is_other = stamp is not None and stamp.event_id != head.event_id
    if is_other or len(named) > 1 or (named and named[0] != head.name.encode("utf-8")):
        raise HTTPException(400, "header and body name different events")


def _only(headers: Headers, name: bytes) -> str | None:
    values = _values(headers, name)
    if len(values) > 1:
        raise WebhookRejectedError(f"several {name.decode('ascii')} headers")
    return values[0].decode("latin-1") if values else None


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


# What a receiver counts and tells: refusals by reason, loudly but never in a flood.


WARNED_EVERY_S = 60.0
REPORTED_EVERY_S = 5.0

_log = printable_logger("mynth_dagster.webhook")


class Stats:
    """Counts of one receiver since its start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at_us = self._seen_at_us = clock.now_us()
        self._refused_at_us: int | None = None
        self._n_kept = self._n_repeated = 0
        self._refused: Counter[str] = Counter()
        self._warned_at_s: dict[str, float] = {}
        self._reported_at_s: float | None = None

    def kept(self, *, is_new: bool) -> None:
        """An event was acknowledged."""
        self._seen_at_us = self._clock.now_us()
        self._n_kept += is_new
        self._n_repeated += not is_new

    def refused(self, reason: str) -> None:
        """A request was not let in; each reason is logged once a minute at most."""
        self._refused[reason] += 1
        self._refused_at_us = self._clock.now_us()
        self.warn(f"refused: {reason}", f"{self._refused[reason]} since the start")

    def warn(self, what: str, details: str) -> None:
        """Log a fixed text with details, if it was not logged within the minute."""
        now_s = self._clock.elapsed_s()
        if now_s - self._warned_at_s.get(what, -WARNED_EVERY_S) >= WARNED_EVERY_S:
            self._warned_at_s[what] = now_s
            _log.warning("%s (%s)", what, details)

    def is_report_due(self) -> bool:
        """Whether the counts are to be remembered now: they were not for some seconds."""
        now_s = self._clock.elapsed_s()
        is_due = self._reported_at_s is None or now_s - self._reported_at_s >= REPORTED_EVERY_S
        if is_due:
            self._reported_at_s = now_s
        return is_due

    def report(self) -> ReceiverReport:
        """The counts as they are."""
        return ReceiverReport(
            started_at_us=self._started_at_us,
            seen_at_us=self._seen_at_us,
            n_kept=self._n_kept,
            n_repeated=self._n_repeated,
            n_refused=dict(self._refused),
            refused_at_us=self._refused_at_us,
        )
