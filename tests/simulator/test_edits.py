"""Upscaling and removing the background: one image made of another, in 2026-10."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

URL = "https://a.example/product.jpg"


def make(api, path="upscale", **fields):
    """The full task of a request, completed."""
    body = {"url": URL, **({"size": "2x", "effort": "low"} if path == "upscale" else {}), **fields}
    answer = api.client.post(f"/image/{path}", json=body)
    assert answer.status_code == 201, answer.text
    task_id = answer.json()["data"]["task_id"]
    api.server.complete([task_id])
    return api.detail(task_id)


def upload(api, width, height):
    buffer = BytesIO()
    Image.effect_noise((width, height), 80).save(buffer, "PNG")
    answer = api.client.post("/image/upload", files=[("images", ("a.png", buffer.getvalue()))])
    return answer.json()["data"]["urls"][0]


@pytest.mark.parametrize(
    ("size", "effort", "cost"),
    [
        ("2x", "low", "0.03"),
        ("4x", "high", "0.15"),
        ({"type": "scale", "factor": 2}, "low", "0.03"),
        ({"type": "scale", "factor": 4}, "high", "0.15"),
    ],
)
def test_effort_and_size_set_the_price_of_an_upscale(new_api, size, effort, cost):
    """It is held when the task is made, and charged when it is done."""
    body = {"url": URL, "size": size, "effort": effort}
    made = new_api.client.post("/image/upscale", json=body).json()["data"]
    held = new_api.balance()["reserved"]
    new_api.server.complete()
    task = new_api.detail(made["task_id"])

    assert (made["estimated_cost"], held) == (cost, cost)
    assert (task["status"], task["cost"].rstrip("0")) == ("completed", cost)
    assert task["request"] == body


def test_an_upscale_is_larger_than_an_image_of_the_simulator(new_api):
    """The dimensions of a generated image are known by its URL; the file has those of the task."""
    source = new_api.finish(size="landscape")["result"]["images"][0]["mynth_url"]
    image = make(new_api, url=source, output={"format": "png"})["result"]["image"]
    content = new_api.client.get(image["url"]).content
    opened = Image.open(BytesIO(content))

    assert "status" not in image
    assert (image["size"], opened.size, opened.format) == ("3072x2048", (3072, 2048), "PNG")
    assert image["url"] == image["mynth_url"]


@pytest.mark.parametrize("size", ["2x", "4x"])
def test_an_upscale_is_larger_than_an_upload(new_api, size):
    """The bytes of an upload tell its dimensions."""
    task = make(new_api, url=upload(new_api, 100, 60), size=size)

    assert task["result"]["image"]["size"] == {"2x": "200x120", "4x": "400x240"}[size]


@pytest.mark.parametrize(
    ("side", "size", "status"),
    [
        (2048, "2x", "completed"),
        (2049, "2x", "failed"),
        (1024, "4x", "completed"),
        (1025, "4x", "failed"),
    ],
)
def test_a_result_beyond_4096_pixels_fails_uncharged(connect, side, size, status):
    """It is accepted first."""
    api = connect(revision="2026-10", pixels={"square": f"64x{side}"})
    source = api.finish(size="square")["result"]["images"][0]["url"]
    spent = api.balance()["balance"]
    task = make(api, url=source, size=size)

    assert task["status"] == status
    if status == "failed":
        assert [error["code"] for error in task["errors"]] == ["output_too_large"]
        assert (task["result"], task["cost"], api.balance()["balance"]) == (None, None, spent)


def test_a_removed_background_leaves_the_dimensions(new_api):
    """And its price is that of an official example."""
    task = make(new_api, "remove-background", url=upload(new_api, 300, 200))

    assert task["type"] == "image.remove_background"
    assert task["result"]["image"]["size"] == "300x200"
    assert task["cost"] == "0.02000000"


@pytest.mark.parametrize("path", ["upscale", "remove-background"])
def test_it_may_fail_after_it_was_accepted(connect, path):
    """Wholly: there is no result without its one image."""
    word = path.replace("-", "_")
    rules = [{"kind": "task", "type": f"image.{word}", "url_contains": "product"}]
    api = connect(revision="2026-10", failures=rules)
    task = make(api, path)

    assert (task["status"], task["result"], task["cost"]) == ("failed", None, None)
    assert [error["code"] for error in task["errors"]] == ["provider_error"]
    assert make(api, path, url="https://a.example/other.jpg")["status"] == "completed"


def test_it_may_go_to_the_users_own_storage(connect):
    """Its destination is told as that of a generated image."""
    storage = {"name": "mine", "url_template": "https://img.example/{path}"}
    api = connect(revision="2026-10", destinations=[storage])
    image = make(api, destination="mine", output={"format": "webp"})["result"]["image"]

    assert image["url"] == f"https://img.example/images/{image['id']}.webp"
    assert image["destination"] == {"status": "success", "name": "mine"}


def test_it_may_have_a_token_and_a_mark(new_api):
    """The log knows it by the client's own mark, as a request for images."""
    body = {
        "url": URL,
        "size": "2x",
        "effort": "low",
        "generate_public_access_token": True,
        "metadata": {"mynth_dagster": "int1.hash.ledger"},
    }
    made = new_api.client.post("/image/upscale", json=body).json()["data"]
    headers = {"authorization": f"Bearer {made['public_access_token']}"}
    read = new_api.client.get(f"/tasks/{made['task_id']}/status", headers=headers)
    (entry,) = new_api.server.log()["accepted"]

    assert read.status_code == 200
    assert (entry["intent_id"], entry["urls"], entry["count"]) == ("int1", [URL], 1)
    assert entry["route"] == "POST /image/upscale"


@pytest.mark.parametrize("path", ["/image/upscale", "/image/remove-background"])
def test_earlier_revisions_have_no_such_route(earlier_api, path):
    """They answer as for any unknown path."""
    assert earlier_api.client.post(path, json={"url": URL}).status_code == 404


def test_a_review_of_low_effort_is_cheaper(new_api):
    """By how much is invented; ratings and alt texts have one price."""
    costs = [
        new_api.client.post(f"/image/{path}", json={"url": URL, **fields}).json()["data"]
        for path, fields in [
            ("rate", {}),
            ("alt", {}),
            ("review", {}),
            ("review", {"effort": "high"}),
            ("review", {"effort": "low"}),
        ]
    ]

    estimates = [cost["estimated_cost"] for cost in costs]
    assert estimates[:4] == ["0.0002", "0.0004", "0.02", "0.02"]
    assert float(estimates[4]) < 0.02
