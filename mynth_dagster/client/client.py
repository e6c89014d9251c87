"""Mynth's operations as coroutines, in the package's own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import quote

from mynth_dagster.client import outcome
from mynth_dagster.client.connections import Answer, MayLeave
from mynth_dagster.client.http import Call, HttpSession, Transport
from mynth_dagster.client.outcome import NotSent, PaidOutcome, Unknown
from mynth_dagster.client.picture_http import PictureSession
from mynth_dagster.client.retry import decide_retry_s
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import Clock, us_from_utc
from mynth_dagster.errors import (
    ApiError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    RefusedError,
    UnexpectedPayloadError,
)
from mynth_dagster.limits import (
    CREATED_MAX_BYTES,
    PICTURE_MAX_BYTES,
    STATUS_MAX_BYTES,
    TASK_MAX_BYTES,
)
from mynth_dagster.models.request import ImageRequest, Inspection, Wish
from mynth_dagster.models.task import (
    Account,
    Balance,
    CatalogModel,
    Estimate,
    ImageOutcome,
    ListedTask,
    RegisteredWebhook,
    Task,
    TaskStatus,
)
from mynth_dagster.wire import decode
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.revision import RevisionProfile

T = TypeVar("T")

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_NO_SUCH_TASK = "tsk_00000000000000000000000000"
_ACCOUNT_KEPT_BACK = frozenset({403, 404, 405})
"""Answers to `GET /me` that say nothing of the key: the route is closed, or a proxy closes it."""


class MynthClient:
    """
    One account at one server, in one revision; lives on one event loop.

    Free reads repeat themselves when the failure may pass; the paid call never does.
    Every read raises `ApiError` (see `errors`) when it does not succeed.
    """

    def __init__(
        self,
        settings: ClientSettings,
        profile: RevisionProfile,
        clock: Clock,
        *,
        transport: Transport | None = None,
    ) -> None:
        self.settings = settings
        self.profile = profile
        self._clock = clock
        self._http = HttpSession(settings, transport)
        self.pictures = PictureSession(settings, clock)

    @property
    def server_now_us(self) -> int | None:
        """The server's clock at its newest answer, to the second; None where it told none."""
        return _us_of_date(self._http.server_date)

    @property
    def n_requests(self) -> int:
        """Requests made so far, of every kind and outcome."""
        return self._http.n_requests + self.pictures.n_requests

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pictures.aclose()
        await self._http.aclose()

    def encode(self, request: Wish, tag: str | None) -> bytes:
        """The exact bytes that `create_task` will send; a look at an image carries no tag."""
        if isinstance(request, Inspection):
            body = self.profile.encode_inspection(request)
        else:
            body = self.profile.encode_request(request, tag=tag)
        return _COMPACT.encode(body).encode("utf-8")

    async def create_task(
        self, content: bytes, doing: str = "generate", *, may_leave: MayLeave | None = None
    ) -> PaidOutcome:
        """
        The paid call, once: `POST /image/<doing>` with a body from `encode`.

        Never raises for what the network or the server did: the result says what is proved.

        Args:
            may_leave: Asked as the last act before the bytes leave, when a connection was waited
                for and had; a request that may not leave any more is not sent.
        """
        call = Call(
            "create task",
            "POST",
            f"/image/{doing}",
            content=content,
            bytes_max=CREATED_MAX_BYTES,
        )
        try:
            answer = await self._http.exchange(call, may_leave=may_leave)
        except NotSentError as error:
            return NotSent(error)
        except NoAnswerError as error:
            return Unknown(error)
        return outcome.sort_answer(
            call.operation, answer, self.profile, now_us=self._clock.now_us()
        )

    async def upload(self, files: Sequence[tuple[bytes, str]]) -> list[str]:
        """
        `POST /image/upload`: the URLs of these files (content, media type), in their order.

        Free of charge, and repeated like a read: a file uploaded twice harms nobody.
        Their names are not told.
        """
        parts = [
            ("images", (f"{index}.{kind.partition('/')[2]}", content, kind))
            for index, (content, kind) in enumerate(files)
        ]
        call = Call("upload", "POST", "/image/upload", files=parts)
        urls = await self._read(call, decode.decode_upload)
        if len(urls) != len(files):
            revision = self.profile.REVISION
            raise UnexpectedPayloadError(call.operation, revision=revision, path="url of each file")
        return urls

    async def get_status(self, task_id: str, *, token: str | None = None) -> TaskStatus:
        """`GET /tasks/:id/status`, with the key or the task's own token."""
        path = f"{_task_path(task_id)}/status"
        call = Call("read task status", "GET", path, token=token, bytes_max=STATUS_MAX_BYTES)
        return await self._read(call, partial(decode.decode_status, task_id=task_id))

    async def get_task(self, task_id: str) -> Task:
        """`GET /tasks/:id`, owner only: the whole task."""
        call = Call("read task", "GET", _task_path(task_id), bytes_max=TASK_MAX_BYTES)
        task = self.profile.decode_task(call.operation, await self._read_json(call))
        if task.task_id != task_id:
            revision = self.profile.REVISION
            raise UnexpectedPayloadError(call.operation, revision=revision, path="task asked for")
        return task

    async def get_result(self, task_id: str, *, token: str) -> tuple[ImageOutcome, ...]:
        """The images of a finished task, with nothing but its token."""
        path = f"{_task_path(task_id)}/{self.profile.RESULT_WORD}"
        call = Call("read result", "GET", path, token=token, bytes_max=TASK_MAX_BYTES)
        return await self._read(call, decode.decode_result)

    async def list_tasks(self, *, limit: int, after: str | None = None) -> list[ListedTask]:
        """One page of this key's tasks, newest first; ``after``: older than that task."""
        params: dict[str, str | int] = {"limit": limit}
        if after is not None:
            params["after"] = after
        return await self._read(
            Call("list tasks", "GET", "/tasks", params=params), decode.decode_page
        )

    async def estimate(self, request: ImageRequest) -> Estimate:
        """What one such request will reserve; creates and charges nothing."""
        call = Call(
            "estimate", "POST", "/image/generate/estimate", content=self.encode(request, None)
        )
        return await self._read(call, decode.decode_estimate)

    async def get_catalog(self) -> dict[str, CatalogModel]:
        """The public catalogue, by model id."""
        return await self._read(
            Call("list models", "GET", "/models", anonymous=True), decode.decode_catalog
        )

    async def list_destinations(self) -> frozenset[str]:
        """The names of the account's own storage that images may be sent to."""
        return await self._read(
            Call("list destinations", "GET", "/destinations"), decode.decode_destinations
        )

    async def get_account(self) -> Account:
        """Who the key belongs to, and what it may do and spend."""
        return await self._read(Call("read account", "GET", "/me"), decode.decode_account)

    async def get_balance(self) -> Balance:
        """The account's money."""
        return await self._read(Call("read balance", "GET", "/balance"), decode.decode_balance)

    async def get_picture(self, url: str) -> bytes:
        """
        The bytes at the URL of a result, fetched once and without credentials.

        Raises:
            DownloadError: It cannot be had from where it may be fetched, or is longer than
                `PICTURE_MAX_BYTES`.
        """
        body = bytearray()

        async def take(chunk: bytes) -> None:
            body.extend(chunk)

        await self.pictures.fetch(url, take, bytes_max=PICTURE_MAX_BYTES)
        return bytes(body)

    async def put_webhook(
        self, url: str, events: Sequence[str], webhook_id: str | None = None
    ) -> RegisteredWebhook:
        """
        Register an endpoint for these events, enabled; with an id, replace that registration.

        Free of charge and not repeated: a repeated creation would register the endpoint twice.
        """
        path = self.profile.WEBHOOK_PATH
        body = {"enabled": True, "url": url, "events": list(events)}
        call = Call(
            "register webhook" if webhook_id is None else "change webhook",
            "POST" if webhook_id is None else "PUT",
            path if webhook_id is None else f"{path}/{quote(webhook_id, safe='')}",
            content=json.dumps(body).encode("utf-8"),
        )
        made = self._checked(call, await self._http.exchange(call))
        return decode.decode_webhook(call.operation, made, revision=self.profile.REVISION)

    async def check_key(self) -> Account | None:
        """
        Prove, free of charge, that the key is accepted.

        Returns the account where the server tells it. Elsewhere, and where something in between
        keeps the account back, a task that cannot exist is asked for: an accepted key gets
        "not found".

        Raises:
            UnauthorizedError: The key is refused.
        """
        if self.profile.HAS_ACCOUNT:
            try:
                return await self.get_account()
            except RefusedError as error:
                if error.status not in _ACCOUNT_KEPT_BACK:
                    raise
        with suppress(NotFoundError):
            await self.get_status(_NO_SUCH_TASK)
        return None

    async def _read(self, call: Call, decode: Callable[..., T]) -> T:
        body = await self._read_json(call)
        return decode(call.operation, body, revision=self.profile.REVISION)

    async def _read_json(self, call: Call) -> Any:
        attempt = 0
        while True:
            attempt += 1
            slot = self._http.slot()
            try:
                timeout_s = self.settings.read_timeout_s
                answer = await self._http.exchange(call, timeout_s=timeout_s, slot=slot)
                return self._checked(call, answer)
            except ApiError as error:
                delay_s = decide_retry_s(
                    error, attempt=attempt, attempts_max=self.settings.read_attempts
                )
                if delay_s is None:
                    raise
            finally:
                # Whoever waited goes on when this task pauses: what it returns is decoded by then.
                slot.release()
            await self._clock.sleep(delay_s)

    def _checked(self, call: Call, answer: Answer) -> Any:
        if not 200 <= answer.status < 300:
            raise decode.decode_refusal(
                call.operation,
                answer.status,
                answer.headers,
                answer.body,
                now_us=self._clock.now_us(),
            )
        body = parse_json(answer.body)
        if body is None:
            raise NoAnswerError(call.operation, "the answer is no JSON")
        return body


@lru_cache(maxsize=16)
def _us_of_date(date: str) -> int | None:
    try:
        return us_from_utc(parsedate_to_datetime(date))
    except (ValueError, TypeError):
        return None


def _task_path(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"
