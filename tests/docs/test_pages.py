"""All pages: links lead somewhere, commands exist, and the text speaks of the project alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import typer

from mynth_dagster.cli.main import app
from tests.docs.markdown import (
    DOCS,
    PAGES,
    ROOT,
    anchors,
    code_in,
    commands,
    links,
    name_of,
    prose,
    read,
    rows,
)
from tests.test_extras import PROJECT

HOSTS = {
    "127.0.0.1:8787",
    "api.mynth.io",
    "keepachangelog.com",
    "www.standardwebhooks.com",
}
"""The only hosts that a page may name."""

COMMANDS = typer.main.get_command(app).commands


def of_each_page(check: Callable[[Path], None]) -> Callable[[], None]:
    """One test a rule: it reads all pages, and names those that break it."""

    def test() -> None:
        broken = []
        for page in PAGES:
            try:
                check(page)
            except AssertionError as error:  # noqa: PERF203 - each page breaks it by itself
                broken.append(f"{name_of(page)}: {error}")
        assert not broken, "\n".join(broken)

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


def _targets_of_make() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):.*## ", read(ROOT / "Makefile"), re.MULTILINE))


@of_each_page
def test_links_lead_to_pages_and_headings(page: Path):
    """A link within the project names a file that exists, and a heading that it has."""
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(page)} links to {link}"


@of_each_page
def test_pages_name_known_hosts_only(page: Path):
    """No page sends its reader to a host that is not on the list."""
    assert set(re.findall(r"https?://([^/\s\"')>]+)", read(page))) <= HOSTS


@of_each_page
def test_pages_speak_of_the_project_alone(page: Path):
    """No path of somebody's machine, no numbered ticket, nothing left to be done."""
    text = read(page)
    assert not re.search(r"(?<![\w.…>])/(?:home|root|tmp|work|Users|mnt)/", text)
    assert not re.search(r"\b(?:issue|ticket|PR|bug) ?#\d+", text, re.IGNORECASE)
    assert not re.search(r"\b(?:TODO|FIXME|TBD|XXX)\b", text)


@of_each_page
def test_make_targets_exist(page: Path):
    """Every `make …` that a page names is a target of the Makefile."""
    named = re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", read(page))
    assert set(named) <= _targets_of_make()


@of_each_page
def test_our_commands_and_options_exist(page: Path):
    """Every `mynth-dagster …` to be typed is a command with these options."""
    for command in commands(page):
        words = shlex.split(command)
        if "mynth-dagster" not in words:
            continue
        name, *rest = words[words.index("mynth-dagster") + 1 :]
        assert name in COMMANDS, command
        named = COMMANDS[name]
        if hasattr(named, "commands"):
            named = named.commands[rest[0]]
        known = {option for param in named.params for option in param.opts}
        given = {word for word in rest if word.startswith("--")}
        assert given <= known, command


def test_every_command_has_its_line():
    """On the page of the command line, with its sub-commands."""
    listed = {
        name
        for names, _ in rows(read(DOCS / "command-line.md"), "command")
        for name in code_in(names)
    }
    assert listed == {
        f"{name} {inner}".strip()
        for name, command in COMMANDS.items()
        for inner in getattr(command, "commands", {"": command})
    }


@of_each_page
def test_prose_has_one_sentence_a_line(page: Path):
    """Changes are easy to read: outside tables and lists, a line is one sentence."""
    for line in prose(page).splitlines():
        if line.startswith(("|", "-", "#")) or re.match(r"\d+\. ", line):
            continue
        assert not re.search(r"[a-z)`]\. [A-Z`]", line), f"{name_of(page)}: {line}"


def test_dagsters_word_is_spelled_as_dagster_spells_it():
    """On every page, and in all that the code may show: materialize, with a z."""
    sources = (ROOT / "mynth_dagster").rglob("*.py")
    assert not [name_of(path) for path in (*PAGES, *sources) if "aterialis" in read(path)]


@of_each_page
def test_extras_exist(page: Path):
    """Every extra that a page tells to install is one of the package."""
    named = {
        name
        for names in re.findall(r"'(?:\.|mynth-dagster)\[([^]]+)\]'", read(page))
        for name in names.split(",")
    }
    assert named <= set(PROJECT["optional-dependencies"])


def test_every_page_is_linked_from_another():
    """No page is forgotten."""
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in links(page)
        if "://" not in link
    }
    assert {page for page in PAGES if page.is_relative_to(DOCS)} <= linked


def test_decisions_are_numbered_and_have_their_parts():
    """Each decision has its number in name and title, and says what would prove it wrong."""
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    parts = ["Context", "Decision", "What we give up", "How we would notice it is wrong"]
    for number, page in enumerate(pages, start=1):
        assert page.name.startswith(f"{number:04d}-")
        assert read(page).startswith(f"# {number}. ")
        assert re.findall(r"^## (.+)$", read(page), re.MULTILINE) == parts


def test_guarantees_never_promise_the_impossible():
    """Without a key at the server nobody can promise it, so the words are in no page."""
    assert all("exactly once" not in read(page).lower() for page in PAGES)
