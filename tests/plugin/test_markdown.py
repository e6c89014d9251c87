"""Markdown made of texts that may be anything."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from mynth_dagster.plugin.metadata import as_link, as_picture, as_table, as_text

RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render


@pytest.mark.parametrize(
    "hostile",
    [
        "![x](https://evil.example/pixel.png)",
        "[click](https://evil.example)",
        "<img src=https://evil.example/x>",
        "https://evil.example and www.evil.example",
        "a | b | c",
        "**bold** _it_ `code` ~~gone~~",
        "line\n\n# heading",
        "back\\slash \\| pipe",
    ],
)
def test_prompt_stays_text(hostile):
    """No picture, link, tag, format or cell comes out of a prompt; all of its words do."""
    html = RENDER(as_table(["prompt"], [[as_text(hostile)]]))

    assert html.count("<td>") == 1
    cell = html.split("<td>")[1].split("</td>")[0]
    assert "<" not in cell
    for word in ("evil.example", "bold", "heading", "pipe"):
        assert (word in cell) == (word in hostile)


@pytest.mark.parametrize("text", ["https://evil.example", "see www.evil.example", "HTTP://x"])
def test_addresses_in_prompts_are_no_links(text):
    """The UI makes links of bare addresses, unless their punctuation is escaped."""
    assert not re.search(r"(?<!\\)://|www\.e", as_text(text))


def test_long_text_is_cut_with_a_mark():
    """A cell holds so many characters, the last of which says that there were more."""
    assert as_text("x" * 100, max_chars=10) == "x" * 9 + "…"
    assert as_text(None) == ""


def test_no_rows_are_described():
    """An empty table would look broken."""
    assert as_table(["a"], []) == "no rows"


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "file:///etc", "https://a b", "x"])
def test_only_web_addresses_are_linked(url):
    """Anything else is shown without a link."""
    assert as_link("p1", url) == "p1"


def test_address_cannot_end_its_link():
    """Parentheses and pipes in a URL stay within it."""
    html = RENDER(as_link("p1", "https://a.example/x)(y|z"))

    assert html.count("<a href") == 1
    assert "%28y%7Cz" in html


def test_picture_is_a_data_uri():
    """A picture needs no network, and its alternative text is escaped."""
    shown = as_picture("a ] b", b"RIFF")

    assert shown == "![a \\] b](data:image/webp;base64,UklGRg==)"
