from __future__ import annotations

import re

import pytest

LONGEST = {"2026-04": 2056, "2026-08": 8192, "2026-10": 8192}
COUNT_MAX = {"2026-04": 100, "2026-08": 20, "2026-10": 20}
QUALITY_MIN = {"2026-04": 0, "2026-08": 1}
WITH_INPUTS = "black-forest-labs/flux.2-pro"
LEVEL = {"value": "calm", "description": "nothing happens"}


def levels(n, **changes):
    return [{**LEVEL, "value": f"level {i}", **changes} for i in range(n)]


def test_create_2026_08_answers_in_envelope(api):
    """A creation answers 201 with id, reserved cost and token under ``data``."""
    answer = api.post(count=3)

    assert answer.status_code == 201
    data = answer.json()["data"]
    assert re.fullmatch(r"tsk_[0-9A-HJKMNP-TV-Z]{26}", data["taskId"])
    assert data["estimatedCost"] == "0.03"
    assert data["access"]["publicAccessToken"].startswith("pat_eyJ")


def test_create_2026_04_answers_bare(old_api):
    """A creation of the older revision has no envelope and tells no cost."""
    answer = old_api.post()

    assert answer.status_code == 201
    assert {"taskId", "access"} == set(answer.json())


def test_create_ids_grow(api):
    """Task ids sort in the order of creation."""
    ids = [api.create(f"kite {i}") for i in range(5)]

    assert sorted(ids) == ids


def test_create_without_token(earlier_api):
    """``access.pat.enabled: false`` leaves ``access`` out of the answer."""
    answer = earlier_api.post(access={"pat": {"enabled": False}})

    assert "access" not in earlier_api.open(answer)


ACCEPTED = [
    ("prompt at limit", lambda r: {"prompt": "x" * LONGEST[r]}),
    ("limit counts characters", lambda r: {"prompt": "é" * LONGEST[r]}),
    ("count at limit", lambda r: {"count": COUNT_MAX[r]}),
    ("count as 2.0", lambda r: {"count": 2.0}),
    ("metadata at limit", lambda r: {"metadata": {"a": "x" * (2048 - len('{"a":""}'))}}),
    ("five webhooks", lambda r: {"webhook": {"custom": [{"url": "https://a.example"}] * 5}}),
    ("ratio", lambda r: {"size": "21:9"}),
    ("4k", lambda r: {"size": "16:9_4k", "model": "google/gemini-3.1-flash-image"}),
    ("auto size object", lambda r: {"size": {"type": "auto"}}),
    ("auto model", lambda r: {"model": "auto"}),
    ("input URL", lambda r: {"model": WITH_INPUTS, "inputs": ["https://a.example/b.png"]}),
]
ACCEPTED_EARLIER = [
    ("quality at lower limit", lambda r: {"output": {"format": "jpg", "quality": QUALITY_MIN[r]}}),
    ("quality at upper limit", lambda r: {"output": {"format": "png", "quality": 100}}),
    ("size object", lambda r: {"size": {"type": "aspect_ratio", "aspectRatio": "4:5"}}),
    (
        "size object 4k",
        lambda r: {"size": {"type": "aspect_ratio", "aspectRatio": "1:1", "scale": "4k"}},
    ),
    ("unknown field", lambda r: {"shade": 1}),
]

REFUSED = [
    ("prompt missing", "prompt", lambda r: {"prompt": None}),
    ("prompt too long", "prompt", lambda r: {"prompt": "x" * (LONGEST[r] + 1)}),
    ("prompt is number", "prompt", lambda r: {"prompt": 7}),
    ("count 0", "count", lambda r: {"count": 0}),
    ("count above limit", "count", lambda r: {"count": COUNT_MAX[r] + 1}),
    ("count is text", "count", lambda r: {"count": "1"}),
    ("count is true", "count", lambda r: {"count": True}),
    ("count is fraction", "count", lambda r: {"count": 1.5}),
    ("format", "output", lambda r: {"output": {"format": "gif", "quality": 80}}),
    ("size", "size", lambda r: {"size": "1024x1024"}),
    ("size 4k preset", "size", lambda r: {"size": "landscape_4k"}),
    ("size object", "size", lambda r: {"size": {"type": "aspect_ratio", "aspectRatio": "7:5"}}),
    (
        "metadata too large",
        "metadata",
        lambda r: {"metadata": {"a": "x" * (2049 - len('{"a":""}'))}},
    ),
    ("metadata is list", "metadata", lambda r: {"metadata": []}),
    (
        "six webhooks",
        "webhook",
        lambda r: {"webhook": {"custom": [{"url": "https://a.example"}] * 6}},
    ),
    ("webhook without URL", "webhook", lambda r: {"webhook": {"custom": [{}]}}),
    ("model unknown", "model", lambda r: {"model": "nobody/nothing"}),
    ("input is no URL", "inputs", lambda r: {"model": WITH_INPUTS, "inputs": ["a.png"]}),
    ("access", "access", lambda r: {"access": {"pat": {"enabled": "no"}}}),
]
REFUSED_EARLIER = [
    (
        "quality too low",
        "output",
        lambda r: {"output": {"format": "jpg", "quality": QUALITY_MIN[r] - 1}},
    ),
    ("quality too high", "output", lambda r: {"output": {"format": "jpg", "quality": 101}}),
    (
        "inputs unsupported",
        "inputs",
        lambda r: {"model": "recraft/recraft-v4", "inputs": ["https://a.example"]},
    ),
]


@pytest.mark.parametrize(("label", "fields"), ACCEPTED, ids=[label for label, _ in ACCEPTED])
def test_create_accepts_up_to_limits(any_api, label, fields):
    """What is just within a documented limit is accepted."""
    changes = {"prompt": "a red kite", **fields(any_api.revision)}

    assert any_api.post(**changes).status_code == 201


@pytest.mark.parametrize(("label", "fields"), ACCEPTED_EARLIER)
def test_create_accepts_what_2026_10_gave_up(earlier_api, label, fields):
    """Quality, the older size object, and fields that nobody knows."""
    assert earlier_api.post(**fields(earlier_api.revision)).status_code == 201


@pytest.mark.parametrize(("label", "field", "fields"), REFUSED, ids=[row[0] for row in REFUSED])
def test_create_refuses_beyond_limits(any_api, label, field, fields):
    """What is just beyond a documented limit is refused, and nothing is made or held."""
    refuse_beyond_limits(any_api, field, fields)


@pytest.mark.parametrize(("label", "field", "fields"), REFUSED_EARLIER)
def test_create_refuses_beyond_limits_that_2026_10_gave_up(earlier_api, label, field, fields):
    """Of the quality of files, and inputs at the door."""
    refuse_beyond_limits(earlier_api, field, fields)


def refuse_beyond_limits(any_api, field, fields):
    changes = {"prompt": "a red kite", **fields(any_api.revision)}

    answer = any_api.post(**changes)

    assert any_api.error(answer) == (400, "validation_error")
    if any_api.revision == "2026-04":
        assert field == answer.json()["error"]["field"]
    if any_api.revision == "2026-10":
        assert {path[0] for path in any_api.issues(answer)} == {field}
    totals = any_api.server.log()["totals"]
    assert (totals["accepted"], totals["reserved_now"]) == (0, "0.00000000")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"negative_prompt": "x" * 8192}, 201),
        ({"negative_prompt": "x" * 8193}, 400),
        ({"negative_prompt": ""}, 400),
        ({"prompt": ""}, 201),
        ({"magic_prompt": True}, 201),
        ({"magic_prompt": False}, 400),
        ({"output": {"format": "png"}}, 400),
        ({"model": WITH_INPUTS, "inputs": ["https://a.example"] * 20}, 201),
        ({"model": WITH_INPUTS, "inputs": ["https://a.example"] * 21}, 400),
        ({"model": WITH_INPUTS, "inputs": ["https://a.example/".ljust(2048, "x")]}, 201),
        ({"model": WITH_INPUTS, "inputs": ["https://a.example/".ljust(2049, "x")]}, 400),
        ({"rating": True}, 201),
        ({"rating": {}}, 201),
        ({"rating": {"mode": "custom", "levels": levels(2)}}, 201),
        ({"rating": {"mode": "custom", "levels": levels(7)}}, 201),
        ({"rating": {"mode": "custom", "levels": levels(1)}}, 400),
        ({"rating": {"mode": "custom", "levels": levels(8)}}, 400),
        ({"rating": {"mode": "other"}}, 400),
        ({"rating": False}, 400),
        ({"destination": "x" * 64}, 201),
        ({"destination": "x" * 65}, 400),
        ({"destination": "My-Store"}, 400),
        ({"webhook": {"dashboard": False}}, 201),
        ({"webhook": {"dashboard": True}}, 400),
        ({"size": {"type": "aspect_ratio", "aspectRatio": "1:1", "scale": "base"}}, 201),
    ],
)
def test_create_fields_of_2026_08(api, fields, status):
    """The fields that only the newer revision has are held to its limits."""
    answer = api.client.post(
        "/image/generate", json={"prompt": "a kite", "model": "auto", **fields}
    )

    assert status == answer.status_code


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"prompt": {"positive": "a kite", "negative": "x" * 2056, "enhance": False}}, 201),
        ({"prompt": {"positive": "a kite", "negative": "x" * 2057, "enhance": False}}, 400),
        ({"prompt": {"positive": "a kite", "enhance": "prefer_magic"}}, 201),
        ({"prompt": {"positive": "a kite", "enhance": "prefer_native"}}, 201),
        ({"prompt": {"positive": "a kite", "enhance": True}}, 400),
        ({"prompt": {"positive": "x" * 2057}}, 400),
        ({"prompt": {"positive": ""}}, 400),
        ({"prompt": ""}, 400),
        ({"output": {"format": "png"}}, 201),
        ({"output": {"quality": 0}}, 201),
        ({"content_rating": {"enabled": True}}, 201),
        ({"content_rating": {"enabled": True, "levels": levels(7, value="v" * 24)}}, 201),
        ({"content_rating": {"enabled": True, "levels": levels(2, value="v" * 25)}}, 400),
        ({"content_rating": {"enabled": True, "levels": levels(2, value="")}}, 400),
        ({"content_rating": {"enabled": True, "levels": levels(2, description="d" * 150)}}, 201),
        ({"content_rating": {"enabled": True, "levels": levels(2, description="d" * 151)}}, 400),
        ({"content_rating": {"enabled": True, "levels": levels(8)}}, 400),
        ({"webhook": {"enabled": False}}, 201),
        ({"size": {"type": "auto", "prefer": "native"}}, 201),
        ({"size": {"type": "aspect_ratio", "aspectRatio": "1:1", "scale": "base"}}, 400),
        ({"model": "klingai/kling-image-3.0"}, 400),
    ],
)
def test_create_fields_of_2026_04(old_api, fields, status):
    """The fields that only the older revision has are held to its limits."""
    answer = old_api.client.post("/image/generate", json={"prompt": "a kite", **fields})

    assert status == answer.status_code


@pytest.mark.parametrize(
    ("revision", "entry", "status"),
    [
        ("2026-08", {"as": "source"}, 201),
        ("2026-08", {}, 201),
        ("2026-08", {"as": "context"}, 400),
        ("2026-04", {"role": "context"}, 201),
        ("2026-04", {}, 400),
        ("2026-04", {"role": "person"}, 400),
    ],
)
def test_create_structured_inputs(connect, revision, entry, status):
    """Each revision has its own word and its own roles for structured inputs."""
    api = connect(revision=revision)
    source = {"type": "url", "url": "https://a.example/b.png"}

    answer = api.post(model=WITH_INPUTS, inputs=[{"type": "image", "source": source, **entry}])

    assert status == answer.status_code


def test_create_strict_fields(connect):
    """With ``strict_fields`` an unknown field is refused by name."""
    api = connect(strict_fields=True)

    answer = api.post(colour="red")

    assert api.error(answer) == (400, "validation_error")
    assert "colour" in answer.json()["message"]


@pytest.mark.parametrize("content", [b"", b"[]", b'"x"', b"{", b"\xff"])
def test_create_refuses_other_bodies(any_api, content):
    """Only a JSON object is a request."""
    headers = {"content-type": "application/json"}

    answer = any_api.client.post("/image/generate", content=content, headers=headers)

    is_json = content.startswith((b"[", b'"'))
    code = "validation_error" if any_api.revision != "2026-10" or is_json else "invalid_json"
    assert any_api.error(answer) == (400, code)


def test_create_refuses_huge_body(any_api):
    """A body beyond the server's bound is refused as too large."""
    answer = any_api.client.post("/image/generate", content=b"x" * (4 * 2**20 + 1))

    assert any_api.error(answer) == (413, "payload_too_large")


def test_create_inputs_may_fail_the_task(connect):
    """One reading lets inputs for a model without them fail the task, not the request."""
    api = connect(quirks={"unsupported_inputs": "fail_task"})

    task = api.finish(model="recraft/recraft-v4", inputs=["https://a.example"])

    assert task["status"] == "failed"
    assert task["errors"][0]["code"] == "CAPABILITY_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("choice", "status"), [("fall_back", "completed"), ("fail_task", "failed")]
)
def test_create_4k_without_capability(connect, choice, status):
    """4k of a model without it falls back to the base size and price, or fails the task."""
    api = connect(quirks={"unsupported_4k": choice})

    task = api.finish(size="1:1_4k")

    assert status == task["status"]
    if choice == "fall_back":
        assert task["result"]["images"][0]["size"] == "1024x1024"
        assert task["cost"] == "0.01000000"


def test_quirk_output_and_empty_prompt(connect):
    """Whether output needs both keys and whether a prompt may be empty can be chosen."""
    api = connect(quirks={"output_needs_both": False, "accepts_empty_prompt": False})

    assert api.post(output={"format": "png"}).status_code == 201
    assert api.post("").status_code == 400
