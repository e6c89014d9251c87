"""Who is let in, and that everybody else leaves no trace and learns nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from mynth_dagster.clock import ManualClock
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import WEBHOOK_BODY_MAX_BYTES, WEBHOOK_HEADERS_MAX
from mynth_dagster.models.receiver import RECEIVER_META, ReceiverReport
from mynth_dagster.webhook import WebhookSettings, create_app
from mynth_dagster.webhook import app as app_module
from mynth_dagster.webhook.app import admit
from tests.webhook.conftest import DONE, OLD_SECRET, SECRET, TOKEN, event_body

BODY = event_body(request={"prompt": "ü", "n": 1.0})


def refusal(answer):
    return answer.status_code, answer.text


def test_a_signed_event_is_kept_as_it_came_before_it_is_acknowledged(post):
    """The raw bytes, under what its duplicates share."""
    world = post()

    assert world.deliver(BODY) == 200
    assert world.rows() == [(f"signed:{DONE}:tsk_1", 1, BODY.decode())]


@pytest.mark.parametrize(
    "forge",
    [
        lambda world: {"content": BODY},
        lambda world: world.signed(BODY, secret="wbs_of_somebody_else"),
        lambda world: {**world.signed(BODY), "content": BODY.replace(b"tsk_1", b"tsk_2")},
        lambda world: {**world.signed(BODY), "content": orjson.dumps(orjson.loads(BODY)) + b" "},
        lambda world: world.signed(BODY, off_s=-301),
        lambda world: world.signed(BODY, off_s=301),
    ],
    ids=["unsigned", "other secret", "changed", "written again", "too old", "from the future"],
)
def test_what_is_not_signed_freshly_by_our_secret_changes_nothing(post, forge):
    """401 with one fixed text; the refusal is counted."""
    world = post()
    (answer,) = world.send(forge(world))

    assert refusal(answer) == (401, "refused\n")
    assert world.rows() == []
    ((report,),) = world.rows(f"SELECT value FROM meta WHERE key = '{RECEIVER_META}'")
    assert sum(ReceiverReport.from_json(report).n_refused.values()) == 1


@pytest.mark.parametrize("off_s", [-300, -299, 299, 300])
def test_300_seconds_either_way_are_accepted(post, off_s):
    """Neither side's clock is perfect."""
    assert post().deliver(BODY, off_s=off_s) == 200


def test_two_secrets_are_known_while_one_is_replaced(post):
    """Either alone, or both signatures in one header."""
    world = post(secrets=[SECRET, OLD_SECRET])
    both = [world.signed(BODY, secret=secret)["headers"][0][1] for secret in (OLD_SECRET, SECRET)]
    header = both[0] + "," + both[1].partition(",")[2]

    assert world.deliver(BODY) == 200
    assert world.deliver(BODY, secret=OLD_SECRET) == 200
    assert world.statuses({"content": BODY, "headers": [("X-Mynth-Signature", header)]}) == [200]
    assert len(world.rows()) == 1


MALFORMED = [
    "",
    "t=1795000000",
    "v1=00",
    "garbage",
    "t=nan,v1=00",
    "t=1e400,v1=00",
    "t=-1,v1=00",
    "t=1795000000,v1=",
    "t=1795000000,t=1795000000,v1=00",
    "t=" + "9" * 5000 + ",v1=00",
    "t=1795000000" + ",v1=00" * 10_000,
    "t=1795000000,v1=é",
    "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
]


@pytest.mark.parametrize("header", MALFORMED, ids=lambda header: header[:20] or "empty")
def test_malformed_signatures_are_refused_like_any_other(post, header):
    """Never a 500; a header beyond all measure is refused for its size."""
    world = post()
    request = {"content": BODY, "headers": [(b"X-Mynth-Signature", header.encode("latin-1"))]}
    (answer,) = world.send(request)

    assert refusal(answer) in [(401, "refused\n"), (431, "refused\n")]
    assert world.rows() == []


def test_a_secret_is_no_key_of_the_other_form(post):
    """The whole text of an older secret signs no newer delivery; upper case and twice is wrong."""
    world = post()
    at = str(world.now_s)
    mac = hmac.new(SECRET.encode(), b"evt_1." + at.encode() + b"." + BODY, hashlib.sha256).digest()
    standard = [
        ("webhook-id", "evt_1"),
        ("webhook-timestamp", at),
        ("webhook-signature", "v1," + base64.b64encode(mac).decode()),
    ]
    ours = world.signed(BODY)["headers"]
    shouted = [("X-Mynth-Signature", ours[0][1].upper().replace("T=", "t=").replace("V1", "v1"))]

    sent = [standard, shouted, [*ours, *ours]]
    answers = world.statuses(*({"content": BODY, "headers": headers} for headers in sent))
    assert answers == [401, 401, 401]
    assert world.rows() == []


def test_header_and_body_must_name_the_same_event(post):
    """The header is not signed."""
    world = post()
    request = world.signed(BODY)
    wrong = {**request, "headers": [*request["headers"], ("X-Mynth-Event", "task.failed")]}
    right = {**request, "headers": [*request["headers"], ("X-Mynth-Event", DONE)]}

    assert world.statuses(wrong, right) == [400, 200]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"event": NaN}',
        b'{"event":"x","task":{}}',
        b"[" * 100_000,
        b'{"event": 1, "task": {"id": "tsk_1"}}',
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(post, body):
    """400: it is genuine and still unusable."""
    world = post()
    (answer,) = world.send(world.signed(body))

    assert refusal(answer) == (400, "refused\n")
    assert world.rows() == []


@pytest.mark.parametrize(
    "name", ["task.image.generate.processing", "task.image.upscale.completed", "something.new"]
)
def test_events_that_mean_nothing_to_us_are_acknowledged_and_not_kept(post, name):
    """Else Mynth would send them again for hours."""
    world = post()

    assert world.deliver(event_body(event=name)) == 200
    assert world.rows() == []


def test_a_replay_leaves_no_trace_even_after_a_restart(post):
    """200 each time, one row, the first body."""
    world = post()
    again = event_body(request={"prompt": "other"})
    for body in (BODY, BODY, again):
        assert world.deliver(body) == 200

    assert [row[2] for row in world.rows()] == [BODY.decode()]


def test_ten_deliveries_of_one_event_at_once_are_one(post):
    """Also within one COMMIT."""
    world = post()

    assert world.statuses(*[world.signed(BODY)] * 10) == [200] * 10
    assert len(world.rows()) == 1


def test_a_custom_delivery_needs_the_token_and_remains_unverified(post):
    """Its body is not even kept: only that a task is said to be finished."""
    world = post()
    sent = [
        {"path": f"/custom/{TOKEN}", "content": BODY},
        {"path": f"/custom/{TOKEN}x", "content": BODY},
        {"path": f"/custom/{TOKEN[:-1]}", "content": BODY},
        {"path": "/custom/", "content": BODY},
        {"path": "/custom", "content": BODY},
        {"path": "/custom/%00%ff/é", "content": BODY},
        {"path": f"/custom/{TOKEN}/", "content": BODY},
    ]
    answers = world.send(*sent)

    assert [answer.status_code for answer in answers] == [200, 404, 404, 404, 404, 404, 404]
    assert {answer.text for answer in answers[1:]} == {"refused\n"}
    assert world.rows() == [(f"unverified:{DONE}:tsk_1", 0, None)]


def test_an_unverified_event_does_not_stand_in_the_way_of_the_signed_event(post):
    """Whoever knows the URL cannot make us deaf."""
    world = post()
    world.send({"path": f"/custom/{TOKEN}", "content": event_body(request="forged")})
    world.deliver(BODY)

    assert {row[0] for row in world.rows()} == {f"unverified:{DONE}:tsk_1", f"signed:{DONE}:tsk_1"}


def test_without_tokens_there_are_no_custom_endpoints_and_without_secrets_no_signed_one(post):
    """Each kind has to be asked for."""
    registered_only, custom_only = post(tokens=[]), post(secrets=[])

    assert registered_only.statuses({"path": f"/custom/{TOKEN}", "content": BODY}) == [404]
    assert custom_only.deliver(BODY) == 401
    assert custom_only.deliver(BODY, secret="") == 401


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "PUT", "content": BODY}, 405),
        ({"path": "/elsewhere", "content": BODY}, 404),
        ({"content": b"x" * (WEBHOOK_BODY_MAX_BYTES + 1)}, 413),
        ({"content": BODY, "headers": [("content-length", "9" * 30)]}, 413),
        ({"content": BODY, "headers": [(f"x-{n}", "") for n in range(WEBHOOK_HEADERS_MAX)]}, 431),
        ({"content": BODY, "headers": [("x-long", "x" * 20_000)]}, 431),
    ],
)
def test_what_no_sender_of_ours_does_is_refused_early(post, request_, status):
    """Before anything is verified; always with the same text."""
    (answer,) = post().send(request_)

    assert refusal(answer) == (status, "refused\n")


def called(app, *received, **scope):
    """What the app sends when a server calls it with these messages and then with none."""
    whole = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    waiting, sent = iter(received), []

    async def receive():
        message = next(waiting, None)
        return await asyncio.Event().wait() if message is None else message

    async def send(message):
        sent.append(message)

    async def call():
        await app({**whole, **scope}, receive, send)
        await app.close()

    asyncio.run(call())
    return sent


PART = {"type": "http.request", "body": b"{", "more_body": True}


@pytest.mark.parametrize(
    ("received", "status"), [([PART], 408), ([PART, {"type": "http.disconnect"}], 400)]
)
def test_a_body_that_stalls_or_breaks_off_is_refused_in_time(post, monkeypatch, received, status):
    """Nobody holds a request open; the connection of a slow sender is closed."""
    monkeypatch.setattr(app_module, "WEBHOOK_REQUEST_TIMEOUT_S", 0.05)
    world = post()
    start, body = called(create_app(world.ledger_url, [SECRET], clock=world.clock), *received)

    assert (start["status"], body["body"]) == (status, b"refused\n")
    assert ((b"connection", b"close") in start["headers"]) is (status == 408)
    assert world.rows() == []


def test_a_websocket_is_closed_and_a_mount_needs_no_slash(post):
    """Whatever a server makes of the path under which the receiver lies."""
    world = post()
    app = create_app(world.ledger_url, [SECRET], clock=world.clock)

    (closed,) = called(app, {"type": "websocket.connect"}, type="websocket")
    start, _ = called(app, {"type": "http.request", "body": b"{}"}, path="/x", root_path="/x")

    assert closed["type"] == "websocket.close"
    assert start["status"] == 401


def test_a_receiver_can_be_mounted(post):
    """Under any path of any ASGI application, without a start of its own."""
    world = post()
    receiver = create_app(world.ledger_url, [SECRET], clock=world.clock)
    app = Starlette(routes=[Mount("/hooks/mynth", receiver)])

    assert world.send({**world.signed(BODY), "path": "/hooks/mynth/"}, app=app)[0].is_success
    assert world.send({"path": "/hooks/mynth/x"}, app=app)[0].status_code == 404
    assert len(world.rows()) == 1


def test_events_that_were_worked_long_ago_are_forgotten(post):
    """By whoever receives; what waits to be worked is kept however old it is."""
    world = post()
    world.send(*(world.signed(event_body(f"tsk_{n}")) for n in range(3)))
    world.execute(
        "UPDATE webhook_events SET done_at_us = 1, outcome = 'read' WHERE task_id = 'tsk_0'"
    )
    world.deliver(event_body("tsk_3"))

    left = {task_id for (task_id,) in world.rows("SELECT task_id FROM webhook_events")}
    assert left == {"tsk_1", "tsk_2", "tsk_3"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "MYNTH_WEBHOOK_SECRET"),
        ({"secrets": [""]}, "webhook secret"),
        ({"secrets": ["has space"]}, "webhook secret"),
        ({"secrets": "wbs_not_a_list"}, "a list of at most 2"),
        ({"secrets": ["a", "b", "c"]}, "a list of at most 2"),
        ({"tokens": ["short"]}, "at least 16 characters"),
        ({"tokens": ["with/slash/in/the/middle"]}, "slash"),
    ],
)
def test_without_a_usable_secret_there_is_no_receiver(settings, said):
    """An open door is never the default."""
    with pytest.raises(ConfigError, match=said):
        create_app("sqlite:///ledger.db", **settings)


def test_secrets_are_in_no_repr_and_in_no_log(post, caplog):
    """Not even when everything goes wrong."""
    world = post()
    shown = repr(WebhookSettings(world.ledger_url, [SECRET], [TOKEN]))
    with caplog.at_level(logging.DEBUG, "mynth_dagster"):
        world.send(
            {"content": BODY, "headers": [("X-Mynth-Signature", SECRET)]},
            {"path": f"/custom/{TOKEN}x", "content": BODY},
        )

    said = [record.getMessage() for record in caplog.records if "httpx" not in record.name]
    assert any("refused" in line for line in said)
    assert not any(secret in line for secret in (SECRET, TOKEN) for line in [shown, *said])


def test_refusals_are_logged_loudly_but_not_in_a_flood(post, caplog):
    """Each reason once a minute; a wrong clock is named as such."""
    world = post()
    with caplog.at_level(logging.WARNING, "mynth_dagster.webhook"):
        world.send(*[world.signed(BODY, off_s=600)] * 20)

    assert caplog.text.count("check the clock") == 1


SETTINGS = WebhookSettings("sqlite:///x.db", [SECRET], [TOKEN])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *(b"x-mynth-signature", b"X-Mynth-Event", b"other"),
                    *(b"webhook-id", b"Webhook-Timestamp", b"webhook-signature"),
                ]
            ),
            st.binary(max_size=80) | st.sampled_from([b"evt_1", b"1795000000", b"v1,AAAA"]),
        ),
        max_size=5,
    ),
    body=st.binary(max_size=80),
    is_signed=st.booleans(),
)
def test_no_request_is_let_in_by_chance_or_breaks_anything(headers, body, is_signed):
    """Whatever the bytes are: refused, and nothing else raised."""
    with pytest.raises(HTTPException):
        admit(
            SETTINGS,
            is_signed=is_signed,
            headers=headers,
            body=body,
            now_us=ManualClock().now_us(),
        )
