"""The exact bodies that are sent, revision by revision."""

from __future__ import annotations

import json

import pytest

from mynth_dagster.client.client import MynthClient
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import ManualClock
from mynth_dagster.errors import ConfigError, UnsupportedFeatureError
from mynth_dagster.limits import REVISIONS
from mynth_dagster.models.request import Delivery, ImageRequest, InputImage, Rating, RatingLevel
from mynth_dagster.wire import PROFILES, profile_of

NO_TOKEN = {"access": {"pat": {"enabled": False}}}
LEVELS = (RatingLevel("kids", "For all."), RatingLevel("adult", "Not for kids."))
SPELLED_LEVELS = [
    {"value": "kids", "description": "For all."},
    {"value": "adult", "description": "Not for kids."},
]
URL = "https://example.com/in.png"

SPELLINGS = [
    pytest.param({}, {"prompt": "a"}, {"prompt": "a"}, id="prompt alone"),
    pytest.param(
        {"negative_prompt": "rain"},
        {"prompt": {"positive": "a", "negative": "rain", "enhance": False}},
        {"prompt": "a", "negative_prompt": "rain"},
        id="negative prompt",
    ),
    pytest.param(
        {"enhance": "magic"},
        {"prompt": {"positive": "a", "enhance": "prefer_magic"}},
        {"prompt": "a", "magic_prompt": True},
        id="magic",
    ),
    pytest.param(
        {"enhance": "native"},
        {"prompt": {"positive": "a", "enhance": "prefer_native"}},
        UnsupportedFeatureError,
        id="native",
    ),
    pytest.param(
        {"rating": Rating()},
        {"prompt": "a", "content_rating": {"enabled": True}},
        {"prompt": "a", "rating": True},
        id="default rating",
    ),
    pytest.param(
        {"rating": Rating(LEVELS)},
        {"prompt": "a", "content_rating": {"enabled": True, "levels": SPELLED_LEVELS}},
        {"prompt": "a", "rating": {"mode": "custom", "levels": SPELLED_LEVELS}},
        id="custom rating",
    ),
    pytest.param(
        {"output_format": "png"},
        {"prompt": "a", "output": {"format": "png"}},
        {"prompt": "a", "output": {"format": "png", "quality": 80}},
        id="format alone",
    ),
    pytest.param(
        {"output_quality": 0},
        {"prompt": "a", "output": {"quality": 0}},
        {"prompt": "a", "output": {"format": "webp", "quality": 0}},
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
        id="input with a role",
    ),
    pytest.param(
        {"size": "16:9_4k", "count": 3},
        {"prompt": "a", "size": "16:9_4k", "count": 3},
        {"prompt": "a", "size": "16:9_4k", "count": 3},
        id="size and count",
    ),
    pytest.param(
        {"delivery": Delivery(webhook_urls=(URL,), mute_registered_webhooks=True)},
        {"prompt": "a", "webhook": {"enabled": False, "custom": [{"url": URL}]}},
        {"prompt": "a", "webhook": {"dashboard": False, "custom": [{"url": URL}]}},
        id="webhooks",
    ),
    pytest.param(
        {"delivery": Delivery(destination="bucket", metadata_json='{"é":[1]}')},
        {"prompt": "a", "metadata": {"é": [1]}},
        {"prompt": "a", "destination": "bucket", "metadata": {"é": [1]}},
        id="destination and metadata",
    ),
]


@pytest.mark.parametrize(("asked", "old", "new"), SPELLINGS)
@pytest.mark.parametrize("revision", REVISIONS)
def test_a_request_is_spelled_exactly_as_the_revision_has_it(revision, asked, old, new):
    """Nothing is sent that was not asked for, apart from our refusal of a token."""
    expected = {"2026-04": old, "2026-08": new}[revision]
    request = ImageRequest(prompt="a", model="m", **asked)

    if expected is UnsupportedFeatureError:
        with pytest.raises(UnsupportedFeatureError, match="enhance"):
            PROFILES[revision].encode_request(request, tag=None)
        return
    body = PROFILES[revision].encode_request(request, tag=None)

    assert body == {"model": "m", "count": 1, **expected, **NO_TOKEN}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_token_is_declined_unless_it_is_wanted(revision):
    """A task that is read with the key needs no token."""
    wanted = ImageRequest(prompt="a", delivery=Delivery(with_token=True))

    assert "access" not in PROFILES[revision].encode_request(wanted, tag=None)


@pytest.mark.parametrize("revision", REVISIONS)
def test_our_tag_lies_beside_the_users_metadata(revision):
    """The tag adds one key and leaves the user's as they are."""
    request = ImageRequest(prompt="a", delivery=Delivery(metadata_json='{"job":7}'))

    body = PROFILES[revision].encode_request(request, tag="int_x.h.led_y")

    assert body["metadata"] == {"job": 7, "mynth_dagster": "int_x.h.led_y"}


def test_the_bytes_are_compact_utf8():
    """What is measured against the 2 KB of metadata is what is sent."""
    client = MynthClient(ClientSettings(), PROFILES["2026-08"], ManualClock())

    raw = client.encode(ImageRequest(prompt="é"), None)

    assert (
        raw == '{"prompt":"é","model":"auto","count":1,"access":{"pat":{"enabled":false}}}'.encode()
    )
    assert json.loads(raw)["prompt"] == "é"


def test_an_unknown_revision_is_refused_by_name():
    """A revision is spelled as one of those that this release speaks."""
    with pytest.raises(ConfigError, match="2026-04, 2026-08"):
        profile_of("2027-01")
