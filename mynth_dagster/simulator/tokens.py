"""
Public access tokens: ``pat_`` and a signed JWT that opens one task for a while.

Algorithm and claims are invented; scope and lifetime are documented.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, Literal

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


def judge_token(token: str, task_id: str, at_us: int) -> Literal["opens", "expired", "wrong"]:
    """Whether a token is genuine and for this task, and if so, whether it expired by ``at_us``."""
    signed, _, signature = token.removeprefix(PREFIX).encode().rpartition(b".")
    if not hmac.compare_digest(_encode(_sign(signed)), signature):
        return "wrong"
    claims = orjson.loads(_decode(signed.partition(b".")[2]))
    if claims["sub"] != task_id:
        return "wrong"
    return "opens" if at_us < claims["exp"] * US_PER_S else "expired"


def _sign(signed: bytes) -> bytes:
    return hmac.digest(invented.TOKEN_SECRET, signed, "sha256")


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))


_HEADER: Final = _encode(b'{"alg":"HS256","typ":"JWT"}')
