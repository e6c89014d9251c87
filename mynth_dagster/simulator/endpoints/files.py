"""Files in and out: uploads of input images, and the bytes of generated ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mynth_dagster.clock import US_PER_S
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import Answer, answer_json
from mynth_dagster.simulator.completion import motif_of
from mynth_dagster.simulator.images import MIME_TYPES, check_upload, draw_picture
from mynth_dagster.simulator.tasks import Order
from mynth_dagster.simulator.validation import MEDIA_TYPE, NOT_FOUND, VALIDATION, Refusal, invalid

if TYPE_CHECKING:
    from mynth_dagster.simulator.calls import Call

_FIELD = "images"


async def upload(call: Call) -> Answer:
    """``POST /image/upload``: all files or none; one URL per file, in order."""
    call.require_key("generate")
    limits = call.service.revision.LIMITS
    contents = await _read_files(call)
    if not 1 <= len(contents) <= limits.upload_files_max:
        most = limits.upload_files_max
        raise invalid(_FIELD, f"must be 1 to {most} files")
    checked = [
        (content, check_upload(content, f"{_FIELD}[{i}]", limits))
        for i, content in enumerate(contents)
    ]
    now_us = call.service.clock.now_us()
    paths = [
        call.service.uploads.add(content, media_type, now_us) for content, media_type in checked
    ]
    urls = [call.base_url + path for path in paths]
    return answer_json(call.service.revision.answers.uploaded(urls))


async def serve_file(call: Call) -> Answer:
    """``GET /cdn/…``: an image or an upload, without any key."""
    upload = call.service.uploads.find(call.route.param)
    if upload is not None:
        _check_age(call, upload.added_us, call.service.revision.UPLOAD_LIFETIME_S)
        return Answer(200, upload.content, upload.media_type.encode())
    image_id, _, extension = call.route.param.rpartition(".")
    found = call.service.world.find_image(image_id)
    if found is None:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    task, index = found
    order, file_format = task.order, task.outcome.format
    if extension != file_format:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    _check_age(call, task.updated_us, call.service.revision.LIMITS.url_lifetime_s)
    quality = order.quality if isinstance(order, Order) else None
    width, height = defaults.read_pixels(task.outcome.pixels)
    content = await asyncio.to_thread(
        draw_picture,
        motif_of(task, index),
        width,
        height,
        file_format,
        defaults.QUALITY if quality is None else quality,
    )
    return Answer(200, content, MIME_TYPES[file_format])


def _check_age(call: Call, since_us: int, lifetime_s: float | None) -> None:
    service = call.service
    if lifetime_s is not None and service.clock.now_us() - since_us >= lifetime_s * US_PER_S:
        status = service.quirks.expired_file_status
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT, status=status)


async def _read_files(call: Call) -> list[bytes]:
    content_type = call.header(b"content-type")
    if not content_type.startswith("multipart/form-data"):
        raise Refusal(MEDIA_TYPE, "The request body must be multipart/form-data.")
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
    step = defaults.UPLOAD_CHUNK_BYTES
    for start in range(0, len(body), step):
        yield body[start : start + step]
    yield b""
