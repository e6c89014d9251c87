"""
Public access tokens: ``pat_`` and a signed JWT that opens one task for a while.

Algorithm and claims are invented; scope and lifetime are documented.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import orjson

from mynth_dagster.clock import US_PER_S
from mynth_dagster.simulator import invented

PREFIX: Final = "pat_"


def issue_token(task_id: str, at_us: int, lifetime_s: int) -> str:
    """A token for one task, valid for ``lifetime_s`` seconds from ``at_us``."""
    issued_s = at_us // US_PER_S
    claims = f'{{"sub":"{task_id}","iat":{issued_s},"exp":{issued_s + lifetime_s}}}'
    signed = _HEADER + b"." + _encode(claims.encode())
    return (PREFIX.encode() + signed + b"." + _encode(_sign(signed))).decode()


def token_opens(token: str, task_id: str, at_us: int) -> bool:
    """Whether a token is genuine, is for this task, and has not expired at ``at_us``."""
    signed, _, signature = token.removeprefix(PREFIX).encode().rpartition(b".")
    if not hmac.compare_digest(_encode(_sign(signed)), signature):
        return False
    claims = orjson.loads(_decode(signed.partition(b".")[2]))
    opens = claims["sub"] == task_id and at_us < claims["exp"] * US_PER_S
    return bool(opens)


def _sign(signed: bytes) -> bytes:
    return hmac.digest(invented.TOKEN_SECRET, signed, "sha256")


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))


_HEADER: Final = _encode(b'{"alg":"HS256","typ":"JWT"}')
