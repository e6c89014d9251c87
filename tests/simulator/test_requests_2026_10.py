"""Request bodies of revision 2026-10: nothing unknown, and every wrong field is told."""

from __future__ import annotations

import pytest

from mynth_dagster.simulator.validation import UNKNOWN

WITH_INPUTS = "black-forest-labs/flux.2-pro"
URL = "https://a.example/b.png"
SOURCE = {"type": "url", "url": URL}
INPUT = {"type": "image", "source": SOURCE}
LEVELS = [{"value": value, "description": "as it says"} for value in ("calm", "loud")]
HOOK = {"url": "https://hooks.example/x"}


def levels(n, **changes):
    return [{"value": f"level {i}", "description": "words", **changes} for i in range(n)]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "é" * 8192},
        {"prompt": ""},
        {"negative_prompt": "x" * 8192},
        {"magic_prompt": True},
        {"magic_prompt": False},
        {"count": 20},
        {"count": 2.0},
        {"size": "auto"},
        {"size": "portrait_tall"},
        {"size": "21:9"},
        {"size": "16:9_4k"},
        {"size": {"type": "auto"}},
        {"size": {"type": "aspect_ratio", "aspect_ratio": "4:5"}},
        {"size": {"type": "aspect_ratio", "aspect_ratio": "4:5", "scale": "base"}},
        {"size": {"type": "aspect_ratio", "aspect_ratio": "4:5", "scale": "4k"}},
        {"output": {}},
        *({"output": {"format": word}} for word in ("png", "jpg", "webp")),
        {"model": WITH_INPUTS, "inputs": [URL] * 20},
        {"model": WITH_INPUTS, "inputs": [INPUT]},
        *({"inputs": [{**INPUT, "as": role}]} for role in ("auto", "source", "reference")),
        {"webhook": {}},
        {"webhook": {"registered": True}},
        {"webhook": {"registered": False, "custom": [HOOK] * 5}},
        {"rating": True},
        {"rating": {}},
        {"rating": {"mode": "nsfw_sfw"}},
        {"rating": {"mode": "custom", "levels": levels(2)}},
        {"rating": {"mode": "custom", "levels": levels(7)}},
        {"generate_public_access_token": False},
        {"metadata": {"a": {"b": [1, {"any": "depth"}]}}},
        {"metadata": {"a": "x" * (2048 - len('{"a":""}'))}},
    ],
)
def test_what_is_documented_is_accepted(new_api, fields):
    """Each field at its limits."""
    assert new_api.post(**{"prompt": "a red kite", **fields}).status_code == 201


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"prompt": "x" * 8193}, [["prompt"]]),
        ({"prompt": {"positive": "x"}}, [["prompt"]]),
        ({"negative_prompt": 7}, [["negative_prompt"]]),
        ({"magic_prompt": "yes"}, [["magic_prompt"]]),
        ({"model": "nobody/nothing"}, [["model"]]),
        ({"model": ""}, [["model"]]),
        ({"count": 21}, [["count"]]),
        ({"count": 0}, [["count"]]),
        ({"size": "landscape_4k"}, [["size"]]),
        ({"size": 7}, [["size"]]),
        ({"size": {}}, [["size", "type"]]),
        ({"size": {"type": "aspect_ratio"}}, [["size", "aspect_ratio"]]),
        (
            {"size": {"type": "aspect_ratio", "aspect_ratio": "1:1", "scale": "8k"}},
            [["size", "scale"]],
        ),
        ({"output": "png"}, [["output"]]),
        ({"output": {"format": "gif"}}, [["output", "format"]]),
        ({"inputs": [URL] * 21}, [["inputs"]]),
        ({"inputs": [URL, "data:image/png;base64,AA"]}, [["inputs", 1]]),
        ({"inputs": [{**INPUT, "as": "person"}]}, [["inputs", 0, "as"]]),
        ({"inputs": [{"type": "image"}]}, [["inputs", 0, "source"]]),
        (
            {"inputs": [{"type": "image", "source": {"type": "url", "url": "x"}}]},
            [["inputs", 0, "source", "url"]],
        ),
        ({"webhook": {"registered": "no"}}, [["webhook", "registered"]]),
        ({"webhook": {"custom": [HOOK] * 6}}, [["webhook", "custom"]]),
        ({"inputs": ["http://["]}, [["inputs", 0]]),
        ({"inputs": ["https://a.example/\n"]}, [["inputs", 0]]),
        ({"inputs": ["https://"]}, [["inputs", 0]]),
        ({"webhook": {"custom": [HOOK, {}]}}, [["webhook", "custom", 1, "url"]]),
        ({"rating": False}, [["rating"]]),
        ({"rating": {"mode": "custom"}}, [["rating", "levels"]]),
        ({"rating": {"mode": "custom", "levels": levels(1)}}, [["rating", "levels"]]),
        ({"rating": {"mode": "custom", "levels": levels(8)}}, [["rating", "levels"]]),
        (
            {"rating": {"mode": "custom", "levels": levels(2, value="v" * 25)}},
            [["rating", "levels", 0, "value"], ["rating", "levels", 1, "value"]],
        ),
        ({"generate_public_access_token": 1}, [["generate_public_access_token"]]),
        ({"metadata": []}, [["metadata"]]),
        ({"metadata": {"a": "x" * (2049 - len('{"a":""}'))}}, [["metadata"]]),
        ({"destination": "Upper"}, [["destination"]]),
        ({"destination": "not-mine"}, [["destination"]]),
    ],
)
def test_what_is_wrong_is_reported_by_its_path(new_api, fields, paths):
    """And nothing is made or held; the estimate refuses the same."""
    body = {"model": WITH_INPUTS, "prompt": "a red kite", **fields}
    answers = [
        new_api.client.post(path, json=body)
        for path in ("/image/generate", "/image/generate/estimate")
    ]

    assert [paths, paths] == [new_api.issues(answer) for answer in answers]
    assert new_api.server.log()["totals"]["accepted"] == 0


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"colour": "red"}, [["colour"]]),
        ({"a.b": 1, "c[0]": 2}, [["a.b"], ["c[0]"]]),
        ({"access": {"pat": {"enabled": False}}}, [["access"]]),
        ({"output": {"format": "png", "quality": 80}}, [["output", "quality"]]),
        ({"webhook": {"dashboard": False}}, [["webhook", "dashboard"]]),
        ({"webhook": {"enabled": False}}, [["webhook", "enabled"]]),
        (
            {"webhook": {"custom": [{**HOOK, "events": []}]}},
            [["webhook", "custom", 0, "events"]],
        ),
        (
            {"size": {"type": "aspect_ratio", "aspect_ratio": "1:1", "aspectRatio": "1:1"}},
            [["size", "aspectRatio"]],
        ),
        ({"size": {"type": "auto", "scale": "4k"}}, [["size", "scale"]]),
        ({"inputs": [{**INPUT, "role": "context"}]}, [["inputs", 0, "role"]]),
        (
            {"inputs": [{"type": "image", "source": {**SOURCE, "mime": "image/png"}}]},
            [["inputs", 0, "source", "mime"]],
        ),
        ({"rating": {"mode": "nsfw_sfw", "strict": True}}, [["rating", "strict"]]),
        (
            {"rating": {"mode": "custom", "levels": [*LEVELS, {**LEVELS[0], "score": 1}]}},
            [["rating", "levels", 2, "score"]],
        ),
        ({"content_rating": {"enabled": True}}, [["content_rating"]]),
    ],
)
def test_nothing_unknown_is_accepted_at_any_depth(new_api, fields, paths):
    """Metadata alone may hold anything; what earlier revisions had is unknown, too."""
    answer = new_api.post(**fields)

    assert new_api.issues(answer) == paths
    assert {issue["message"] for issue in answer.json()["error"]["issues"]} == {UNKNOWN}


def test_every_wrong_field_is_reported_at_once(new_api):
    """One issue for each field, and one message that holds them all."""
    answer = new_api.client.post(
        "/image/generate", json={"count": 0, "output": {"quality": 80}, "shade": 1}
    )
    error = answer.json()["error"]

    assert sorted(new_api.issues(answer)) == [
        ["count"],
        ["output", "quality"],
        ["prompt"],
        ["shade"],
    ]
    assert all(issue["message"] in error["message"] for issue in error["issues"])
    assert "output.quality: Unknown field." in error["message"]


@pytest.mark.parametrize("payload", [[], "x", 7, True])
def test_a_body_that_is_no_object_is_wrong_as_a_whole(new_api, payload):
    """Its issue has an empty path."""
    answer = new_api.client.post("/image/alt", json=payload)

    assert new_api.issues(answer) == [[]]


def test_a_body_needs_its_content_type_and_must_be_json(new_api):
    """Each has a code of its own."""
    untyped = new_api.client.post("/image/generate", content=b"{}")
    broken = new_api.client.post(
        "/image/generate", content=b"{", headers={"content-type": "application/json"}
    )

    assert new_api.error(untyped) == (415, "unsupported_media_type")
    assert new_api.error(broken) == (400, "invalid_json")


@pytest.mark.parametrize("path", ["/image/rate", "/image/alt", "/image/review"])
@pytest.mark.parametrize(
    "field", ["webhook", "metadata", "destination", "generate_public_access_token", "urls"]
)
def test_follow_ups_take_no_options(new_api, path, field):
    """They have neither webhooks nor tokens, metadata, or destinations of their own."""
    values = {"webhook": {}, "metadata": {}, "destination": "x", "urls": [URL]}
    answer = new_api.client.post(path, json={"url": URL, field: values.get(field, True)})

    assert new_api.issues(answer) == [[field]]


@pytest.mark.parametrize(
    ("path", "body", "paths"),
    [
        ("rate", {}, [["url"]]),
        ("rate", {"url": "b.png"}, [["url"]]),
        ("rate", {"url": URL, "mode": "other"}, [["mode"]]),
        ("rate", {"url": URL, "mode": "custom"}, [["levels"]]),
        ("rate", {"url": URL, "levels": LEVELS}, [["levels"]]),
        ("rate", {"url": URL, "mode": "custom", "levels": levels(8)}, [["levels"]]),
        ("review", {"url": URL, "effort": "medium"}, [["effort"]]),
        ("upscale", {"url": URL}, [["size"], ["effort"]]),
        ("upscale", {"url": URL, "size": "3x", "effort": "low"}, [["size"]]),
        (
            "upscale",
            {"url": URL, "size": {"type": "scale", "factor": 3}, "effort": "low"},
            [["size", "factor"]],
        ),
        (
            "upscale",
            {"url": URL, "size": {"factor": 2, "width": 9}, "effort": "high"},
            [["size", "width"], ["size", "type"]],
        ),
        ("upscale", {"url": URL, "size": "2x", "effort": "medium"}, [["effort"]]),
        ("upscale", {"url": URL, "size": "2x", "effort": "low", "model": "x"}, [["model"]]),
        ("remove-background", {"url": URL, "output": {"format": "jpg"}}, [["output", "format"]]),
        ("remove-background", {"url": URL, "size": "2x"}, [["size"]]),
        ("remove-background", {"url": URL, "destination": "not-mine"}, [["destination"]]),
    ],
)
def test_requests_about_one_image_are_checked(new_api, path, body, paths):
    """Each has the fields that it needs, and no other."""
    assert new_api.issues(new_api.client.post(f"/image/{path}", json=body)) == paths


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rate", {"url": URL, "mode": "custom", "levels": LEVELS}),
        ("review", {"url": URL, "effort": "low"}),
        ("upscale", {"url": URL, "size": "2x", "effort": "high"}),
        ("upscale", {"url": URL, "size": {"type": "scale", "factor": 4}, "effort": "low"}),
        (
            "upscale",
            {
                "url": URL,
                "size": "4x",
                "effort": "low",
                "output": {"format": "jpg"},
                "webhook": {"registered": False},
                "generate_public_access_token": True,
                "metadata": {"row": 1},
            },
        ),
        ("remove-background", {"url": URL, "output": {"format": "webp"}}),
    ],
)
def test_requests_about_one_image_are_accepted(new_api, path, body):
    """With all that is documented."""
    assert new_api.client.post(f"/image/{path}", json=body).status_code == 201


@pytest.mark.parametrize("limit", ["0", "101", "x"])
def test_a_wrong_page_size_is_reported(new_api, limit):
    """By the name of its parameter."""
    assert new_api.issues(new_api.client.get("/tasks", params={"limit": limit})) == [["limit"]]
