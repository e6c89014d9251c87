"""Webhooks of revision 2026-10: Standard Webhooks, and the whole task in each event."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from mynth_dagster.simulator import STANDARD_SECRET
from mynth_dagster.simulator.v2026_10 import sign_standard
from tests.simulator.catcher import complete_until, registered
from tests.simulator.test_shapes_2026_10 import same, sample_of

URL = "https://a.example/product.jpg"
OWN_SECRET = "whsec_YSBzZWNyZXQgb2YgMjQgYnl0ZXMsIG9r"
DAY_S = 86_400


def is_signed(caught, secret):
    """Whether the signature is of this secret, over id, time and raw body."""
    key = b64decode(secret.removeprefix("whsec_"))
    head = f"{caught.headers['webhook-id']}.{caught.headers['webhook-timestamp']}."
    digest = hmac.digest(key, head.encode() + caught.body, "sha256")
    return caught.headers["webhook-signature"] == "v1," + b64encode(digest).decode()


def test_the_public_test_vector_is_signed_as_published():
    """With the public secret of Standard Webhooks, which scenarios have by default."""
    body = b'{"test": 2432232314}'
    signature = sign_standard("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, STANDARD_SECRET)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("fields", "secret"), [({}, STANDARD_SECRET), ({"secret": OWN_SECRET}, OWN_SECRET)]
)
def test_an_event_is_signed_over_id_time_and_body(connect, catcher, fields, secret):
    """With the endpoint's secret, or with the one that such a scenario has."""
    api = connect(revision="2026-10", webhooks=[registered(catcher, **fields)])
    task = api.finish(metadata={"sku": "A-1"})
    caught = catcher.next()

    assert is_signed(caught, secret)
    assert not any(name.startswith("x-mynth") for name in caught.headers)
    assert caught.headers["content-type"] == "application/json"
    assert int(caught.headers["webhook-timestamp"]) == api.server.app.clock.now_us() // 1_000_000
    assert caught.payload == {
        "id": caught.headers["webhook-id"],
        "type": "task.image.generate.completed",
        "timestamp": task["updated_at"],
        "data": task,
    }
    assert caught.payload["id"].startswith("evt_")


EVENTS = [
    (
        "event_image_generate_completed",
        "generate",
        {"count": 2},
        [{"kind": "images", "image_indexes": [1]}],
    ),
    ("event_image_generate_failed", "generate", {}, [{"kind": "task"}]),
    ("event_image_rate_completed", "rate", {}, []),
    ("event_image_upscale_completed", "upscale", {"size": "2x", "effort": "low"}, []),
    ("event_image_remove_background_failed", "remove-background", {}, [{"kind": "moderation"}]),
]


@pytest.mark.parametrize(("name", "path", "fields", "rules"), EVENTS)
def test_events_have_the_shape_that_is_shown(connect, catcher, name, path, fields, rules):
    """Of every type of task, completed and failed."""
    api = connect(revision="2026-10", webhooks=[registered(catcher)], failures=rules)
    subject = {"prompt": "a red kite"} if path == "generate" else {"url": URL}
    api.client.post(f"/image/{path}", json={**subject, **fields})
    api.server.complete()
    told, sample = catcher.next().payload, sample_of(name)

    assert told["type"] == sample["type"]
    for payload in (told, sample):
        payload["data"]["request"] = {}
    assert same(told, sample) == []


def test_a_repetition_has_the_id_of_before_and_a_signature_of_its_own(connect, catcher):
    """Every endpoint is told the same id, too."""
    custom = [{"url": f"{catcher.url}/custom?token=secret"}]
    api = connect(revision="2026-10", webhooks=[registered(catcher), registered(catcher)])
    catcher.answer_next(500, 500, 500)
    api.finish(webhook={"custom": custom})
    first = catcher.take(3)
    complete_until(api, lambda log: log["webhooks"]["failed"] == 3)
    api.server.advance(5)
    second = catcher.take(3)

    assert len({caught.headers["webhook-id"] for caught in first + second}) == 1
    assert len({caught.body for caught in first + second}) == 1
    times = [
        {caught.headers["webhook-timestamp"] for caught in round_} for round_ in (first, second)
    ]
    assert [len(times[0]), len(times[1]), len(times[0] & times[1])] == [1, 1, 0]
    signatures = [c.headers["webhook-signature"] for c in first + second if c.path == "/hook"]
    assert len(set(signatures)) == 2
    unsigned = [caught for caught in first + second if "webhook-signature" not in caught.headers]
    assert {caught.path for caught in unsigned} == {"/custom?token=secret"}


def test_the_address_of_a_custom_endpoint_is_not_shown(connect, catcher):
    """Its path may hold a secret: reads and events show scheme and host alone."""
    api = connect(revision="2026-10", webhooks=[registered(catcher)])
    custom = [{"url": "https://user:word@127.0.0.1:9/x?token=secret"}]
    task = api.finish(webhook={"custom": custom}, metadata={"kept": "https://a.example/x?y"})
    told = catcher.next().payload["data"]

    for request in (task["request"], told["request"]):
        assert request["webhook"] == {"custom": [{"url": "https://127.0.0.1:9"}]}
        assert request["metadata"] == {"kept": "https://a.example/x?y"}


def test_a_request_may_mute_the_registered_endpoints(connect, catcher):
    """Its own are told nevertheless."""
    api = connect(revision="2026-10", webhooks=[registered(catcher)])
    api.finish(webhook={"registered": False, "custom": [{"url": f"{catcher.url}/own"}]})
    caught = catcher.next()
    log = complete_until(api, lambda log: log["webhooks"]["acknowledged"] == 1)

    assert caught.path == "/own"
    assert [delivery["signed"] for delivery in log["deliveries"]] == [False]


@pytest.mark.parametrize(
    ("fields", "n_heard"),
    [
        ({}, 2),
        ({"events": ["task.failed"]}, 1),
        ({"events": ["task.image.upscale.completed"]}, 1),
        ({"events": ["task.image.generate.completed"]}, 0),
        ({"api_key_ids": ["key_simulator_0"]}, 2),
        ({"api_key_ids": ["key_other"]}, 0),
        ({"api_key_ids": []}, 0),
    ],
)
def test_an_endpoint_hears_the_events_and_keys_that_it_asked_for(connect, catcher, fields, n_heard):
    """Filters of an endpoint of the scenario."""
    api = connect(
        revision="2026-10",
        webhooks=[registered(catcher, **fields)],
        failures=[{"kind": "task", "type": "image.generate"}],
    )
    api.finish()
    api.client.post("/image/upscale", json={"url": URL, "size": "2x", "effort": "low"})
    api.server.complete()

    assert len(api.server.log()["deliveries"]) == n_heard


def test_an_endpoint_made_over_the_api_signs_with_its_secret(new_api, catcher):
    """Which is told once, and is base64 after its prefix."""
    made = new_api.client.post(
        "/webhooks", json={"url": f"{catcher.url}/made", "events": ["all"]}
    ).json()["data"]
    new_api.finish()

    assert made["secret"].startswith("whsec_")
    assert len(b64decode(made["secret"].removeprefix("whsec_"), validate=True)) == 24
    assert is_signed(catcher.next(), made["secret"])


def test_attempts_go_on_for_three_days(connect, catcher):
    """With pauses that double from five seconds to an hour; nobody is disabled."""
    api = connect(revision="2026-10", webhooks=[{"url": "http://127.0.0.1:9/hook"}])
    api.finish()
    n_attempts = 1
    complete_until(api, lambda log: log["webhooks"]["failed"] == 1)
    waited_s, pause_s = 0, 5
    while waited_s + pause_s <= 3 * DAY_S:
        api.server.advance(pause_s)
        waited_s, n_attempts = waited_s + pause_s, n_attempts + 1
        complete_until(api, lambda log, n=n_attempts: log["webhooks"]["failed"] == n)
        pause_s = min(2 * pause_s, 3600)
    log = complete_until(api, lambda log: log["deliveries"][0]["state"] == "given up")

    assert len(log["deliveries"][0]["attempts"]) == n_attempts == 81
    assert log["webhooks"]["disabled_webhooks"] == 0


def test_events_may_come_twice_late_or_never(connect, catcher):
    """As in earlier revisions; the second delivery has the id of the first."""
    api = connect(
        revision="2026-10",
        webhooks=[registered(catcher)],
        deliveries={"delay": 30, "duplicate_share": 1.0},
    )
    api.finish()
    assert api.server.log()["webhooks"]["waiting"] == 1
    api.server.advance(30)
    heard = catcher.take(2)
    lossy = connect(
        revision="2026-10", webhooks=[registered(catcher)], deliveries={"lost_share": 1.0}
    )
    lossy.finish()

    assert heard[0].headers["webhook-id"] == heard[1].headers["webhook-id"]
    assert heard[0].body == heard[1].body
    assert lossy.server.log()["deliveries"][0]["state"] == "lost"


def test_samples_of_events_are_events():
    """They are compared by their own bodies, not wrapped in ``data``."""
    for path in (Path(__file__).parent / "shapes").glob("event_*.json"):
        assert {"id", "type", "timestamp", "data"} == set(json.loads(path.read_text())["body"])
