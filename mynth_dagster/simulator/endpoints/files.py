"""Files in and out: uploads of input images, and the bytes of generated ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mynth_dagster.simulator import invented
from mynth_dagster.simulator.answers import Answer, answer_json
from mynth_dagster.simulator.draws import draw_whole
from mynth_dagster.simulator.orders import Order
from mynth_dagster.simulator.pictures import MIME_TYPES, draw_picture
from mynth_dagster.simulator.refusals import NOT_FOUND, VALIDATION, Refusal
from mynth_dagster.simulator.uploads import check_upload

if TYPE_CHECKING:
    from mynth_dagster.simulator.calls import Call

_FIELD = "images"


async def upload(call: Call) -> Answer:
    """``POST /image/upload``: all files or none; one URL per file, in order."""
    call.require_key()
    limits = call.service.revision.LIMITS
    contents = await _read_files(call)
    if not 1 <= len(contents) <= limits.upload_files_max:
        most = limits.upload_files_max
        raise Refusal(VALIDATION, f"{_FIELD} must be 1 to {most} files", at=_FIELD)
    checked = [
        (content, check_upload(content, f"{_FIELD}[{i}]", limits))
        for i, content in enumerate(contents)
    ]
    paths = [call.service.uploads.add(content, media_type) for content, media_type in checked]
    urls = [call.base_url + path for path in paths]
    return answer_json(call.service.revision.answers.uploaded(urls))


async def serve_file(call: Call) -> Answer:
    """``GET /cdn/…``: an image or an upload, without any key."""
    upload = call.service.uploads.find(call.route.param)
    if upload is not None:
        return Answer(200, upload.content, upload.media_type.encode())
    image_id, _, extension = call.route.param.rpartition(".")
    found = call.service.world.find_image(image_id)
    if found is None:
        raise Refusal(NOT_FOUND, invented.NOT_FOUND_TEXT)
    task, index = found
    order = task.order
    assert isinstance(order, Order)
    if extension != order.format:
        raise Refusal(NOT_FOUND, invented.NOT_FOUND_TEXT)
    number = draw_whole(task.seed, "picture", order.prompt, task.outcome.model, index)
    width, height = invented.read_pixels(task.outcome.pixels)
    content = await asyncio.to_thread(
        draw_picture, number, width, height, order.format, order.quality
    )
    return Answer(200, content, MIME_TYPES[order.format])


async def _read_files(call: Call) -> list[bytes]:
    content_type = call.header(b"content-type")
    if not content_type.startswith("multipart/form-data"):
        raise Refusal(VALIDATION, "The request body must be multipart/form-data.")
    parser = MultiPartParser(Headers(raw=call.scope["headers"]), _chunks(call.body))
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise Refusal(VALIDATION, "The multipart body is malformed.") from exc
    try:
        parts = form.getlist(_FIELD)
        return [await part.read() for part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    step = invented.UPLOAD_CHUNK_BYTES
    for start in range(0, len(body), step):
        yield body[start : start + step]
    yield b""
