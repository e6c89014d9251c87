"""An edge between us and the simulator that changes what it passes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from httpx_aiohttp import AiohttpTransport

Change = Callable[[str, Any], Any]
"""What a hostile edge makes of an answer: path and body in, body out."""


class HostileEdge(httpx.AsyncBaseTransport):
    """Passes everything on and changes the answers; `skew_days` are added to their `Date`."""

    def __init__(self, change: Change, skew_days: int = 0) -> None:
        self._inner = AiohttpTransport()
        self._change = change
        self._skew_days = skew_days

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        headers = httpx.Headers(response.headers)
        if self._skew_days:
            headers["date"] = "Fri, 01 Jan 2027 00:00:00 GMT"
        if request.method == "GET" and response.status_code == 200:
            changed = self._change(request.url.path, json.loads(content))
            content = json.dumps(changed).encode()
            headers["content-length"] = str(len(content))
        return httpx.Response(
            response.status_code, headers=headers, stream=httpx.ByteStream(content)
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


def of_list(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Change:
    """A change of the pages of the list alone."""

    def changed(path: str, body: Any) -> Any:
        return {**body, "data": change(body["data"])} if path.endswith("/tasks") else body

    return changed


def of_tasks(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """A change of whole tasks alone."""

    def changed(path: str, body: Any) -> Any:
        is_task = path.split("/")[-2:-1] == ["tasks"]
        return {**body, "data": change(body["data"])} if is_task else body

    return changed


def without_tag(task: dict[str, Any]) -> dict[str, Any]:
    return {**task, "request": {**task["request"], "metadata": None}}
