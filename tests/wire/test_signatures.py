"""Webhook signatures: what is let in, and that nothing else ever happens than a rejection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.errors import WebhookRejectedError
from mynth_dagster.wire.signatures import (
    Stamp,
    key_of,
    read_stamp,
    sign,
    sign_standard,
    verify,
    verify_standard,
)

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


STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""Of the public test vector of Standard Webhooks."""

UPSCALED = Path(__file__).parents[1] / "webhook" / "deliveries" / "image.upscale.completed.json"
STAMP = Stamp("evt_1", str(AT_S))


def is_standard(header: str | None, *, stamp: Stamp = STAMP, body: bytes = BODY) -> bool:
    """Whether a delivery of the newer form is let in."""
    try:
        verify_standard(body, stamp, header, [SECRET, STANDARD_SECRET])
    except WebhookRejectedError:
        return False
    return True


def standard_digest(secret: str = STANDARD_SECRET, message: bytes = b"") -> str:
    """The documented signature of the newer form, computed here independently."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = message or b"evt_1." + str(AT_S).encode() + b"." + BODY
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


STANDARD_GOOD = f"v1,{standard_digest()}"


@pytest.mark.parametrize(
    ("stamp", "body", "signature"),
    [
        (
            Stamp("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"),
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            Stamp("evt_01KE7Y9M3R8T2QXN5BVC4WJ6HD", "1791108015"),
            json.loads(UPSCALED.read_text("utf-8"))["raw"].encode(),
            "v1,Gqwny2p9exEFgYzhG5x0zA8JoAX/IeJ8ZiJGHfxBmUc=",
        ),
    ],
    ids=["Standard Webhooks", "Mynth"],
)
def test_the_public_vectors_are_made_and_accepted(stamp, body, signature):
    """HMAC-SHA256 over id, time and body, with the decoded secret as key."""
    assert sign_standard(body, STANDARD_SECRET, stamp) == signature
    verify_standard(body, stamp, signature, [STANDARD_SECRET])
    verify_standard(body, stamp, signature, [STANDARD_SECRET.removeprefix("whsec_")])


def test_the_documented_newer_signature_is_made():
    """As it is computed here."""
    assert sign_standard(BODY, STANDARD_SECRET, STAMP) == STANDARD_GOOD


@pytest.mark.parametrize(
    "header",
    [
        f"v1,AAAA {STANDARD_GOOD}",
        f"{STANDARD_GOOD} v1,AAAA",
        f"v2,AAAA v1a,AAAA  x v1 v1, v1,! {STANDARD_GOOD} é",
    ],
    ids=["first", "last", "odd ones"],
)
def test_any_valid_entry_of_the_list_is_enough(header):
    """Unknown versions and malformed entries are skipped."""
    assert is_standard(header)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", " ", ",", "v1", "v1,", "é"),
        STANDARD_GOOD.replace("v1", "v2"),
        STANDARD_GOOD.replace("v1", "V1"),
        STANDARD_GOOD.replace(",", "="),
        STANDARD_GOOD.replace(",", ", "),
        STANDARD_GOOD + ",",
        STANDARD_GOOD.removesuffix("="),
        STANDARD_GOOD + "=",
        STANDARD_GOOD.swapcase(),
        f"{STANDARD_GOOD},{STANDARD_GOOD}",
        f"v1,{digest()}",
        " ".join(["v1,AAAA"] * 1000 + [STANDARD_GOOD]),
        f"v1,{standard_digest(base64.b64encode(STANDARD_SECRET.encode()).decode())}",
        f"v1,{standard_digest(message=str(AT_S).encode() + b'.' + BODY)}",
    ],
)
def test_a_list_without_a_valid_entry_is_rejected(header):
    """Another version, spelling, key or message is none."""
    assert not is_standard(header)


@pytest.mark.parametrize(
    "changes",
    [
        {"stamp": replace(STAMP, event_id="evt_2")},
        {"stamp": replace(STAMP, timestamp=str(AT_S + 1))},
        {"stamp": replace(STAMP, timestamp=f"0{AT_S}")},
        {"body": BODY + b" "},
        {"body": b""},
    ],
    ids=["id", "time", "time written otherwise", "a space", "no body"],
)
def test_id_time_and_body_are_signed_as_they_are_written(changes):
    """One character in any of them is another message."""
    assert is_standard(STANDARD_GOOD)
    assert not is_standard(STANDARD_GOOD, **changes)


def test_each_of_several_secrets_is_tried_where_it_can_be_a_key():
    """An older secret beside it does no harm, and is no key of the newer form."""
    header = sign_standard(BODY, STANDARD_SECRET, STAMP)
    verify_standard(BODY, STAMP, header, ["wbs_older", STANDARD_SECRET])
    verify_standard(BODY, STAMP, header, [STANDARD_SECRET, "wbs_older"])
    for secrets in ([], ["wbs_older"]):
        with pytest.raises(WebhookRejectedError, match="no secret is one of"):
            verify_standard(BODY, STAMP, header, secrets)


@pytest.mark.parametrize("secret", ["whsec_YWI=", "whsec_YWI", "YWI=", "YWI"])
def test_prefix_and_padding_of_a_secret_may_be_left_out(secret):
    """As other libraries of Standard Webhooks allow."""
    assert key_of(secret) == b"ab"


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "wbs_x", "whsec_abcde", "whsec_ab=c", "whsec_a-b_"]
)
def test_what_is_no_base64_is_no_key(secret):
    """Nor is nothing at all, which anybody could sign with."""
    assert key_of(secret) is None
    with pytest.raises(ValueError, match="base64"):
        sign_standard(BODY, secret, STAMP)


@pytest.mark.parametrize(
    ("off_s", "is_fresh"), [(300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_stamp_is_fresh_for_300_seconds_either_way(off_s, is_fresh):
    """Of the receiver's clock."""
    now_us = NOW_US + off_s * 1_000_000
    if is_fresh:
        assert read_stamp("evt_1", str(AT_S), now_us=now_us) == STAMP
    else:
        with pytest.raises(WebhookRejectedError, match="clock"):
            read_stamp("evt_1", str(AT_S), now_us=now_us)


@pytest.mark.parametrize(
    ("event_id", "timestamp"),
    [
        *((odd, str(AT_S)) for odd in (None, "", "a.b", "a b", "a:b", "é", "a\n", "e" * 201)),
        *(("evt_1", odd) for odd in (None, "", "x", "-1", "²", "1.5", "1e9", f"{AT_S}\n")),
        ("evt_1", f"{AT_S:016d}"),
    ],
)
def test_a_stamp_has_an_id_that_can_be_kept_and_a_time_in_digits(event_id, timestamp):
    """1 to 15 of them; nothing else is read as a time."""
    with pytest.raises(WebhookRejectedError, match="missing or malformed"):
        read_stamp(event_id, timestamp, now_us=NOW_US)


ENTRIES = st.lists(st.sampled_from(["v1", "v2", ",", " ", "=", "AAAA", "é", "\x00"])).map("".join)


@given(header=st.none() | st.text() | ENTRIES)
def test_no_list_of_signatures_raises_anything_else(header):
    """Fuzz: a forged header is rejected, and never crashes the receiver."""
    with pytest.raises(WebhookRejectedError):
        verify_standard(BODY, STAMP, header, [SECRET, STANDARD_SECRET])


@given(event_id=st.none() | st.text(), timestamp=st.none() | st.text())
def test_no_stamp_raises_anything_else(event_id, timestamp):
    """Fuzz: what is no fresh stamp is rejected."""
    with pytest.raises(WebhookRejectedError):
        read_stamp(event_id, timestamp, now_us=NOW_US)


@given(body=st.binary(), key=st.binary(min_size=1), at_s=st.integers(0, 10**15 - 1))
def test_what_is_signed_in_the_newer_form_verifies(body, key, at_s):
    """Any body, key and time go round."""
    secret = "whsec_" + base64.b64encode(key).decode()
    stamp = read_stamp("evt_1", str(at_s), now_us=at_s * 1_000_000)

    verify_standard(body, stamp, sign_standard(body, secret, stamp), [secret])
    assert stamp.at_s == at_s
