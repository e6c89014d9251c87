"""Reading our own pages: headings, links, tables, code blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
LLMS = ROOT / "llms.txt"
SKILL = ROOT / "skills" / "mynth-dagster" / "SKILL.md"
PAGES = [
    README,
    LLMS,
    SKILL,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page: Path) -> str:
    """The page's path within the project, for the names of tests."""
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text("utf-8")


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", read(page))


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks in one language, in order."""
    return [body for found, body in _FENCE.findall(read(page)) if found == language]


def execute(snippet: str, names: dict[str, Any]) -> None:
    """Run a snippet as a file of its reader would: annotations are real objects there."""
    exec(compile(snippet, "<snippet>", "exec", dont_inherit=True), names)


def commands(page: Path) -> list[str]:
    """The lines that a reader is told to type."""
    shown = [line for block in blocks(page, "console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]


def links(page: Path) -> list[str]:
    """The targets of all links in the prose."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What a link into the page may name."""
    words = [re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(prose(page))]
    return {title.replace(" ", "-") for title in words}


def section(page: Path, title: str) -> str:
    """The text under one heading, up to the next of its level or above."""
    text = read(page)
    found = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert found, f"{name_of(page)} has no heading {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str, first_header: str) -> list[list[str]]:
    """The cells of the first table whose first column has this header."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_header} |"):
            break
    else:
        raise AssertionError(f"there is no table with a first column {first_header!r}")
    next(lines)
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def code_in(cell: str) -> list[str]:
    """The pieces of code in a cell."""
    return re.findall(r"`([^`]*)`", cell)
