"""
A server in front of the simulator whose image files misbehave.

The API is passed through; `/cdn/` and what begins so is answered by a function of the test.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from mynth_dagster.simulator import SimulatorServer

Answer = Callable[["Visit"], None]
_PASSED_ON = ("content-type", "date", "retry-after")


class Visit(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Front

    def do_GET(self) -> None:
        if self.path.startswith("/cdn"):
            self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
            self.server.answer(self)
        else:
            self.pass_through()

    def do_POST(self) -> None:
        self.pass_through()

    def pass_through(self, path: str | None = None) -> None:
        """What the simulator answers."""
        status, headers, body = self.server.ask(self, path or self.path)
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() in _PASSED_ON:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, head: str, *parts: bytes) -> None:
        """These very bytes, and the end of the connection."""
        self.close_connection = True
        self.wfile.write(f"HTTP/1.1 {head}\r\n\r\n".encode())
        for part in parts:
            self.wfile.write(part)

    def picture(self) -> bytes:
        """The bytes that the simulator has for it."""
        return self.server.ask(self, self.path)[2]

    def log_message(self, *_: object) -> None:
        """Silence."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client had enough
            self.close_connection = True


class Front(ThreadingHTTPServer):
    """
    The server; `asked` has the headers of each request for a file, in lower case.

    `answer` may be changed while it runs.
    """

    daemon_threads = True

    def __init__(self, simulator: SimulatorServer, answer: Answer = Visit.pass_through) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.answer = answer
        self.asked: list[dict[str, str]] = []
        self._simulator = urlsplit(simulator.url)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server_address[:2])

    def ask(self, visit: Visit, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """The simulator's answer to a request as it came, host and all."""
        length = int(visit.headers.get("content-length") or 0)
        body = visit.rfile.read(length)
        assert self._simulator.hostname
        link = http.client.HTTPConnection(self._simulator.hostname, self._simulator.port)
        try:
            link.request(visit.command, path, body, dict(visit.headers.items()))
            answer = link.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            link.close()

    def __enter__(self) -> Front:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
