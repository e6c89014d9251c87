"""The API's routes: which request goes where, and what serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import orjson
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope

from mynth_dagster.clock import US_PER_S
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.accounts import TOKEN_PREFIX, Key, issue_token, judge_token
from mynth_dagster.simulator.completion import Rendering, picture_number
from mynth_dagster.simulator.destinations import (
    DestinationTest,
    StoredDestination,
    read_destination,
)
from mynth_dagster.simulator.images import MEDIA_TYPES, check_upload, draw_picture
from mynth_dagster.simulator.scenario import KeyScope, TaskType
from mynth_dagster.simulator.state import State
from mynth_dagster.simulator.tasks import (
    AnyRequest,
    EditRequest,
    GenerateRequest,
    SimulatedTask,
)
from mynth_dagster.simulator.validation import (
    DESTINATION_TEST,
    INVALID_JSON,
    MEDIA_TYPE,
    METHOD,
    NOT_FOUND,
    SCOPE,
    TOKEN_EXPIRED,
    TOKEN_FAILED,
    TOO_LARGE,
    UNAUTHORIZED,
    VALIDATION,
    Refusal,
    invalid,
    read_body,
)
from mynth_dagster.simulator.webhooks import Webhook

_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_UNKNOWN_PATH: Final = "(unknown)"


class RequestContext(Request):
    """
    One request of the API, and what serves it.

    Attributes:
        api: The simulated Mynth as it was when the request came.
        path: Its path with ``:id`` for what varies, ``/tasks/:id/status``.
        route: The same with its method, as the log and the fault rules have it.
        entry_id: What stands for ``:id``, or an empty string.
        token_fails: Whether a fault keeps a public access token from being issued.
    """

    def __init__(self, scope: Scope, receive: Receive, api: State) -> None:
        super().__init__(scope, receive)
        self.api = api
        self.token_fails = False
        method, self.path, self.entry_id = scope["method"], _UNKNOWN_PATH, ""
        if method in _METHODS:
            self.path, self.entry_id = match_path(scope["path"])
        self.route = f"{method if method in _METHODS else 'OTHER'} {self.path}"

    @property
    def public_url(self) -> str:
        """Scheme and host that clients reach images under, without a trailing slash."""
        public_url = self.api.scenario.public_url
        if public_url is not None:
            return public_url.rstrip("/")
        return f"{self.scope.get('scheme', 'http')}://{self.headers.get('host', '')}"

    @property
    def rendering(self) -> Rendering:
        """How tasks are shown in the answer."""
        return Rendering(self.public_url, self.api.scenario, self.api.destinations)

    async def body(self) -> bytes:
        """
        The whole body.

        Raises:
            Refusal: It is longer than the server reads.
            ClientDisconnect: The client went away.
        """
        if hasattr(self, "_body"):
            return self._body
        is_upload = self.path == "/image/upload"
        max_bytes = defaults.MAX_UPLOAD_BODY_BYTES if is_upload else defaults.MAX_BODY_BYTES
        chunks: list[bytes] = []
        n_bytes, is_more = 0, True
        while is_more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            n_bytes += len(chunks[-1])
            if n_bytes > max_bytes:
                raise Refusal(TOO_LARGE, defaults.TOO_LARGE_TEXT)
            is_more = message.get("more_body", False)
        self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        """
        The body as JSON.

        Raises:
            orjson.JSONDecodeError: It is none.
        """
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json

    async def json_object(self) -> dict[str, Any]:
        """
        The body as a JSON object.

        Raises:
            Refusal: It is something else, or is not called JSON.
        """
        if not self.headers.get("content-type", "").startswith("application/json"):
            raise Refusal(MEDIA_TYPE, "The request body must be application/json.")
        try:
            payload = await self.json()
        except orjson.JSONDecodeError:
            raise Refusal(INVALID_JSON, "The request body must be JSON.") from None
        if not isinstance(payload, dict):
            raise Refusal(VALIDATION, "The request body must be a JSON object.")
        return payload

    async def prompt(self) -> str | None:
        """The positive prompt, in any revision's shape; None if there is none."""
        try:
            payload = await self.json()
        except orjson.JSONDecodeError:
            return None
        prompt = payload.get("prompt") if isinstance(payload, dict) else None
        if isinstance(prompt, dict):
            prompt = prompt.get("positive")
        return prompt if isinstance(prompt, str) else None

    def require_key(self, scope: KeyScope | None = None) -> Key:
        """
        The API key that sent the request, with a scope where the revision has it.

        Raises:
            Refusal: It is missing, unknown, revoked, a public access token, or lacks the scope.
        """
        bearer = self._bearer
        key = self.api.accounts.find(bearer)
        if key is None:
            is_token = bearer.startswith(TOKEN_PREFIX)
            text = defaults.WRONG_BEARER_TEXT if is_token else defaults.UNAUTHORIZED_TEXT
            raise Refusal(UNAUTHORIZED, text)
        if scope in self.api.revision.scopes and scope not in key.scopes:
            raise Refusal(SCOPE, defaults.SCOPE_TEXT)
        return key

    def require_manager(self) -> Key:
        """
        The API key that sent the request, if it may manage webhooks and destinations.

        Raises:
            Refusal: It may not.
        """
        key = self.require_key("manage")
        if self.api.quirks.webhook_management == "oauth":
            raise Refusal(UNAUTHORIZED, defaults.OAUTH_ONLY_TEXT)
        return key

    def require_task(self, *, takes_token: bool) -> SimulatedTask:
        """
        The task that the path names.

        Raises:
            Refusal: The API key's account has no such task; nor is there a token of just this task,
                if one would do.
        """
        bearer = self._bearer
        user_id = None
        if takes_token and bearer.startswith(TOKEN_PREFIX):
            verdict = judge_token(bearer, self.entry_id, self.api.clock.now_us())
            if verdict == "expired":
                raise Refusal(TOKEN_EXPIRED, defaults.EXPIRED_TEXT)
            if verdict == "wrong":
                raise Refusal(UNAUTHORIZED, defaults.WRONG_BEARER_TEXT)
        else:
            user_id = self.require_key().user_id
        task = self.api.find(self.entry_id)
        if task is None or user_id not in (None, task.key.user_id):
            raise Refusal(NOT_FOUND, defaults.NO_TASK_TEXT)
        return task

    @property
    def _bearer(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


class OrjsonResponse(JSONResponse):
    """A JSON answer."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _answer(context: RequestContext, data: object, status: int = 200) -> Response:
    return OrjsonResponse(context.api.revision.wrap(data), status)


# Routes that make tasks, and the estimate that does not.


async def generate(context: RequestContext) -> Response:
    """``POST /image/generate``: a task, and a token for it if wanted."""
    key = context.require_key("generate")
    return await _create(context, key, await _read_request(context, key, "image.generate"))


async def estimate(context: RequestContext) -> Response:
    """``POST /image/generate/estimate``: the price of the same body; nothing is made."""
    key = context.require_key("generate")
    request = await _read_request(context, key, "image.generate")
    assert isinstance(request, GenerateRequest)
    units, kind = context.api.quote(request)
    return _answer(context, context.api.revision.estimate(units, kind))


async def analyse(context: RequestContext, task_type: TaskType) -> Response:
    """``POST /image/rate``, ``/image/alt``, ``/image/review``: a task that looks at an image."""
    key = context.require_key("generate")
    api = context.api
    request = await _read_request(context, key, task_type)
    task = api.create(request, key, await context.body())
    if api.revision.rates_at_once:
        api.complete([task.task_id])
    status = 200 if api.revision.rates_at_once else 201
    return _answer(context, api.revision.created(task, None), status)


async def edit(context: RequestContext, task_type: TaskType) -> Response:
    """``POST /image/upscale``, ``/image/remove-background``: one image made of another."""
    key = context.require_key("generate")
    request = await _read_request(context, key, task_type)
    assert isinstance(request, EditRequest)
    source_pixels = context.api.pixels_of(request.urls[0])
    return await _create(context, key, replace(request, source_pixels=source_pixels))


async def _read_request(context: RequestContext, key: Key, task_type: TaskType) -> AnyRequest:
    api = context.api
    request = api.read_request(task_type, await context.json_object())
    name = request.destination
    is_free = name is None or not api.revision.refuses_unknown_destinations
    if not is_free and not api.destinations.has(key.user_id, name or ""):
        raise invalid("destination", defaults.NO_DESTINATION_TEXT)
    return request


async def _create(context: RequestContext, key: Key, request: AnyRequest) -> Response:
    api = context.api
    api.base_url = context.public_url
    task = api.create(request, key, await context.body())
    token = None
    if request.wants_token and not context.token_fails:
        token = issue_token(task.task_id, task.created_us, api.quirks.token_lifetime_s or 0)
    elif request.wants_token and api.quirks.token_failure != "silent":  # noqa: S105 - a word
        extra = {"task_id": task.task_id}
        raise Refusal(TOKEN_FAILED, defaults.TOKEN_FAILED_TEXT, extra=extra)
    return _answer(context, api.revision.created(task, token), 201)


# Routes that read tasks.


async def status(context: RequestContext) -> Response:
    """``GET /tasks/:id/status``; may lag behind the task, never run ahead of it."""
    task = context.require_task(takes_token=True)
    lag_s = context.api.quirks.status_lag_s or 0.0
    lags = lag_s > 0 and context.api.clock.elapsed_s() < task.finished_s + lag_s
    return _answer(context, {"status": "pending" if lags else task.status})


async def result(context: RequestContext) -> Response:
    """``GET /tasks/:id/result``, in 2026-04 ``/results``."""
    task = context.require_task(takes_token=True)
    if task.type != "image.generate" and not context.api.quirks.result_of_all_types:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return _answer(context, context.api.revision.result(task, context.rendering))


async def detail(context: RequestContext) -> Response:
    """``GET /tasks/:id``: the whole task, for a key of its account."""
    task = context.require_task(takes_token=False)
    return _answer(context, context.api.revision.detail(task, context.rendering))


async def list_tasks(context: RequestContext) -> Response:
    """``GET /tasks``: the tasks of this key, newest first."""
    key = context.require_key()
    api, query = context.api, context.query_params
    most = api.revision.limits.list_page_max
    limit = query.get("limit", str(defaults.LIST_PAGE_DEFAULT))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= most:
        raise invalid("limit", f"must be 1 to {most}")
    before = None
    if "after" in query:
        before = api.find(query["after"])
        if before is None or before.key is not key:
            if api.quirks.unknown_after == "empty":
                return _answer(context, [])
            raise invalid("after", "is not a task of this key")
    page = api.page(key, limit=int(limit), before=before)
    return _answer(context, api.revision.task_page(page))


# Files in and out: uploads of input images, and the bytes of generated ones.


async def upload(context: RequestContext) -> Response:
    """``POST /image/upload``: all files or none; one URL per file, in order."""
    context.require_key("generate")
    api = context.api
    if not context.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refusal(MEDIA_TYPE, "The request body must be multipart/form-data.")
    try:
        async with context.form() as form:
            parts = form.getlist("images")
            files = [await part.read() for part in parts if isinstance(part, UploadFile)]
    except MultiPartException as exc:
        raise Refusal(VALIDATION, "The multipart body is malformed.") from exc
    most = api.revision.limits.upload_files_max
    if not 1 <= len(files) <= most:
        raise invalid("images", f"must be 1 to {most} files")
    limits, now_us = api.revision.limits, api.clock.now_us()
    media_types = [check_upload(file, ("images", i), limits) for i, file in enumerate(files)]
    paths = [
        api.uploads.add(file, media_type, now_us)
        for file, media_type in zip(files, media_types, strict=True)
    ]
    return _answer(context, {"urls": [context.public_url + path for path in paths]})


async def serve_file(context: RequestContext) -> Response:
    """``GET /cdn/…``: an image or an upload, without any key."""
    api = context.api
    stored = api.uploads.find(context.entry_id)
    if stored is not None:
        _check_age(api, stored.added_us, api.revision.upload_lifetime_s)
        return Response(stored.content, media_type=stored.media_type)
    image_id, _, extension = context.entry_id.rpartition(".")
    image = api.find_image(image_id)
    if image is None or extension != image[0].outcome.format:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    task, index = image
    _check_age(api, task.updated_us, api.revision.limits.url_lifetime_s)
    request = task.request
    quality = request.quality if isinstance(request, GenerateRequest) else None
    content = await asyncio.to_thread(
        draw_picture,
        picture_number(task, index),
        *defaults.read_pixels(task.outcome.pixels),
        extension,
        defaults.QUALITY if quality is None else quality,
    )
    return Response(content, media_type=MEDIA_TYPES[extension])


def _check_age(api: State, since_us: int, lifetime_s: float | None) -> None:
    if lifetime_s is not None and api.clock.now_us() - since_us >= lifetime_s * US_PER_S:
        status = api.quirks.expired_file_status
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT, status=status)


# Routes about the account: who am I, what is left, which models, and webhooks.


async def models(context: RequestContext) -> Response:
    """``GET /models``: the catalogue, without any key."""
    return _answer(context, context.api.revision.models(context.api.prices))


async def me(context: RequestContext) -> Response:
    """``GET /me``: the account and the key in use."""
    key = context.require_key()
    context.api.complete_due()
    return _answer(context, context.api.revision.me(key, context.api.clock.now_us()))


async def balance(context: RequestContext) -> Response:
    """``GET /balance``: the account's money."""
    key = context.require_key("manage")
    context.api.complete_due()
    return _answer(context, context.api.revision.balance(key, context.api.clock.now_us()))


async def create_webhook(context: RequestContext) -> Response:
    """``POST /webhooks``: the one answer that shows the secret."""
    key = context.require_manager()
    api = context.api
    spec = api.revision.read_webhook(await context.json_object())
    new_secret = partial(api.revision.new_secret, api.quirks)
    webhook = api.webhooks.add(spec, key.user_id, new_secret, api.clock.now_us())
    return _answer(context, api.revision.webhook(webhook, is_new=True), 201)


async def replace_webhook(context: RequestContext) -> Response:
    """``PUT /webhooks/:id``: a full replacement; the secret stays."""
    key = context.require_manager()
    api = context.api
    spec = api.revision.read_webhook(await context.json_object())
    webhook = api.webhooks.replace(_own_webhook(context, key), spec, api.clock.now_us())
    return _answer(context, api.revision.webhook(webhook, is_new=False))


async def delete_webhook(context: RequestContext) -> Response:
    """``DELETE /webhooks/:id``."""
    context.api.webhooks.remove(_own_webhook(context, context.require_manager()))
    return Response(status_code=204)


def _own_webhook(context: RequestContext, key: Key) -> Webhook:
    webhook = context.api.webhooks.find(context.entry_id, key.user_id)
    if webhook is None:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return webhook


# Routes about users' own storage.


async def create_destination(context: RequestContext) -> Response:
    """``POST /destinations``."""
    key = context.require_manager()
    api = context.api
    spec = read_destination(await context.json_object(), is_new=True)
    if api.destinations.has(key.user_id, spec.name):
        raise invalid("name", "is taken")
    destination = api.destinations.add(spec, key.user_id, api.clock.now_us())
    return _answer(context, api.revision.destination(destination), 201)


async def list_destinations(context: RequestContext) -> Response:
    """``GET /destinations``: all of the account, oldest first."""
    destinations = context.api.destinations.list_of(context.require_manager().user_id)
    return _answer(context, list(map(context.api.revision.destination, destinations)))


async def show_destination(context: RequestContext) -> Response:
    """``GET /destinations/:id``."""
    return _answer(context, context.api.revision.destination(_own_destination(context)))


async def replace_destination(context: RequestContext) -> Response:
    """``PUT /destinations/:id``: a full replacement; the name stays."""
    destination = _own_destination(context)
    api = context.api
    spec = read_destination(await context.json_object(), is_new=False)
    changed = api.destinations.replace(destination, spec, api.clock.now_us())
    return _answer(context, api.revision.destination(changed))


async def delete_destination(context: RequestContext) -> Response:
    """``DELETE /destinations/:id``."""
    context.api.destinations.remove(_own_destination(context))
    return Response(status_code=204)


async def test_destination(context: RequestContext) -> Response:
    """``POST /destinations/:id/test``: whether it takes a file."""
    destination = _own_destination(context)
    read_body(DestinationTest, await context.json_object())
    if destination.spec.name in context.api.scenario.failing_destinations:
        raise Refusal(DESTINATION_TEST, defaults.DESTINATION_TEXT)
    return Response(status_code=204)


def _own_destination(context: RequestContext) -> StoredDestination:
    user_id = context.require_manager().user_id
    destination = context.api.destinations.find(context.entry_id, user_id)
    if destination is None:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return destination


# Which request goes where.
#
# Of Starlette's routing only the patterns of paths are used: its router has answers of its own for
# 404 and 405, serves HEAD wherever it serves GET, and one path has other methods in each revision.


Handler = Callable[[RequestContext], Awaitable[Response]]

HANDLERS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        "POST /image/generate": generate,
        "GET /tasks/:id/status": status,
        "GET /tasks/:id": detail,
        "GET /tasks": list_tasks,
        "GET /tasks/:id/result": result,
        "GET /tasks/:id/results": result,
        "GET /cdn/:file": serve_file,
        "HEAD /cdn/:file": serve_file,
        "POST /image/generate/estimate": estimate,
        "POST /image/rate": partial(analyse, task_type="image.rate"),
        "POST /image/alt": partial(analyse, task_type="image.alt"),
        "POST /image/review": partial(analyse, task_type="image.review"),
        "POST /image/upscale": partial(edit, task_type="image.upscale"),
        "POST /image/remove-background": partial(edit, task_type="image.remove_background"),
        "POST /image/upload": upload,
        "GET /models": models,
        "GET /me": me,
        "GET /balance": balance,
        "POST /webhook": create_webhook,
        "PUT /webhook/:id": replace_webhook,
        "DELETE /webhook/:id": delete_webhook,
        "POST /webhooks": create_webhook,
        "PUT /webhooks/:id": replace_webhook,
        "DELETE /webhooks/:id": delete_webhook,
        "POST /destinations": create_destination,
        "GET /destinations": list_destinations,
        "GET /destinations/:id": show_destination,
        "PUT /destinations/:id": replace_destination,
        "DELETE /destinations/:id": delete_destination,
        "POST /destinations/:id/test": test_destination,
    }
)

_FILE_ROUTES: Final = frozenset({"GET /cdn/:file", "HEAD /cdn/:file"})
POLLED_PATHS: Final = frozenset({"/tasks/:id/status", "/tasks/:id/result", "/tasks/:id/results"})
"""What browsers may ask with a public access token: it answers any origin."""

_PATTERNS: Final = {
    path: compile_path(path.replace(":id", "{id}").replace(":file", "{id:path}"))[0]
    for path in dict.fromkeys(route.partition(" ")[2] for route in HANDLERS)
}


def match_path(path: str) -> tuple[str, str]:
    """A path with ``:id`` for what varies, and what stands there; ``(unknown)`` for another."""
    if path.startswith(("/webhook", "/destinations", "/tasks/tsk_")):  # a slash may follow
        path = path.removesuffix("/")
    for name, pattern in _PATTERNS.items():
        match = pattern.match(path)
        if match is not None:
            return name, match[1] if pattern.groups else ""
    return _UNKNOWN_PATH, ""


async def handle(context: RequestContext) -> Response:
    """
    Carry a request out.

    Raises:
        Refusal: The endpoint says no; 404 for a path, 405 for a method that the revision lacks.
    """
    if _offers(context.api, context.route):
        return await HANDLERS[context.route](context)
    path = context.path
    if context.method == "OPTIONS" and path in POLLED_PATHS and _offers(context.api, f"GET {path}"):
        return Response(status_code=204, headers=_PREFLIGHT_HEADERS)
    if any(_offers(context.api, f"{method} {path}") for method in _METHODS):
        raise Refusal(METHOD, defaults.METHOD_TEXT)
    raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)


def _offers(api: State, route: str) -> bool:
    if route == "POST /image/review" and not api.quirks.offers_review:
        return False
    return route in api.revision.routes or route in _FILE_ROUTES


_PREFLIGHT_HEADERS: Final = {
    "access-control-allow-methods": "GET, OPTIONS",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "600",
}
