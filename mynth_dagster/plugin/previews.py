"""What the UI shows of images: a strip within the page, and a gallery in a window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from mynth_dagster.engine.download import Thumbnails
from mynth_dagster.limits import GALLERY_MAX_CHARS, INLINE_MARKDOWN_MAX_CHARS
from mynth_dagster.plugin.markdown import as_link, as_picture, as_table, as_text, as_usd
from mynth_dagster.tables.images import draw_strip
from mynth_dagster.tables.results import ResultsSummary, SampleImage

_STRIP_IMAGES = 4
_STRIP_ROOM_CHARS = 80  # for alt text and type
_LINK_NAME_CHARS = 24
_PROMPT_CHARS = 160
_HEADS = ("image", "prompt id", "prompt", "model", "size", "cost USD")


def strip(summary: ResultsSummary, thumbnails: Thumbnails) -> str:
    """The first thumbnails side by side, short enough to be shown within the page; else links."""
    first = list(islice(thumbnails.by_image.values(), _STRIP_IMAGES))
    told = f"{summary.n_images} images"
    room = (INLINE_MARKDOWN_MAX_CHARS - _STRIP_ROOM_CHARS) * 3 // 4
    drawn = draw_strip(first, room)
    if drawn is None:
        return _links(summary.images, told)
    return as_picture(f"the first {len(first)} of {told}", drawn)


def gallery(summary: ResultsSummary, thumbnails: Thumbnails) -> str:
    """A row for each of the first images: picture, id, prompt, model, size, cost; not too long."""
    rows, n_chars = list[Sequence[str]](), 0
    for image in summary.images:
        row = _row(image, thumbnails.by_image.get(image))
        n_chars += sum(map(len, row)) + 3 * len(row)
        if n_chars > GALLERY_MAX_CHARS:
            break
        rows.append(row)
    left = summary.n_images - len(rows)
    more = f"\n\n{len(rows)} of {summary.n_images} images; the table has all." if left else ""
    return as_table(_HEADS, rows) + more


def _row(image: SampleImage, thumbnail: bytes | None) -> Sequence[str]:
    shown = "" if thumbnail is None else as_picture(image.prompt_id, thumbnail)
    return (
        shown and as_link(shown, image.link),
        as_link(as_text(image.prompt_id), image.link),
        as_text(image.prompt, max_chars=_PROMPT_CHARS),
        as_text(image.model),
        f"{image.width}×{image.height}" if image.width and image.height else "",
        "" if image.cost_units is None else as_usd(image.cost_units),
    )


def _links(images: Iterable[SampleImage], told: str) -> str:
    text = told
    for image in images:
        name = as_text(image.prompt_id, max_chars=_LINK_NAME_CHARS)
        longer = f"{text} · {as_link(name, image.link)}"
        if len(longer) > INLINE_MARKDOWN_MAX_CHARS:
            break
        text = longer
    return text
