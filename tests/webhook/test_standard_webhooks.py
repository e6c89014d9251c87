"""Who is let in by the rules of revision 2026-10, beside those who come by the older ones."""

from __future__ import annotations

import logging

import orjson
import pytest

from mynth_dagster.engine.health import webhook_findings
from mynth_dagster.ledger import Ledger
from mynth_dagster.models.receiver import RECEIVER_META, ReceiverReport
from tests.webhook.conftest import (
    DONE,
    EVENT_ID,
    NEW_SECRET,
    SECRET,
    TOKEN,
    event_body,
    new_body,
)

BODY = new_body()
OTHER_SECRET = "whsec_YW5vdGhlciBzZWNyZXQgb2YgdHdlbnR5LWZvdXIhISE="
CUSTOM = f"/custom/{TOKEN}"
UNSIGNED_HEADERS = ("webhook-id", "webhook-timestamp")


@pytest.fixture
def world(post):
    """A receiver that has a secret of the newer form."""
    return post(secrets=[NEW_SECRET])


def unsigned(request, path=CUSTOM):
    """The delivery as it comes to a custom endpoint."""
    headers = [pair for pair in request["headers"] if pair[0] in UNSIGNED_HEADERS]
    return {**request, "path": path, "headers": headers}


def without(request, name):
    return {**request, "headers": [pair for pair in request["headers"] if pair[0] != name]}


def with_header(request, name, value):
    return {**request, "headers": [*without(request, name)["headers"], (name, value)]}


def signature(request):
    return dict(request["headers"])["webhook-signature"]


def test_an_event_is_kept_as_it_came_under_its_own_id(world):
    """The raw bytes, and the second in which this attempt was signed."""
    assert world.statuses(world.standard(BODY, off_s=-7)) == [200]
    assert world.rows() == [(f"signed:{EVENT_ID}", 1, BODY.decode())]
    ((signed_at_us,),) = world.rows("SELECT signed_at_us FROM webhook_events")
    assert signed_at_us == (world.now_s - 7) * 1_000_000


def test_one_event_is_one_however_often_and_to_whichever_endpoint_it_comes(post):
    """Each attempt and each endpoint signs anew, the id stays."""
    world = post(secrets=[NEW_SECRET, OTHER_SECRET])
    first, later = world.standard(BODY), world.standard(BODY, off_s=60)
    elsewhere = world.standard(BODY, secret=OTHER_SECRET)

    assert world.statuses(*[first] * 5, later, elsewhere) == [200] * 7
    assert len(world.rows()) == 1


def test_an_event_that_comes_again_and_says_something_else_is_logged(world, caplog):
    """The first one stays; what two secrets or a broken sender did is for a person to see."""
    other = world.standard(BODY.replace(b"completed", b"failed"))
    with caplog.at_level(logging.WARNING, "mynth_dagster.webhook"):
        assert world.statuses(world.standard(BODY), world.standard(BODY), other) == [200] * 3

    assert caplog.text.count("says something else (signed:") == 1
    assert len(world.rows()) == 1


def test_two_events_about_one_task_are_two(world):
    """What tells events apart is their id, and no longer name and task."""
    ids = ("evt_1", "evt_2")
    sent = [world.standard(new_body(each), event_id=each) for each in ids]

    assert world.statuses(*sent) == [200, 200]
    assert {row[0] for row in world.rows()} == {f"signed:{each}" for each in ids}


@pytest.mark.parametrize(
    "forge",
    [
        lambda world: {"content": BODY},
        lambda world: world.standard(BODY, secret=OTHER_SECRET),
        lambda world: {**world.standard(BODY), "content": BODY.replace(b"tsk_1", b"tsk_2")},
        lambda world: {**world.standard(BODY), "content": BODY + b" "},
        lambda world: world.standard(BODY, off_s=-301),
        lambda world: world.standard(BODY, off_s=301),
        lambda world: with_header(world.standard(BODY), "webhook-id", "evt_2"),
        lambda world: with_header(world.standard(BODY), "webhook-timestamp", str(world.now_s + 1)),
        lambda world: without(world.standard(BODY), "webhook-id"),
        lambda world: without(world.standard(BODY), "webhook-timestamp"),
        lambda world: without(world.standard(BODY), "webhook-signature"),
        lambda world: unsigned(world.standard(BODY), path="/"),
    ],
    ids=[
        *("no header", "other secret", "changed", "written again", "too old", "from the future"),
        *("other id", "other time", "no id", "no time", "no signature", "unsigned"),
    ],
)
def test_what_is_not_signed_freshly_by_our_secret_leaves_no_trace(world, forge):
    """401 with the text of every refusal."""
    (answer,) = world.send(forge(world))

    assert (answer.status_code, answer.text) == (401, "refused\n")
    assert world.rows() == []
    ((report,),) = world.rows(f"SELECT value FROM meta WHERE key = '{RECEIVER_META}'")
    assert sum(ReceiverReport.from_json(report).n_refused.values()) == 1


@pytest.mark.parametrize("off_s", [-300, -299, 299, 300])
def test_300_seconds_either_way_are_accepted_here_too(world, off_s):
    """300 passes, 301 does not."""
    assert world.statuses(world.standard(BODY, off_s=off_s)) == [200]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("webhook-timestamp", odd) for odd in ("", "x", "-1", "1.5", "1e9", "+1", "9" * 16)),
        *(("webhook-id", odd) for odd in ("", "evt.1", "evt 1", "a:b", "é", "e" * 201)),
        *(("webhook-signature", odd) for odd in ("", "v1", "v1,", "v2,AAAA", "v1,*", "v1,AAAA")),
        ("webhook-signature", "v1,AAAA " * 600),
    ],
)
def test_malformed_headers_are_refused_like_a_wrong_signature(world, name, value):
    """Never a 500, and nothing odd is stored."""
    encoded = (name.encode(), value.encode("utf-8"))
    request = without(world.standard(BODY), name)
    headers = [(k.encode(), v.encode()) for k, v in request["headers"]]
    (answer,) = world.send({**request, "headers": [*headers, encoded]})

    assert (answer.status_code, answer.text) == (401, "refused\n")
    assert world.rows() == []


def test_any_valid_signature_among_others_is_enough(world):
    """Unknown versions and malformed entries are passed over."""
    request = world.standard(BODY)
    several = f"v2,AAAA v1 v1,! v1a,AAAA garbage v1,AAAA  {signature(request)} v1,BBBB"

    assert world.statuses(with_header(request, "webhook-signature", several)) == [200]


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_stands_there_twice_is_refused(world, name):
    """Which of the two was signed is not for us to guess."""
    request = world.standard(BODY)
    twice = [*request["headers"], (name, dict(request["headers"])[name])]

    assert world.statuses({**request, "headers": twice}) == [401]


def test_a_request_with_headers_of_both_forms_is_refused(post):
    """Even if both signatures are right, and even at a custom endpoint."""
    world = post(secrets=[NEW_SECRET, SECRET])
    both = {
        body: {
            "content": body,
            "headers": [*world.standard(body)["headers"], *world.signed(body)["headers"]],
        }
        for body in (BODY, event_body())
    }
    sent = [*both.values(), {**both[BODY], "path": CUSTOM}]
    partly = with_header(world.signed(event_body()), "webhook-id", EVENT_ID)

    assert world.statuses(*sent, partly) == [401] * 4
    assert world.rows() == []


def test_headers_and_body_have_to_be_of_one_form(post):
    """400: each is genuine, and they do not belong together."""
    world = post(secrets=[NEW_SECRET, SECRET])
    sent = [
        world.signed(BODY),
        world.standard(event_body()),
        {"path": CUSTOM, "content": BODY},
        unsigned(world.standard(event_body())),
    ]

    assert world.statuses(*sent) == [400] * 4
    assert world.rows() == []


def test_the_older_header_with_the_events_name_says_nothing_here(world):
    """It is judged in the older form only."""
    request = with_header(world.standard(BODY), "X-Mynth-Event", "task.image.rate.completed")

    assert world.statuses(request) == [200]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": 7},
        {"id": "evt_2"},
        {"type": None},
        {"type": 7},
        {"type": "t" * 101},
        {"timestamp": None},
        {"timestamp": 1_791_108_012},
        {"data": None},
        {"data": []},
        {"data": {}},
        {"data": {"id": 7}},
        {"data": {"id": ""}},
        {"data": {"id": "t" * 201}},
        {"data": {"id": "tsk 1"}},
        {"data": {"id": "tsk\u0000"}},
        {"data": {"id": "tskü"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_signed", [True, False])
def test_a_body_that_is_no_event_or_another_one_is_refused(world, changes, is_signed):
    """400, signed or not: texts where texts have to be, and ids that can be kept."""
    body = orjson.dumps({**orjson.loads(BODY), **changes})
    request = world.standard(body)
    (answer,) = world.send(request if is_signed else unsigned(request))

    assert (answer.status_code, answer.text) == (400, "refused\n")
    assert world.rows() == []


@pytest.mark.parametrize(
    "name",
    [
        *("task.image.upscale.completed", "task.image.remove_background.failed"),
        *("task.video.generate.completed", "task.audio.generate.completed"),
        *("task.completed", "something.new", "ü"),
    ],
)
def test_events_of_other_tasks_are_acknowledged_and_leave_no_trace(world, name):
    """Also those that nobody knows yet."""
    request = world.standard(new_body(event=name))

    assert world.statuses(request, unsigned(request)) == [200, 200]
    assert world.rows() == []


def test_an_unsigned_delivery_is_unverified_under_the_events_id(world):
    """Without its body; and it does not stand in the way of the signed event."""
    request = world.standard(BODY)

    assert world.statuses(unsigned(request), unsigned(request), request) == [200] * 3
    assert sorted(world.rows()) == [
        (f"signed:{EVENT_ID}", 1, BODY.decode()),
        (f"unverified:{EVENT_ID}", 0, None),
    ]


@pytest.mark.parametrize("off_s", [-301, 0, 301])
@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "other"])
def test_an_unsigned_delivery_has_to_carry_both_headers_and_a_fresh_time(world, name, off_s):
    """They prove nothing, but no delivery of Mynth is without them."""
    request = unsigned(without(world.standard(BODY, off_s=off_s), name))

    is_good = name == "other" and off_s == 0
    assert world.statuses(request) == [200 if is_good else 401]
    assert len(world.rows()) == is_good


def test_secrets_of_both_forms_are_known_while_all_webhooks_get_new_ones(post):
    """Events of the older and of the newer form, one after the other."""
    world = post(secrets=[NEW_SECRET, SECRET])

    assert world.deliver(event_body()) == 200
    assert world.statuses(world.standard(BODY)) == [200]
    assert {row[0] for row in world.rows()} == {f"signed:{DONE}:tsk_1", f"signed:{EVENT_ID}"}


def test_a_secret_that_begins_like_a_newer_one_is_good_for_either_form(post):
    """Revision 2026-08 has secrets that begin with whsec_; there the whole text is the key."""
    world = post(secrets=[NEW_SECRET])

    assert world.deliver(event_body(), secret=NEW_SECRET) == 200
    assert world.statuses(world.standard(BODY)) == [200]


@pytest.mark.parametrize("secret", ["wbs_older", "whsec_", "whsec_no-base64!", "whsec_abcde"])
def test_a_secret_that_is_no_base64_verifies_nothing_of_the_newer_form(post, secret):
    """Its deliveries are refused, and the doctor says why."""
    world = post(secrets=[secret])

    assert world.statuses(world.standard(BODY)) == [401]
    ledger = Ledger.open(world.ledger_url)
    findings = webhook_findings(ledger, now_us=world.clock.now_us())
    ledger.close()
    (said,) = [finding.message for finding in findings if finding.subject == "refusals"]
    assert "1 × no secret is one of revision 2026-10" in said
