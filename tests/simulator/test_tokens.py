from __future__ import annotations

import pytest

LIFETIME_S = {"2026-04": 3600, "2026-08": 7200, "2026-10": 3600}


def make(api, **fields):
    if api.revision == "2026-10":
        answer = api.open(api.post(generate_public_access_token=True, **fields))
        return answer["task_id"], answer["public_access_token"]
    answer = api.open(api.post(**fields))
    return answer["taskId"], answer["access"]["publicAccessToken"]


def as_token(api, token):
    return {"headers": {"authorization": f"Bearer {token}"}}


def paths(api, task_id):
    word = "results" if api.revision == "2026-04" else "result"
    return [f"/tasks/{task_id}/status", f"/tasks/{task_id}/{word}"]


def test_token_opens_its_task(any_api):
    """A token reads status and result of its own task."""
    task_id, token = make(any_api)

    statuses = [
        any_api.client.get(path, **as_token(any_api, token)).status_code
        for path in paths(any_api, task_id)
    ]

    assert statuses == [200, 200]


def test_token_opens_nothing_else(any_api):
    """The full task, other tasks and new tasks are closed to a token."""
    task_id, token = make(any_api)
    other_id, _ = make(any_api)
    auth = as_token(any_api, token)

    answers = [
        any_api.client.get(f"/tasks/{task_id}", **auth),
        *(any_api.client.get(path, **auth) for path in paths(any_api, other_id)),
        any_api.client.get(f"/tasks/tsk_{'0' * 26}/status", **auth),
        any_api.client.post("/image/generate", json=any_api.body(), **auth),
        any_api.client.post("/image/rate", json={"url": "https://a.example"}, **auth),
    ]

    assert {(401, "unauthorized")} == {any_api.error(answer) for answer in answers}


def test_token_expires(any_api):
    """A token dies after the revision's lifetime; the key goes on."""
    task_id, token = make(any_api)
    path = f"/tasks/{task_id}/status"
    any_api.server.advance(LIFETIME_S[any_api.revision] - 1)
    before = any_api.client.get(path, **as_token(any_api, token)).status_code
    any_api.server.advance(1)
    after = any_api.error(any_api.client.get(path, **as_token(any_api, token)))

    code = "token_expired" if any_api.revision == "2026-10" else "unauthorized"
    assert (before, after) == (200, (401, code))
    assert any_api.client.get(path).status_code == 200


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-2] + "AA", lambda t: "pat_x.y.z", lambda t: "pat_"]
)
def test_token_forged(api, spoil):
    """A token with a wrong signature opens nothing."""
    task_id, token = make(api)
    answer = api.client.get(f"/tasks/{task_id}/status", **as_token(api, spoil(token)))

    assert answer.status_code == 401


def test_token_lifetime_quirk(connect):
    """The lifetime can be chosen."""
    api = connect(quirks={"token_lifetime_s": 10})
    task_id, token = make(api)
    api.server.advance(10)

    answer = api.client.get(f"/tasks/{task_id}/status", **as_token(api, token))

    assert answer.status_code == 401


def test_polling_answers_any_origin(any_api):
    """The two polling routes, their refusals and their preflights allow any origin."""
    task_id, _ = make(any_api)
    for path in paths(any_api, task_id):
        answers = [
            any_api.client.get(path),
            any_api.client.get(path, **as_token(any_api, "pat_x.y.z")),
            any_api.client.options(path),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 204]
        assert {"*"} == {answer.headers["access-control-allow-origin"] for answer in answers}
    assert "access-control-allow-origin" not in any_api.client.get(f"/tasks/{task_id}").headers
