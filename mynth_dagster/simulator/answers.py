"""An HTTP answer as a value, so that a fault can still spoil it."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import orjson

from mynth_dagster.clock import US_PER_S

Headers = list[tuple[bytes, bytes]]

JSON_TYPE = b"application/json"
HTML_TYPE = b"text/html; charset=utf-8"


@dataclass(slots=True)
class Answer:
    """
    Status, body and headers; ``content-type`` and ``content-length`` are added when sent.

    ``length`` is the length to announce where it is not the body's (a truncated answer).
    """

    status: int
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: Headers = field(default_factory=list)
    length: int | None = None

    def all_headers(self) -> Headers:
        """What goes on the wire."""
        n_bytes = len(self.body) if self.length is None else self.length
        length = (b"content-length", b"%d" % n_bytes)
        if self.status == 204:
            return self.headers
        return [(b"content-type", self.content_type), length, *self.headers]


def answer_json(payload: Any, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(status, orjson.dumps(payload))


def date_of(at_us: int) -> tuple[bytes, bytes]:
    """The ``Date`` header of an answer."""
    return b"date", _http_date(at_us // US_PER_S)


@lru_cache(maxsize=4)
def _http_date(at_s: int) -> bytes:
    return formatdate(at_s, usegmt=True).encode()
