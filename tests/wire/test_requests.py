"""The exact bodies that are sent, revision by revision."""

from __future__ import annotations

import json

import pytest

from mynth_dagster.client.client import MynthClient
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import ManualClock
from mynth_dagster.errors import ConfigError, UnsupportedFeatureError
from mynth_dagster.limits import REVISIONS
from mynth_dagster.models.request import InputImage, Rating, RatingLevel, Routing, RowRequest
from mynth_dagster.wire import PROFILES, profile_of

NO_TOKEN = {"access": {"pat": {"enabled": False}}}
UNASKED = {"2026-04": NO_TOKEN, "2026-08": NO_TOKEN, "2026-10": {}}
"""What a revision's writer adds of itself."""
LEVELS = (RatingLevel("kids", "For all."), RatingLevel("adult", "Not for kids."))
SPELLED_LEVELS = [
    {"value": "kids", "description": "For all."},
    {"value": "adult", "description": "Not for kids."},
]
URL = "https://example.com/in.png"

SAME = object()
"""2026-10 spells it as 2026-08 does."""

SPELLINGS = [
    pytest.param({}, {"prompt": "a"}, {"prompt": "a"}, SAME, id="prompt alone"),
    pytest.param(
        {"negative_prompt": "rain"},
        {"prompt": {"positive": "a", "negative": "rain", "enhance": False}},
        {"prompt": "a", "negative_prompt": "rain"},
        SAME,
        id="negative prompt",
    ),
    pytest.param(
        {"enhance": "magic"},
        {"prompt": {"positive": "a", "enhance": "prefer_magic"}},
        {"prompt": "a", "magic_prompt": True},
        SAME,
        id="magic",
    ),
    pytest.param(
        {"enhance": "native"},
        {"prompt": {"positive": "a", "enhance": "prefer_native"}},
        UnsupportedFeatureError,
        SAME,
        id="native",
    ),
    pytest.param(
        {"rating": Rating()},
        {"prompt": "a", "content_rating": {"enabled": True}},
        {"prompt": "a", "rating": True},
        SAME,
        id="default rating",
    ),
    pytest.param(
        {"rating": Rating(LEVELS)},
        {"prompt": "a", "content_rating": {"enabled": True, "levels": SPELLED_LEVELS}},
        {"prompt": "a", "rating": {"mode": "custom", "levels": SPELLED_LEVELS}},
        SAME,
        id="custom rating",
    ),
    pytest.param(
        {"output_format": "png"},
        {"prompt": "a", "output": {"format": "png"}},
        {"prompt": "a", "output": {"format": "png", "quality": 80}},
        {"prompt": "a", "output": {"format": "png"}},
        id="format alone",
    ),
    pytest.param(
        {"output_quality": 0},
        {"prompt": "a", "output": {"quality": 0}},
        {"prompt": "a", "output": {"format": "webp", "quality": 0}},
        UnsupportedFeatureError,
        id="quality alone",
    ),
    pytest.param(
        {"inputs": (InputImage(URL),)},
        {
            "prompt": "a",
            "inputs": [
                {"type": "image", "role": "reference", "source": {"type": "url", "url": URL}}
            ],
        },
        {"prompt": "a", "inputs": [URL]},
        SAME,
        id="input",
    ),
    pytest.param(
        {"inputs": (InputImage(URL, role="source"),)},
        {
            "prompt": "a",
            "inputs": [{"type": "image", "role": "source", "source": {"type": "url", "url": URL}}],
        },
        {
            "prompt": "a",
            "inputs": [{"type": "image", "as": "source", "source": {"type": "url", "url": URL}}],
        },
        SAME,
        id="input with a role",
    ),
    pytest.param(
        {"size": "16:9_4k", "count": 3},
        {"prompt": "a", "size": "16:9_4k", "count": 3},
        {"prompt": "a", "size": "16:9_4k", "count": 3},
        SAME,
        id="size and count",
    ),
    pytest.param(
        {"routing": Routing(webhook_urls=(URL,), mute_registered_webhooks=True)},
        {"prompt": "a", "webhook": {"enabled": False, "custom": [{"url": URL}]}},
        {"prompt": "a", "webhook": {"dashboard": False, "custom": [{"url": URL}]}},
        {"prompt": "a", "webhook": {"registered": False, "custom": [{"url": URL}]}},
        id="webhooks",
    ),
    pytest.param(
        {"routing": Routing(destination="bucket", metadata_json='{"é":[1]}')},
        {"prompt": "a", "metadata": {"é": [1]}},
        {"prompt": "a", "destination": "bucket", "metadata": {"é": [1]}},
        SAME,
        id="destination and metadata",
    ),
]


@pytest.mark.parametrize(("asked", "r04", "r08", "r10"), SPELLINGS)
@pytest.mark.parametrize("revision", REVISIONS)
def test_a_request_is_spelled_exactly_as_the_revision_has_it(revision, asked, r04, r08, r10):
    """Nothing is sent that was not asked for, apart from our refusal of a token."""
    expected = {"2026-04": r04, "2026-08": r08, "2026-10": r08 if r10 is SAME else r10}[revision]
    request = RowRequest(prompt="a", model="m", **asked)

    if expected is UnsupportedFeatureError:
        with pytest.raises(UnsupportedFeatureError, match=next(iter(asked))):
            PROFILES[revision].encode_request(request, tag=None)
        return
    body = PROFILES[revision].encode_request(request, tag=None)

    assert body == {"model": "m", "count": 1, **expected, **UNASKED[revision]}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"model": "auto", "size": "16:9_4k"}, "size"),
        *(({"inputs": (InputImage(URL, role=role),)}, "inputs") for role in ("person", "context")),
        ({"inputs": (InputImage("DATA:image/png;base64,AAAA"),)}, "inputs"),
    ],
)
def test_what_2026_10_lacks_is_refused_by_its_name_before_it_is_sent(asked, field):
    """The server would refuse these, or charge for them and not do them."""
    request = RowRequest(**{"prompt": "a", "model": "m", **asked})

    with pytest.raises(UnsupportedFeatureError, match=f"^{field}: revision 2026-10 has no "):
        PROFILES["2026-10"].encode_request(request, tag=None)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_token_is_declined_unless_it_is_wanted(revision):
    """A task that is read with the key needs no token."""
    wanted, not_wanted = (
        RowRequest(prompt="a", routing=Routing(with_token=is_wanted)) for is_wanted in (True, False)
    )

    added = {
        name: value
        for name, value in PROFILES[revision].encode_request(wanted, tag=None).items()
        if name not in ("prompt", "model", "count")
    }

    assert added == ({"generate_public_access_token": True} if revision == "2026-10" else {})
    declined = PROFILES[revision].encode_request(not_wanted, tag=None)
    assert declined == {"prompt": "a", "model": "auto", "count": 1, **UNASKED[revision]}


@pytest.mark.parametrize("revision", REVISIONS)
def test_our_tag_lies_beside_the_users_metadata(revision):
    """The tag adds one key and leaves the user's as they are."""
    request = RowRequest(prompt="a", routing=Routing(metadata_json='{"job":7}'))

    body = PROFILES[revision].encode_request(request, tag="int_x.h.led_y")

    assert body["metadata"] == {"job": 7, "mynth_dagster": "int_x.h.led_y"}


def test_the_bytes_are_compact_utf8():
    """What is measured against the 2 KB of metadata is what is sent."""
    client = MynthClient(ClientSettings(), PROFILES["2026-10"], ManualClock())

    raw = client.encode(RowRequest(prompt="é"), None)

    assert raw == '{"prompt":"é","model":"auto","count":1}'.encode()
    assert json.loads(raw)["prompt"] == "é"


def test_an_unknown_revision_is_refused_by_name():
    """A revision is spelled as one of those that this release speaks."""
    with pytest.raises(ConfigError, match="2026-04, 2026-08, 2026-10"):
        profile_of("2027-01")
