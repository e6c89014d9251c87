"""The client: Mynth's operations as coroutines, detection of the revision, waiting for one task."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import quote

from mynth_dagster.client import outcome
from mynth_dagster.client.download import PictureSession
from mynth_dagster.client.http import Call, HttpSession, MayLeave, Response, Transport
from mynth_dagster.client.limiter import decide_retry_s
from mynth_dagster.client.outcome import NotSent, PaidOutcome, Unknown
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import Clock, us_from_utc
from mynth_dagster.errors import (
    ApiError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    PollFetchError,
    PollTimeoutError,
    PollUnauthorizedError,
    RateLimitedError,
    RefusedError,
    TaskFailedError,
    TaskFetchError,
    UnauthorizedError,
    UnexpectedPayloadError,
)
from mynth_dagster.limits import (
    CREATED_MAX_BYTES,
    PICTURE_MAX_BYTES,
    POLL_FAILURES_MAX,
    REVISIONS,
    STATUS_MAX_BYTES,
    TASK_DEADLINE_S,
    TASK_MAX_BYTES,
)
from mynth_dagster.models.request import FollowUpRequest, PaidRequest, RowRequest
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
from mynth_dagster.wire.revision import (
    ESTIMATE_BODY,
    RevisionProfile,
    may_be_without_catalog,
    revision_by_catalog,
    revision_by_estimate,
)

T = TypeVar("T")

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_NO_SUCH_TASK = "tsk_00000000000000000000000000"
_ACCOUNT_KEPT_BACK = frozenset({403, 404, 405})
"""Statuses of `GET /me` that prove nothing about the key: the route is closed, by whomever."""


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
        """The server's clock at its newest response, to the second; None if it sent none."""
        return _us_of_date(self._http.server_date)

    @property
    def n_requests(self) -> int:
        """The number of requests made so far, of every kind and outcome."""
        return self._http.n_requests + self.pictures.n_requests

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pictures.aclose()
        await self._http.aclose()

    def encode(self, request: PaidRequest, tag: str | None) -> bytes:
        """The exact bytes that `create_task` will send; a follow-up carries no tag."""
        if isinstance(request, FollowUpRequest):
            body = self.profile.encode_follow_up(request)
        else:
            body = self.profile.encode_request(request, tag=tag)
        return _COMPACT.encode(body).encode("utf-8")

    async def create_task(
        self, content: bytes, doing: str = "generate", *, may_leave: MayLeave | None = None
    ) -> PaidOutcome:
        """
        The paid call, once: `POST /image/<doing>` with a body from `encode`.

        Never raises for faults of the network or the server: the result shows what is proved.

        Args:
            may_leave: Called as the last act before the bytes leave, once the connection is there;
                a request that may not leave any more is not sent.
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
        Their names are not shown.
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
        """Read one page of this key's tasks, newest first; ``after``: older than that task."""
        params: dict[str, str | int] = {"limit": limit}
        if after is not None:
            params["after"] = after
        return await self._read(
            Call("list tasks", "GET", "/tasks", params=params), decode.decode_page
        )

    async def estimate(self, request: RowRequest) -> Estimate:
        """Estimate what one such request will reserve; creates and charges nothing."""
        call = Call(
            "estimate", "POST", "/image/generate/estimate", content=self.encode(request, None)
        )
        return await self._read(call, decode.decode_estimate)

    async def get_catalog(self) -> dict[str, CatalogModel]:
        """Read the public catalogue, by model id."""
        return await self._read(
            Call("list models", "GET", "/models", anonymous=True), decode.decode_catalog
        )

    async def list_destinations(self) -> frozenset[str]:
        """Read the names of the account's own storage that images may be sent to."""
        return await self._read(
            Call("list destinations", "GET", "/destinations"), decode.decode_destinations
        )

    async def get_account(self) -> Account:
        """Read the account of the key, and what the key may do and spend."""
        return await self._read(Call("read account", "GET", "/me"), decode.decode_account)

    async def get_balance(self) -> Balance:
        """Read the account's balance."""
        return await self._read(Call("read balance", "GET", "/balance"), decode.decode_balance)

    async def get_picture(self, url: str) -> bytes:
        """
        Fetch the bytes at the URL of a result, once and without credentials.

        Raises:
            DownloadError: It may not or cannot be fetched, or is longer than `PICTURE_MAX_BYTES`.
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

        Returns the account if the server returns it. Otherwise, and if a proxy blocks the account,
        it reads a task that cannot exist: an accepted key gets "not found".

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

    def _checked(self, call: Call, answer: Response) -> Any:
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


# Waiting for one task, with the same errors as the official SDK.


@dataclass(frozen=True)
class WaitSettings:
    """
    How to wait for a single task; the intervals are the official SDK's.

    `fast_interval_s` holds for the first `fast_phase_s`, `slow_interval_s` after it.
    """

    timeout_s: float = TASK_DEADLINE_S
    fast_phase_s: float = 12.0
    fast_interval_s: float = 2.5
    slow_interval_s: float = 5.0
    failures_max: int = POLL_FAILURES_MAX


async def wait_for_task(
    client: MynthClient,
    task_id: str,
    clock: Clock,
    *,
    token: str | None = None,
    settings: WaitSettings = WaitSettings(),
) -> Task:
    """
    Poll one task until it is finished, and read it.

    A token is used for the status until it is refused; then the key, where there is one.
    With a token alone, only the images of the task are known, and none of its times.

    Raises:
        PollTimeoutError: Still pending after `timeout_s`.
        PollUnauthorizedError: Token and key were refused.
        PollFetchError: Too many failed reads in a row.
        TaskFetchError: Finished, but the details cannot be read.
        TaskFailedError: The task ended `failed`.
    """
    started_s, failures = clock.elapsed_s(), 0
    while True:
        waited_s = clock.elapsed_s() - started_s
        if waited_s >= settings.timeout_s:
            raise PollTimeoutError(task_id, f"still pending after {settings.timeout_s:g} s")
        try:
            status = await client.get_status(task_id, token=token)
            failures = 0
        except (UnauthorizedError, NotFoundError) as error:
            if token is None or client.settings.api_key is None:
                raise PollUnauthorizedError(task_id, str(error)) from error
            token = None
            continue
        except RateLimitedError:
            status = TaskStatus.PENDING
        except ApiError as error:
            status, failures = TaskStatus.PENDING, failures + 1
            if failures >= settings.failures_max:
                raise PollFetchError(task_id, f"{failures} reads failed: {error}") from error
        if status.is_final:
            if token is not None and client.settings.api_key is None:
                return await _read_with_token(client, task_id, token, status)
            return await _read_finished(client, task_id)
        await clock.sleep(_interval_s(waited_s, settings))


async def _read_with_token(
    client: MynthClient, task_id: str, token: str, status: TaskStatus
) -> Task:
    """Read the images with a token, which does not show the whole task or why it failed."""
    if status is TaskStatus.FAILED:
        raise TaskFailedError(task_id)
    try:
        images = await client.get_result(task_id, token=token)
    except UnauthorizedError as error:
        raise PollUnauthorizedError(task_id, str(error)) from error
    except ApiError as error:
        raise TaskFetchError(task_id, str(error)) from error
    return Task(task_id, status, created_at_us=0, updated_at_us=0, images=images)


async def _read_finished(client: MynthClient, task_id: str) -> Task:
    try:
        task = await client.get_task(task_id)
    except UnauthorizedError as error:
        raise PollUnauthorizedError(task_id, str(error)) from error
    except ApiError as error:
        raise TaskFetchError(task_id, str(error)) from error
    if task.status is TaskStatus.FAILED:
        raise TaskFailedError(task_id, [(fault.code, fault.message) for fault in task.faults])
    return task


def _interval_s(waited_s: float, settings: WaitSettings) -> float:
    interval_s = (
        settings.fast_interval_s if waited_s < settings.fast_phase_s else settings.slow_interval_s
    )
    return min(interval_s, settings.timeout_s - waited_s)


# Detection of a server's revision by free requests; `wire.revision` reads the responses.


OLDEST = REVISIONS[0]


@dataclass(frozen=True)
class RevisionVerdict:
    """
    What a server's responses prove about its revision.

    Args:
        revision: None: they prove nothing.
        basis: A description of the responses.
        is_certain: False if the server seems not to have the routes, which may also mean that a
            proxy blocks them.
        may_pass: The server is unreachable or has a fault: a later try may prove it.
    """

    revision: str | None
    basis: str
    is_certain: bool = True
    may_pass: bool = False


async def ask_revision(
    settings: ClientSettings, *, seen: str | None = None, transport: Transport | None = None
) -> RevisionVerdict:
    """
    Read the public catalogue, and if that proves nothing, request an estimate with the key.

    A server that has neither, and has tasks, speaks the oldest revision.

    Args:
        seen: The revision last seen there; None: it may be no address of Mynth's at all.

    Raises:
        ApiError: The server is unreachable.
    """
    http = HttpSession(settings, transport)
    try:
        return await _ask(http, settings, seen)
    finally:
        if transport is None:
            await http.aclose()


async def _ask(http: HttpSession, settings: ClientSettings, seen: str | None) -> RevisionVerdict:
    call = Call("ask for the revision", "GET", "/models", anonymous=True)
    answer = await http.exchange(call, timeout_s=settings.read_timeout_s)
    found = revision_by_catalog(answer.status, parse_json(answer.body))
    if found is not None:
        return RevisionVerdict(found, "by its catalogue")
    message = f"HTTP {answer.status} to GET /models"
    is_absent = may_be_without_catalog(answer.status)
    may_pass = answer.status >= 500 or answer.status == 429
    if is_absent and seen is None and not await _has_tasks(http, settings):
        message += " and to GET /tasks: nothing of Mynth is there; check the path of base_url"
        return RevisionVerdict(None, message, is_certain=False)
    if settings.api_key is None:
        found = OLDEST if is_absent else None
        return RevisionVerdict(found, message, is_certain=False, may_pass=may_pass)
    estimate_status: int | None = None
    call = Call(
        "ask for the revision",
        "POST",
        "/image/generate/estimate",
        content=json.dumps(ESTIMATE_BODY).encode("utf-8"),
    )
    try:
        answer = await http.exchange(call, timeout_s=settings.read_timeout_s)
        estimate_status = answer.status
        found = revision_by_estimate(answer.status, parse_json(answer.body))
        message += f", {answer.status} to an estimate"
    except ApiError as error:
        message += f", no answer to an estimate ({error.reason})"
    if found is not None:
        return RevisionVerdict(found, "by an estimate")
    if not is_absent:
        return RevisionVerdict(None, message, is_certain=False, may_pass=may_pass)
    return RevisionVerdict(OLDEST, message, is_certain=estimate_status in (404, 405))


async def _has_tasks(http: HttpSession, settings: ClientSettings) -> bool:
    """Whether a route that every revision has is there: without a key it refuses, for free."""
    call = Call("ask for the revision", "GET", "/tasks/tsk_0/status", anonymous=True)
    answer = await http.exchange(call, timeout_s=settings.read_timeout_s)
    return answer.status not in (404, 405, 410)
