"""Tolerance and its bounds: odd answers are read, or refused in words, and never guessed at."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynth_dagster.errors import UnexpectedPayloadError
from mynth_dagster.wire import PROFILES, decode
from mynth_dagster.wire.decode import parse_json
from mynth_dagster.wire.revision import revision_by_catalog, revision_by_estimate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        *("data", "error", "errors", "taskId", "task_id", "access", "id", "status", "result"),
        *("request", "images", "cost", "estimatedCost", "createdAt", "size", "code", "issues"),
    ]
)
SHAPES = st.recursive(
    JSON | st.sampled_from(["completed", "failed", "succeeded", "Infinity", "NaN", "1e999999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "body",
    [
        {"taskId": "tsk_A"},
        {"task_id": "tsk_A"},
        {"data": {"taskId": "tsk_A"}},
        {"data": {"task_id": "tsk_A"}},
    ],
)
def test_a_task_id_is_found_at_each_known_place(body):
    """Any revision's spelling of a created task is understood."""
    assert decode.find_task_id(body) == "tsk_A"


@pytest.mark.parametrize(
    "body", [{"error": {"code": "x", "task_id": "tsk_A"}}, {"code": "X", "taskId": "tsk_A"}]
)
def test_the_task_that_an_error_is_about_is_found(body):
    """In its object or, until 2026-10, beside it; what it is worth its code says."""
    assert decode.find_task_id_of_error(body) == "tsk_A"


@pytest.mark.parametrize(
    "body",
    [
        *(None, "tsk_A", ["tsk_A"], {}, {"id": "tsk_A"}, {"data": None}, {"data": ["tsk_A"]}),
        {"message": "created tsk_A, taskId tsk_A"},
        {"error": "task_id tsk_A"},
        {"data": {"task": {"taskId": "tsk_A"}}},
        {"request": {"metadata": {"taskId": "tsk_A"}}},
        *({"taskId": value} for value in (None, "", "  ", 7, ["tsk_A"], {"id": "tsk_A"}, True)),
    ],
)
def test_a_task_id_is_never_searched_for(body):
    """An id in prose, under another name, of another type or deeper down is no id."""
    assert decode.find_task_id(body) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"not json", b"\xef\xbb\xbf{}", b"\xff\xfe", b'{"a":NaN}', b"{", b"[" * 100_000],
    ids=["empty", "text", "bom", "utf16", "nan", "cut", "deep"],
)
def test_what_is_not_strict_json_is_nothing(raw):
    """A byte order mark, a wrong charset or a cut body prove nothing."""
    assert parse_json(raw) is None


def test_text_that_no_database_keeps_is_made_harmless():
    """Lone surrogates and NUL characters of an answer cannot stop its task id being stored."""
    raw = (
        rb'{"taskId":"tsk_A","message":"a\ud800b\u0000c",'
        rb'"n":{"\udfff":["\u0000"]},"ok":"\u00e9"}'
    )

    body = parse_json(raw)

    assert body["taskId"] == "tsk_A"
    assert body["message"] == "a\ufffdb\ufffdc"
    assert body["n"] == {"\ufffd": ["\ufffd"]}
    assert body["ok"] == "é"


@pytest.mark.parametrize("paired", ["\U0001f600", "𝒳"])
def test_characters_beyond_the_base_plane_stay_as_they_are(paired):
    """An emoji that the sender escapes as a surrogate pair is one character."""
    assert parse_json(json.dumps({"p": paired}).encode())["p"] == paired


@pytest.mark.parametrize(
    ("cost", "units"),
    [
        ("0.05", 5_000_000),
        ("0.05000000", 5_000_000),
        (Decimal("0.05"), 5_000_000),
        (2, 200_000_000),
        *((odd, None) for odd in ("Infinity", "-Infinity", "NaN", "sNaN", "1e999999", "", "free")),
        *((odd, None) for odd in ("0.123456789", "1e12", True, [], {}, None)),
    ],
)
def test_a_cost_is_exact_or_unknown(cost, units):
    """No odd figure keeps a created task from being recorded."""
    body = {"taskId": "tsk_A", "estimatedCost": cost}

    created = decode.decode_created("create", body, revision="2026-08")

    assert created.reserved_units == units


@given(body=SHAPES)
def test_readers_either_read_or_say_what_is_missing(body):
    """Whatever JSON comes, a reader returns a value or raises the one error for it."""
    profile = PROFILES["2026-08"]
    readers = [
        *(
            decode.decode_created,
            partial(decode.decode_status, task_id="tsk_A"),
            decode.decode_page,
        ),
        *(
            decode.decode_estimate,
            decode.decode_catalog,
            decode.decode_account,
        ),
        *(decode.decode_balance, decode.decode_upload),
        lambda operation, body, revision: profile.decode_task(operation, body),
    ]

    for read in readers:
        with suppress(UnexpectedPayloadError):
            read("read", body, revision="2026-08")


@given(body=SHAPES, status=st.integers(400, 599))
def test_every_error_body_becomes_a_refusal(body, status):
    """Whatever an error says, it is read into the tree."""
    raw = json.dumps(body).encode("utf-8", "surrogatepass")

    assert decode.decode_refusal("read", status, {}, raw, now_us=0).status == status


def test_an_error_about_a_shape_quotes_keys_and_never_values():
    """An answer may hold a token: only its shape is told."""
    body = {"data": {"access": {"publicAccessToken": "pat_secret"}, "n": [1, 2]}}

    with pytest.raises(UnexpectedPayloadError) as caught:
        decode.decode_created("create", body, revision="2026-08")

    assert "publicAccessToken" not in str(caught.value) or "pat_secret" not in str(caught.value)
    assert "access" in str(caught.value)


def test_an_html_page_is_reported_as_text():
    """A gateway's page is an excerpt of its words, without markup, and on one line."""
    page = (
        b"<!doctype html><style>p {}</style><h1>502 Bad\nGateway</h1><!-- <b>x</b> --><p>nginx</p>"
    )

    error = decode.decode_refusal("create", 502, {}, page * 50, now_us=0)

    assert "<" not in str(error)
    assert "HTTP 502, 502 Bad Gateway nginx" in str(error)
    assert len(error.message) <= 200


NOW_US = 1_795_000_000_000_000  # Wed, 18 Nov 2026 11:06:40 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        *(({"retry-after": odd}, None) for odd in ("", "-3", "nan", "1e400", "soon", "²", "1.2.3")),
        ({"retry-after": "Wed, 18 Nov 2026 11:06:50 GMT"}, 10.0),
        ({"retry-after": "Wed, 18 Nov 2026 11:06:00 GMT"}, 0.0),
        (
            {
                "retry-after": "Wed, 18 Nov 2026 12:00:30 GMT",
                "date": "Wed, 18 Nov 2026 12:00:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Wed, 18 Nov 2026 11:06:50 GMT", "date": "yesterday"}, 10.0),
        ({"retry-after": "Wed, 99 Nov 99999999999 11:06:50 GMT"}, None),
    ],
)
def test_how_long_to_wait_is_read_from_seconds_or_a_date(headers, seconds):
    """A date is measured by the answer's own clock where it has one; nonsense says nothing."""
    assert decode.retry_after_s(headers, now_us=NOW_US) == seconds


def catalog(**entry):
    return {"data": [{"id": "m", **entry}]}


@pytest.mark.parametrize(
    ("status", "body", "revision"),
    [
        (200, catalog(displayName="M", pricing={"perImage": {"base": "1"}}), "2026-08"),
        (200, catalog(displayName=None, pricing=None), "2026-08"),
        (200, catalog(pricing={"perInput": "1"}), "2026-08"),
        (200, catalog(display_name="M", pricing={"per_image": {"base": "1"}}), "2026-10"),
        (200, catalog(display_name=None, pricing=None), "2026-10"),
        (200, catalog(type="video", pricing={"per_second": {"480p": "1"}}), "2026-10"),
        *((status, None, None) for status in (301, 401, 403, 404, 405, 429, 500, 502, 503)),
        *((200, odd, None) for odd in (None, [], {}, {"data": []}, {"data": {}}, {"data": ["x"]})),
        (200, catalog(), None),
        (200, catalog(displayName="M", display_name="M"), None),
        (200, catalog(displayName="M", pricing={"per_image": {}}), None),
    ],
)
def test_the_revision_is_recognised_by_the_catalogue_or_not_at_all(status, body, revision):
    """Only a spelling that all entries share counts; nothing else proves a revision."""
    assert revision_by_catalog(status, body) == revision


@pytest.mark.parametrize(
    ("status", "body", "revision"),
    [
        (200, {"data": {"estimated_cost": "0.2"}}, "2026-10"),
        (200, {"data": {"estimated_cost": None}}, "2026-10"),
        (200, {"data": {"estimatedCost": "0.2"}}, "2026-08"),
        (403, {"data": {"estimated_cost": "0.2"}}, None),
        *((200, odd, None) for odd in (None, [], {}, {"data": []}, {"estimated_cost": "0.2"})),
    ],
)
def test_the_revision_is_recognised_by_an_estimate_or_not_at_all(status, body, revision):
    """Where the catalogue is kept back, the spelling of a free estimate decides."""
    assert revision_by_estimate(status, body) == revision


def test_a_status_of_another_task_is_none():
    """A cache may answer for somebody else: the id that is told has to be the one asked for."""
    body = {"data": {"id": "tsk_B", "status": "completed"}}

    with pytest.raises(UnexpectedPayloadError):
        decode.decode_status("read", body, revision="2026-10", task_id="tsk_A")
