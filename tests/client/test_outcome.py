"""Sorting the answer to the paid call: every status with every kind of body."""

from __future__ import annotations

import json

import pytest

from mynth_dagster.client.http import Response
from mynth_dagster.client.outcome import Accepted, Cause, Refused, Unknown, sort_answer
from mynth_dagster.limits import REVISIONS
from mynth_dagster.wire import PROFILES

STATUSES = [
    *(200, 201, 202, 204, 206, 301, 302, 304, 307, 308),
    *(400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 413, 415, 418, 422, 425, 429, 451, 499),
    *(500, 501, 502, 503, 504, 507, 520, 524, 599),
]
POSSIBLY_TAKEN = {408, 409, 425, 499}

NOBODY = {
    "empty": b"",
    "html": b"<html><body>Bad</body></html>",
    "bom": b"\xef\xbb\xbf{}",
    "truncated": b'{"taskId":"tsk',
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "id null": b'{"taskId":null}',
    "id empty": b'{"data":{"taskId":""}}',
    "id number": b'{"taskId":7}',
    "id list": b'{"taskId":["tsk_A"]}',
    "id in prose": b'{"message":"tsk_A"}',
    "string error": b'{"error":"went wrong"}',
}
WITH_CODE = {
    "nested": b'{"error":{"code":"weird_code","message":"m"}}',
    "flat": b'{"code":"WEIRD_CODE","message":"m"}',
    "flat error": b'{"code":"WEIRD_CODE","error":"m"}',
}
WITH_TASK = {
    "bare": b'{"taskId":"tsk_A"}',
    "enveloped": b'{"data":{"taskId":"tsk_A","estimatedCost":"nonsense"}}',
}
TOKEN_FAILED = {
    "in an error": b'{"error":{"code":"public_access_token_failed","task_id":"tsk_A"}}',
    "beside an error": b'{"code":"PUBLIC_ACCESS_TOKEN_FAILED","taskId":"tsk_A"}',
}
OTHER_CODE = {
    "in an error": b'{"error":{"code":"internal_error","task_id":"tsk_A"}}',
    "beside an error": b'{"code":"INTERNAL_ERROR","taskId":"tsk_A"}',
}


def sort(status, raw, revision="2026-10"):
    """What this answer proves."""
    return sort_answer("create task", Response(status, {}, raw), PROFILES[revision], now_us=0)


def is_accepted(outcome) -> bool:
    return isinstance(outcome, Accepted) and outcome.created.task_id == "tsk_A"


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_id_in_a_2xx_is_a_task(revision):
    """At each place where a revision puts it; under any other status it may be anybody's."""
    for status in STATUSES:
        for raw in WITH_TASK.values():
            assert is_accepted(sort(status, raw, revision)) is (200 <= status < 300), status


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_id_in_an_error_is_a_task_only_with_the_code_that_says_so(revision):
    """The API documents one: the token failed, the task runs."""
    for status in (400, 418, 500, 503):
        assert all(is_accepted(sort(status, raw, revision)) for raw in TOKEN_FAILED.values())
        assert not any(is_accepted(sort(status, raw, revision)) for raw in OTHER_CODE.values())


@pytest.mark.parametrize("raw", [*NOBODY.values(), *WITH_CODE.values()], ids=[*NOBODY, *WITH_CODE])
def test_only_a_4xx_in_the_apis_own_words_is_a_refusal(raw):
    """No other status without an id, and none of 408, 409, 425 and 499, proves anything."""
    for status in STATUSES:
        outcome = sort(status, raw)
        is_4xx = 400 <= status < 500 and status not in POSSIBLY_TAKEN
        is_own = raw in WITH_CODE.values() and status != 407
        assert isinstance(outcome, Refused if is_4xx and is_own else Unknown), status
        if isinstance(outcome, Unknown):
            assert outcome.http_status == status
            assert outcome.is_foreign is (is_4xx and not is_own)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"taskId":"tsk_A","taskId":"tsk_B"}',
        b'{"data":{"taskId":"tsk_A","cost":NaN}}',
        b'{"taskId":"../me"}',
        b'{"taskId":"tsk A"}',
        rb'{"taskId":"\u001b[31m"}',
    ],
)
def test_json_with_doubled_names_nan_or_an_impossible_id_is_no_answer(raw):
    """What became of the request is unknown; it is never lost, and never somebody else's."""
    assert isinstance(sort(201, raw), Unknown)


def error(code, field=None):
    """An error body with this code."""
    return json.dumps({"error": {"code": code, "message": "m", "field": field}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "field", "cause"),
    [
        (400, "validation_error", "prompt", Cause.ROW),
        (400, "validation_error", None, Cause.ROW),
        (400, "invalid_json", None, Cause.CONFIG),
        (415, "unsupported_media_type", None, Cause.CONFIG),
        (415, "some_other_code", None, Cause.CONFIG),
        (402, "some_other_code", None, Cause.BALANCE),
        (400, "validation_error", "webhook", Cause.CONFIG),
        (400, "validation_error", "webhook.custom", Cause.CONFIG),
        (422, "restricted_content", None, Cause.ROW),
        (422, "INSUFFICIENT_BALANCE", None, Cause.BALANCE),
        (402, "insufficient_balance", None, Cause.BALANCE),
        (400, "insufficient_balance", "prompt", Cause.BALANCE),
        (402, "spending_limit_exceeded", None, Cause.LIMIT),
        (429, "spending_limit_exceeded", None, Cause.LIMIT),
        (403, "key_limit_exceeded", None, Cause.LIMIT),
        (429, "rate_limited", None, Cause.RATE),
        (400, "rate_limited", None, Cause.RATE),
        (401, "unauthorized", None, Cause.KEY),
        (401, "some_other_code", None, Cause.KEY),
        (403, "unauthorized", None, Cause.KEY),
        (403, "forbidden_key", None, Cause.KEY),
        (403, "insufficient_scope", None, Cause.KEY),
        (403, "model_not_allowed", "model", Cause.ROW),
        (404, "not_found", None, Cause.GATEWAY),
        (405, "method_not_allowed", None, Cause.GATEWAY),
        (404, "model_not_found", "model", Cause.ROW),
    ],
)
def test_who_must_act_is_decided_by_code_first_and_status_second(status, code, field, cause):
    """The row, the key, the balance, the limit, the rate, our configuration, or a gateway."""
    assert sort(status, error(code, field)).cause is cause


@pytest.mark.parametrize("revision", ["2026-04", "2026-08"])
def test_a_server_that_does_not_know_our_refusal_of_tokens_is_of_another_revision(revision):
    """Every row would be refused for it: the run stops, and no row is rejected."""
    assert sort(400, error("VALIDATION_ERROR", "access.pat"), revision).cause is Cause.CONFIG


@pytest.mark.parametrize(
    ("paths", "cause"),
    [
        ([["size"]], Cause.ROW),
        ([["inputs", 0, "source", "url"]], Cause.ROW),
        ([["metadata"]], Cause.ROW),
        ([[]], Cause.CONFIG),
        ([[], []], Cause.CONFIG),
        ([[], ["size"]], Cause.ROW),
        ([["webhook", "dashboard"]], Cause.CONFIG),
        ([["size"], ["generate_public_access_token"]], Cause.CONFIG),
        ([["metadata", "mynth_dagster"]], Cause.CONFIG),
        ([], Cause.ROW),
        (["odd", None, {"path": 7}], Cause.ROW),
    ],
)
def test_a_complaint_about_what_we_wrote_is_never_a_rows_fault(paths, cause):
    """A field that we add ourselves, or the body as a whole, would refuse every row."""
    issues = [{"path": path, "message": "m"} if isinstance(path, list) else path for path in paths]
    body = {"error": {"code": "validation_error", "message": "m", "issues": issues}}

    assert sort(400, json.dumps(body).encode(), "2026-10").cause is cause


def test_a_code_says_nothing_about_a_5xx():
    """A server that fails may have acted first, whatever it calls its error."""
    assert isinstance(sort(503, error("validation_error")), Unknown)
