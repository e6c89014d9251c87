"""
The server that clients are measured against: Mynth's routes of revision 2026-08, and nothing slow.

It checks nothing, keeps sixteen bytes a task, and runs in a process of its own on a core of its
own. The simulator is the strict one; this one must never be the bottleneck.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs

import httptools
import uvloop

PRICE = "0.00500000"
_ID = "tsk_%026d"
_SPREAD = 2_654_435_761  # Knuth's multiplier: durations in no order, and the same in every run
_TASK = (
    '{{"data":{{"id":"{id}","type":"image.generate","status":"{status}","cost":"{price}",'
    '"created_at":"{created}","updated_at":"{updated}","user_id":"usr_benchmark",'
    '"api_key_id":"key_benchmark","request":{{"prompt":"a watercolour of a lighthouse",'
    '"model":"m/benchmark","count":1,"output":{{"format":"webp","quality":80}}}},'
    '"result":{{"model":"m/benchmark","images":[{{"id":"img_{id}","status":"success",'
    '"url":"https://cdn.mynth.io/{id}.webp","mynth_url":"https://cdn.mynth.io/{id}.webp",'
    '"size":"1024x1024","cost":"{price}"}}]}}}}}}'
)
_FIXED = {
    "/models": '{"data":[{"id":"m/benchmark","displayName":"Benchmark",'
    '"pricing":{"perImage":{"base":"0.005"}}}]}',
    "/me": '{"data":{"userId":"usr_benchmark","auth":{"apiKey":{"id":"key_benchmark"}}}}',
    "/balance": '{"data":{"balance":"1000000","reserved":"0","available":"1000000"}}',
    "/image/generate/estimate": '{"data":{"estimated_cost":"0.00500000"}}',
}


@dataclass(frozen=True)
class Behaviour:
    """
    How slow Mynth is: seconds before each answer to a POST, and how long tasks take.

    `n_there` tasks were accepted before.
    """

    post_delay_s: float = 0.0
    task_min_s: float = 0.0
    task_max_s: float = 0.0
    n_there: int = 0


@dataclass
class Seen:
    """What the server counted, sockets and requests; `slowest_s` is its longest task."""

    requests: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    n_open: int = 0
    n_open_peak: int = 0
    slowest_s: float = 0.0


class _World:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.created = array("d")
        self.finished = array("d")
        self.seen = Seen()
        self._second = (0, "")

    def accept(self) -> str:
        number, now_s = len(self.created), time.time()
        span_s = self.behaviour.task_max_s - self.behaviour.task_min_s
        share = (number * _SPREAD % 2**32) / 2**32
        taken_s = self.behaviour.task_min_s + span_s * share
        self.seen.slowest_s = max(self.seen.slowest_s, taken_s)
        self.created.append(now_s)
        self.finished.append(now_s + taken_s + self.behaviour.post_delay_s)
        return '{"data":{"task_id":"%s","estimated_cost":"%s"}}' % (_ID % number, PRICE)

    def status(self, number: int) -> str:
        return "completed" if self.finished[number] <= time.time() else "pending"

    def task(self, number: int) -> str:
        return _TASK.format(
            id=_ID % number,
            status=self.status(number),
            price=PRICE,
            created=self._iso(self.created[number]),
            updated=self._iso(self.finished[number]),
        )

    def page(self, limit: int, after: int | None) -> str:
        end = len(self.created) if after is None else after
        entries = [
            '{"id":"%s","type":"image.generate","status":"%s","cost":"%s","created_at":"%s"}'
            % (_ID % number, self.status(number), PRICE, self._iso(self.created[number]))
            for number in range(end - 1, max(end - limit, 0) - 1, -1)
        ]
        return '{"data":[%s]}' % ",".join(entries)

    def _iso(self, at_s: float) -> str:
        second = int(at_s)
        if self._second[0] != second:
            moment = datetime.fromtimestamp(second, tz=timezone.utc)
            self._second = (second, moment.strftime("%Y-%m-%dT%H:%M:%S"))
        return f"{self._second[1]}.{int((at_s - second) * 1000):03d}Z"


class _Connection(asyncio.Protocol):
    def __init__(self, world: _World, loop: asyncio.AbstractEventLoop) -> None:
        self._world = world
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        seen = self._world.seen
        seen.n_open += 1
        seen.n_open_peak = max(seen.n_open_peak, seen.n_open)

    def connection_lost(self, exc: Exception | None) -> None:
        self._world.seen.n_open -= 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("ascii").partition("?")
        self._url = b""
        is_post = self._parser.get_method() == b"POST"
        requests = self._world.seen.requests
        if is_post and path == "/image/generate":
            requests["POST /image/generate"] += 1
            answer, delay_s = _answer(201, self._world.accept()), self._world.behaviour.post_delay_s
            if delay_s:
                self._loop.call_later(delay_s, self._write, answer)
                return
        else:
            name, answer = self._read(path, query)
            requests[f"{'POST' if is_post else 'GET'} {name}"] += 1
        self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)

    def _read(self, path: str, query: str) -> tuple[str, bytes]:
        if path in _FIXED:
            return path, _answer(200, _FIXED[path])
        if path == "/tasks":
            asked = parse_qs(query)
            after = asked.get("after")
            page = self._world.page(int(asked["limit"][0]), _number(after[0]) if after else None)
            return path, _answer(200, page)
        parts = path.split("/")
        number = _number(parts[2]) if len(parts) > 2 else -1
        if parts[1] != "tasks" or not 0 <= number < len(self._world.created):
            return path, _answer(404, '{"code":"NOT_FOUND","message":"not found"}')
        if parts[3:] == ["status"]:
            return "/tasks/:id/status", _answer(
                200, '{"data":{"status":"%s"}}' % self._world.status(number)
            )
        return "/tasks/:id", _answer(200, self._world.task(number))


def _number(task_id: str) -> int:
    return int(task_id.removeprefix("tsk_")) if task_id.startswith("tsk_") else -1


def _answer(status: int, body: str) -> bytes:
    raw = body.encode()
    reason = {200: "OK", 201: "Created", 404: "Not Found"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: "
    return head.encode() + str(len(raw)).encode() + b"\r\n\r\n" + raw


class Server:
    """A handle on the server's process."""

    def __init__(self, pipe: Connection, port: int) -> None:
        self._pipe = pipe
        self.url = f"http://127.0.0.1:{port}"

    def behave(self, behaviour: Behaviour) -> None:
        """Forget all tasks and counts, and be this slow from now on."""
        self._pipe.send(behaviour)
        self._pipe.recv()

    def seen(self) -> Seen:
        """What was counted since `behave`; `cpu_s` since the start."""
        self._pipe.send("seen")
        found: Seen = self._pipe.recv()
        return found


@contextmanager
def serving(core: int) -> Iterator[Server]:
    """A server on a core of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, core), daemon=True)
    process.start()
    try:
        yield Server(ours, ours.recv())
    finally:
        ours.send(None)
        process.join(10)
        if process.is_alive():
            process.kill()


def _serve(pipe: Connection, core: int) -> None:
    os.sched_setaffinity(0, {core})
    uvloop.run(_listen(pipe))


async def _listen(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    world = _World(Behaviour())
    listener = await loop.create_server(
        lambda: _Connection(world, loop), "127.0.0.1", 0, backlog=4096
    )
    pipe.send(listener.sockets[0].getsockname()[1])
    over = asyncio.Event()

    def obey() -> None:
        order = pipe.recv()
        if order is None:
            over.set()
        elif isinstance(order, Behaviour):
            world.behaviour = order
            world.created, world.finished = array("d"), array("d")
            for _ in range(order.n_there):
                world.accept()
            world.seen = Seen(n_open=world.seen.n_open, n_open_peak=world.seen.n_open)
            pipe.send("ready")
        else:
            world.seen.cpu_s = time.process_time()
            pipe.send(world.seen)

    loop.add_reader(pipe.fileno(), obey)
    await over.wait()
    listener.close()
