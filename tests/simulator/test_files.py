from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from mynth_dagster.limits import SIZES
from mynth_dagster.simulator.images import UploadStore

KINDS = {"webp": ("WEBP", "image/webp"), "png": ("PNG", "image/png"), "jpg": ("JPEG", "image/jpeg")}
MIB = 2**20


def picture(file_format="PNG", n_bytes=None):
    buffer = BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, file_format)
    content = buffer.getvalue()
    return content if n_bytes is None else content[:n_bytes].ljust(n_bytes, b"\0")


def upload(api, *contents):
    files = [("images", (f"{i}.bin", content, "x/y")) for i, content in enumerate(contents)]
    return api.client.post("/image/upload", files=files)


@pytest.mark.parametrize("word", sorted(KINDS))
def test_image_bytes_are_what_was_announced(any_api, connect, word):
    """An image's URL serves, without a key, a picture of the told format and size."""
    quality = {} if any_api.revision == "2026-10" else {"quality": 70}
    task = any_api.finish(output={"format": word, **quality}, size="landscape", count=2)
    reader = connect(None, reset=False).client
    for image in task["result"]["images"]:
        answer = reader.get(image["url"])
        opened = Image.open(BytesIO(answer.content))
        opened.load()

        name, media_type = KINDS[word]
        assert (name, "1536x1024") == (opened.format, f"{opened.width}x{opened.height}")
        assert media_type == answer.headers["content-type"]
        assert image["url"].endswith(f".{word}")
        assert image["size"] == "1536x1024"


@pytest.mark.parametrize("size", [size for size in SIZES if not size.endswith("_4k")])
def test_every_size_has_pixels(api, size):
    """Every size word has a pixel size near its ratio."""
    width, height = map(int, api.finish(size=size)["result"]["images"][0]["size"].split("x"))

    if ":" in size:
        across, down = map(int, size.split(":"))
        assert abs(width / height - across / down) < 0.01


def test_4k_is_larger(api):
    """A 4k picture has more pixels, and is served as such."""
    task = api.finish(model="google/gemini-3.1-flash-image", size="16:9_4k")
    image = task["result"]["images"][0]
    opened = Image.open(BytesIO(api.client.get(image["url"]).content))

    assert "3200x1800" == image["size"] == f"{opened.width}x{opened.height}"


def test_pictures_differ_and_repeat(api):
    """Prompts and images have pictures of their own; the same URL gives the same bytes."""
    images = api.finish("one", count=2)["result"]["images"]
    images += api.finish("two")["result"]["images"]
    contents = [api.client.get(image["url"]).content for image in images]

    assert len(set(contents)) == 3
    assert contents[0] == api.client.get(images[0]["url"]).content
    assert max(map(len, contents)) < 200_000


def test_pixels_and_base_can_be_chosen(connect):
    """The pixel table and the base of URLs belong to the scenario."""
    api = connect(pixels={"square": "64x48"}, public_url="https://pictures.example/")
    image = api.finish(size="square")["result"]["images"][0]

    assert image["size"] == "64x48"
    assert image["url"].startswith("https://pictures.example/cdn/img_")


def test_unknown_files(connect):
    """No file: before completion, of a failed image, in another format, or of any other name."""
    api = connect(failures=[{"kind": "images", "n_images": 1}])
    pending = api.server.app.state.tasks
    api.create(count=2)
    early = f"/cdn/{pending[0].image_id(1)}.webp"
    before = api.client.get(early).status_code
    api.server.complete()
    failed = f"/cdn/{pending[0].image_id(0)}.webp"
    paths = [failed, early.replace("webp", "png"), "/cdn/img_x.webp", "/cdn/inputs/x.png"]

    assert (before, api.client.get(early).status_code) == (404, 200)
    assert {404} == {api.client.get(path).status_code for path in paths}


def test_head_of_a_file(api):
    """HEAD tells type and length without the bytes."""
    url = api.finish()["result"]["images"][0]["url"]
    answer = api.client.head(url)

    assert (answer.status_code, answer.content) == (200, b"")
    assert len(api.client.get(url).content) == int(answer.headers["content-length"])


def test_upload_serves_what_was_sent(any_api):
    """Uploads get one URL each, in order, and are served back by their real type."""
    contents = [picture("JPEG"), picture("PNG"), picture("WEBP")]
    urls = any_api.open(upload(any_api, *contents))["urls"]
    answers = [any_api.client.get(url, headers={"authorization": ""}) for url in urls]

    assert contents == [answer.content for answer in answers]
    assert [answer.headers["content-type"] for answer in answers] == [
        "image/jpeg",
        "image/png",
        "image/webp",
    ]


@pytest.mark.parametrize(
    ("n_bytes", "status"), [(1023, 400), (1024, 200), (10 * MIB, 200), (10 * MIB + 1, 400)]
)
def test_upload_size_limits(api, n_bytes, status):
    """A file has 1 KiB to 10 MiB."""
    assert status == upload(api, picture(n_bytes=n_bytes)).status_code


@pytest.mark.parametrize(("n_files", "status"), [(1, 200), (10, 200), (11, 400)])
def test_upload_file_limits(api, n_files, status):
    """A request has one to ten files."""
    assert status == upload(api, *[picture()] * n_files).status_code


def test_upload_refuses_other_bodies(any_api):
    """No files, other formats and other bodies are refused; a key is needed."""
    answers = [
        upload(any_api, picture("GIF")),
        upload(any_api, picture(), b"not an image".ljust(2048)),
        any_api.client.post("/image/upload", data={"images": "text"}),
        any_api.client.post("/image/upload", files=[("others", ("a.png", picture()))]),
        any_api.client.post("/image/upload", json={}),
        any_api.client.post(
            "/image/upload",
            content=b"--b\r\nnonsense",
            headers={"content-type": "multipart/form-data; boundary=b"},
        ),
    ]
    files = [("images", ("a.png", picture()))]
    keyless = any_api.client.post("/image/upload", files=files, headers={"authorization": ""})

    by_type = [answers.pop(4), answers.pop(2)]
    assert {(400, "validation_error")} == {any_api.error(answer) for answer in answers}
    status = 415 if any_api.revision == "2026-10" else 400
    assert {status} == {answer.status_code for answer in by_type}
    assert keyless.status_code == 401


def test_uploads_are_forgotten_oldest_first():
    """Beyond its total size the store forgets the oldest upload."""
    store = UploadStore(seed=0, max_bytes=25)
    names = [store.add(b"x" * 10, "image/png", 0).removeprefix("/cdn/") for _ in range(3)]

    assert [store.find(name) is not None for name in names] == [False, True, True]
