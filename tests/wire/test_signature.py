"""Webhook signatures: what is let in, and that nothing else ever happens than a rejection."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.errors import WebhookRejectedError
from mynth_dagster.wire.signature import sign, verify

BODY = b'{"event":"task.image.generate.completed","task":{"id":"tsk_A"}}'
SECRET = "whsec_new"
AT_S = 1_795_000_000
NOW_US = AT_S * 1_000_000


def digest(at: str = str(AT_S), body: bytes = BODY, secret: str = SECRET) -> str:
    """The documented signature, computed here independently."""
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


GOOD = digest()


def test_the_documented_signature_is_made_and_accepted():
    """`t=<seconds>,v1=<hex of HMAC-SHA256 over t.body>`."""
    header = sign(BODY, SECRET, at_s=AT_S)

    assert header == f"t={AT_S},v1={GOOD}"
    assert verify(BODY, header, [SECRET], now_us=NOW_US) == AT_S


@pytest.mark.parametrize(
    "header",
    [
        f"t={AT_S}, v1={GOOD}",
        f"v1={GOOD},t={AT_S}",
        f"t={AT_S},v1={'0' * 64},v1={GOOD}",
        f"t={AT_S},v0=old,v1={GOOD},x",
        f"t={AT_S},v1={digest(secret='whsec_old')}",
    ],
    ids=["spaces", "order", "several", "unknown keys", "old secret"],
)
def test_any_matching_signature_is_enough(header):
    """Several signatures, unknown keys and the secret that is being replaced are fine."""
    assert verify(BODY, header, ["whsec_old", SECRET], now_us=NOW_US) == AT_S


@pytest.mark.parametrize(
    ("off_s", "is_fresh"), [(300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_delivery_is_fresh_for_300_seconds_either_way(off_s, is_fresh):
    """Exactly 300 s passes, 301 s does not, and the reason names the clock."""
    header = sign(BODY, SECRET, at_s=AT_S)
    now_us = NOW_US + off_s * 1_000_000

    if is_fresh:
        assert verify(BODY, header, [SECRET], now_us=now_us) == AT_S
    else:
        with pytest.raises(WebhookRejectedError, match="clock"):
            verify(BODY, header, [SECRET], now_us=now_us)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "t", "=", ",", "t=,v1=", f"t={AT_S}", f"v1={GOOD}"),
        f"t={AT_S} v1={GOOD}",
        f"t={AT_S},t={AT_S},v1={GOOD}",
        f"t={AT_S},v1={GOOD.upper()}",
        f"t={AT_S},v1={GOOD[:-1]}",
        f"t={AT_S},v2={GOOD}",
        *(f"t={odd},v1={GOOD}" for odd in ("nan", "1e400", "-1", "²", "1.5", "0x1", "9" * 400)),
        f"t={AT_S},v1={GOOD},v1=é",
        f"t={AT_S}," + ",".join(["v1=" + "0" * 64] * 10_000),
        "webhook-signature: v1,AAAA",
    ],
)
def test_a_malformed_header_is_rejected_and_nothing_else(header):
    """Whatever is wrong with it, the receiver gets the one error it answers 401 for."""
    with pytest.raises(WebhookRejectedError):
        verify(BODY, header, [SECRET], now_us=NOW_US)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b'":"', b'": "'), b"", BODY[:-1]])
def test_a_changed_body_is_rejected(body):
    """One byte, or the same JSON written again, is another body."""
    with pytest.raises(WebhookRejectedError, match="no signature matches"):
        verify(body, sign(BODY, SECRET, at_s=AT_S), [SECRET], now_us=NOW_US)


def test_without_a_secret_nothing_is_accepted():
    """No secret is no permission."""
    with pytest.raises(WebhookRejectedError):
        verify(BODY, sign(BODY, SECRET, at_s=AT_S), [], now_us=NOW_US)


@given(header=st.text() | st.from_regex(r"(t=[^,]*|v1=[^,]*|,| )*", fullmatch=True))
def test_no_header_raises_anything_else(header):
    """Fuzz: a forged header is rejected, and never crashes the receiver."""
    with pytest.raises(WebhookRejectedError):
        verify(BODY, header, [SECRET], now_us=NOW_US)


@given(body=st.binary(), secret=st.text(min_size=1), at_s=st.integers(0, 10**12))
def test_what_is_signed_verifies(body, secret, at_s):
    """Any body, secret and time go round."""
    header = sign(body, secret, at_s=at_s)

    assert verify(body, header, [secret], now_us=at_s * 1_000_000) == at_s
