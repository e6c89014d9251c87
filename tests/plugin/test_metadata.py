"""What the UI shows of a partition: numbers that plot, tables that end, pictures that fit."""

from __future__ import annotations

from io import BytesIO

import dagster as dg
import pytest
from PIL import Image

from mynth_dagster.engine.download import Thumbnails
from mynth_dagster.engine.plan import Plan, PriceClass
from mynth_dagster.engine.quote import Price, Quote
from mynth_dagster.limits import GALLERY_MAX_CHARS, INLINE_MARKDOWN_MAX_CHARS, TABLE_ROWS_MAX
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import MoneyOutcome
from mynth_dagster.models.money import Receipt
from mynth_dagster.plugin import metadata
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import FailureKind, ResultsSummary, SampleImage

URIS = {"tasks": "/t", "images": "/i", "failures": "/f"}


def _image(number: int, **facts) -> SampleImage:
    url = f"https://cdn.mynth.io/img_{number}.webp"
    named = {"prompt_id": f"p{number}", "prompt": "a kite", "model": "m/x", "url": url}
    return SampleImage(f"int_{number}", 0, **{**named, **facts})


def _thumbnail(number: int = 0) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((160, 120), 20 + number).convert("RGB").save(buffer, "WEBP", quality=50)
    return buffer.getvalue()


def _summary(**facts) -> ResultsSummary:
    return ResultsSummary(Slice(), 1, URIS, **facts)


def _plotted(shown) -> dict[str, float]:
    return {name: value for name, value in shown.items() if isinstance(value, int | float)}


def test_images_have_the_figures_that_plot():
    """Counts, rate, money, cost per image and duration are plain numbers."""
    summary = _summary(
        n_images=8,
        n_images_missing=2,
        n_images_asked=10,
        charged_units=40_000_000,
        median_task_s=7.5,
    )

    assert _plotted(metadata.images_metadata(summary)) == {
        "dagster/partition_row_count": 8,
        "mynth/images_asked": 10,
        "mynth/images_missing": 2,
        "mynth/failure_rate": 0.2,
        "mynth/charged_usd": 0.4,
        "mynth/cost_per_image_usd": 0.05,
        "mynth/cost_unknown": 0,
        "mynth/median_task_s": 7.5,
    }


def test_receipt_says_what_became_of_the_money():
    """Quoted, reserved, charged, refunded, open and unknown, each to its last decimal."""
    receipt = Receipt(quoted=4_000_000, reserved=4_000_000, charged=3_000_000, refunded=1_000_000)

    shown = metadata.images_metadata(_summary(n_images=1), receipt)["mynth/receipt"].value

    assert shown.splitlines()[2] == "| 0.04 | 0.04 | 0.03 | 0.01 | 0.00 | 0.00 |"


def test_unknown_figures_are_absent_not_zero():
    """A cost that is not known yet, and a duration of nothing, are gaps in the plot."""
    shown = metadata.images_metadata(_summary(n_images=1, n_cost_unknown=1))

    assert "mynth/cost_per_image_usd" not in shown
    assert "mynth/median_task_s" not in shown


@pytest.mark.parametrize("n_images", [1, 6, 24])
def test_strip_is_short_enough_to_be_shown_in_the_page(n_images):
    """With thumbnails, the preview is one picture within the UI's limit."""
    images = tuple(map(_image, range(n_images)))
    thumbnails = Thumbnails({image: _thumbnail(n) for n, image in enumerate(images)})

    preview = metadata.images_metadata(_summary(images=images, n_images=84), thumbnails=thumbnails)[
        "mynth/preview"
    ].value

    assert len(preview) <= INLINE_MARKDOWN_MAX_CHARS
    assert preview.startswith(f"![the first {min(4, n_images)} of 84 images](data:image/webp")


def test_without_thumbnails_the_strip_is_links():
    """As many as fit, never a picture in its full size."""
    images = tuple(_image(n, prompt_id=f"a rather long prompt id {n}") for n in range(24))

    preview = metadata.images_metadata(_summary(images=images, n_images=84))["mynth/preview"].value

    assert preview.startswith("84 images · [a rather long")
    assert 500 < len(preview) <= INLINE_MARKDOWN_MAX_CHARS
    assert "![" not in preview


def test_gallery_has_a_row_for_each_image_and_says_what_is_left():
    """Picture, id, prompt, model, size and cost; with a thumbnail or without, its id is there."""
    image = _image(1, width=1152, height=768, cost_units=3_000_000)
    thumbnails = Thumbnails({image: _thumbnail()})
    summary = _summary(images=(image, _image(2, url=None)), n_images=84)

    gallery = metadata.images_metadata(summary, thumbnails=thumbnails)["mynth/gallery"].value

    first, second, *_, last = gallery.splitlines()[2:]
    assert first.startswith("| [![p1](data:image/webp;base64,")
    link = "(https://cdn.mynth.io/img_1.webp)"
    assert f"{link} | [p1]{link} | a kite | m/x | 1152×768 | 0.03 |" in first
    assert second == "|  | p2 | a kite | m/x |  |  |"
    assert last == "2 of 84 images; the table has all."


def test_gallery_is_cut_where_it_would_be_too_long():
    """Metadata is kept for ever, so it is bounded, with the count of what is shown."""
    images = tuple(map(_image, range(24)))
    thumbnails = Thumbnails({image: bytes(GALLERY_MAX_CHARS // 10) for image in images})

    gallery = metadata.images_metadata(_summary(images=images, n_images=24), thumbnails=thumbnails)[
        "mynth/gallery"
    ].value

    assert len(gallery) <= GALLERY_MAX_CHARS + 200
    assert gallery.endswith("7 of 24 images; the table has all.")


def test_failures_are_a_table_by_code():
    """Each code with its count, examples, words and next step; the rest is counted."""
    kinds = tuple(
        FailureKind(f"code_{n}", "it broke", "Edit.", MoneyOutcome.REFUNDED, 3, 1, ["a", "b"])
        for n in range(TABLE_ROWS_MAX + 2)
    )
    shown = metadata.failures_metadata(_summary(failure_kinds=kinds, n_failures=66))

    table = shown["mynth/failures_by_code"]
    assert isinstance(table, dg.MarkdownMetadataValue)
    assert "| 3 | **code\\_0** as in a, b: it broke | Refunded. Edit. |" in table.value
    assert table.value.endswith("and 6 failures of 2 more codes")
    assert shown["mynth/retryable"] == TABLE_ROWS_MAX + 2


def test_prompts_tell_rows_and_the_quote():
    """The quote of a partition, with its basis; a note where a price is not known."""
    kind = PriceClass("m", is_4k=False, count=1, n_inputs=0, enhanced=False, rated=False)
    plan = Plan()
    plan.n_requests[kind] = 3
    quote = Quote({kind: Price(2_000_000, "estimate")}, plan.n_requests, ("no <b>",))
    summary = PromptsSummary(
        Slice(),
        "/p",
        4,
        3,
        1,
        3,
        sample=({"prompt_id": "a", "prompt": "b | c", "model": "m/x", "count": 2},),
    )

    shown = metadata.prompts_metadata(summary) | metadata.quote_metadata(plan, quote)

    assert shown["mynth/quoted_usd"] == 0.06
    assert shown["mynth/quote_basis"] == "estimate"
    assert shown["mynth/quote_notes"].value == "- no \\<b\\>"
    assert shown["mynth/rejected"] == 1
    assert shown["mynth/sample"].value == "- **a** (2 of m/x) b \\| c\n- and 3 more rows"


def test_unknown_price_is_no_zero():
    """Where a price is not known the quote is absent."""
    kind = PriceClass("auto", is_4k=False, count=1, n_inputs=0, enhanced=False, rated=False)
    plan = Plan()
    plan.n_requests[kind] = 1

    shown = metadata.quote_metadata(plan, Quote({kind: Price(None, "unknown")}, plan.n_requests))

    assert "mynth/quoted_usd" not in shown
