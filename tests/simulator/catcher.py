"""An endpoint on a socket that keeps what it is sent and answers as told."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import orjson

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Caught:
    """One delivery; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))


class Catcher:
    """What arrived, in order; `answers` are used up one by one, then it is 200."""

    def __init__(self) -> None:
        self.caught: queue.Queue[Caught] = queue.Queue()
        self.answers: queue.Queue[int] = queue.Queue()
        self.url = ""

    def answer_next(self, *statuses: int) -> None:
        for status in statuses:
            self.answers.put(status)

    def next(self) -> Caught:
        """The next delivery; fails if none comes."""
        return self.caught.get(timeout=PATIENCE_S)

    def take(self, n: int) -> list[Caught]:
        return [self.next() for _ in range(n)]

    def _next_status(self) -> int:
        try:
            return self.answers.get_nowait()
        except queue.Empty:
            return 200


@contextmanager
def running_catcher() -> Iterator[Catcher]:
    """Listen on a free port."""
    catcher = Catcher()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = catcher._next_status()
            self.send_response(status)
            self.send_header("content-length", "0")
            self.send_header("location", f"{catcher.url}/elsewhere")
            self.end_headers()
            catcher.caught.put(Caught(self.path, headers, body))

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    catcher.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield catcher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def registered(catcher: Catcher, **fields: Any) -> dict[str, Any]:
    """A registered webhook of a scenario that the catcher gets."""
    return {"url": f"{catcher.url}/hook", **fields}


def complete_until(api, condition):
    """Look at the log until deliveries got as far as that; they travel in real time."""
    until = time.monotonic() + 20
    while not condition(log := api.server.log()):
        assert time.monotonic() < until, log["deliveries"]
    return log
