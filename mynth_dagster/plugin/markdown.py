"""
Markdown that Dagster's UI renders, made of texts that may be anything. Pure.

The UI drops raw HTML and shows images at their own size, from https or data URIs only.
Prompts are escaped: one that is itself markdown must not load a picture into the page.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence

from mynth_dagster.models.money import format_usd

CELL_MAX_CHARS = 80

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#+!|~])")
_AUTOLINK = re.compile(r"://|(?<=www)\.", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_LINKABLE = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_URL_UNSAFE = {"(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "\\": "%5C", "|": "%7C"}


def as_text(value: object, *, max_chars: int = CELL_MAX_CHARS) -> str:
    """Any value as one line of plain text that stays so in a table's cell; None is empty."""
    text = "" if value is None else _BLANKS.sub(" ", str(value)).strip()
    shown = text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
    return _AUTOLINK.sub(lambda found: f"\\{found[0]}", _SPECIAL.sub(r"\\\1", shown))


def as_usd(units: int) -> str:
    """An amount as the figures beside it are written: a number, its unit in the heading."""
    return format_usd(units).removeprefix("$")


def as_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are markdown already; "no rows" where there are none."""
    if not rows:
        return "no rows"
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines)


def as_link(shown: str, url: str | None) -> str:
    """``shown`` (markdown already) as a link; alone where the URL is none that may be linked."""
    if url is None or not _LINKABLE.fullmatch(url):
        return shown
    return f"[{shown}]({''.join(_URL_UNSAFE.get(char, char) for char in url)})"


def as_picture(alt: str, webp: bytes) -> str:
    """A WebP file as a picture that needs no network."""
    return f"![{as_text(alt)}](data:image/webp;base64,{b64encode(webp).decode('ascii')})"
