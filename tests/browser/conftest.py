"""Dagster's real UI on a history of the demo's batch, driven by a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from demo.prompts import write_prompts
from demo.services import PROJECT, SCENARIO, Place, simulator
from tests.browser.free_port import free_port

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
START_DEADLINE_S = 180
PAGE_TIMEOUT_MS = 45_000
NIGHTS = (12, 18, 26)
MARGIN_PX = 4
QUICK = {"latency": {"kind": "uniform", "low_s": 0.2, "high_s": 1.2}}


@dataclass
class Ui:
    """A running UI; `page` is a tab of the browser in it."""

    page: Any
    url: str
    nights: list[str]
    mynth_url: str
    tables: Path
    artefacts: Path

    def open(self, path: str, *, shows: str) -> None:
        """Go to a page and wait until a text is shown."""
        self.page.goto(self.url + path)
        self.page.get_by_text(shows).first.wait_for(state="visible")

    def keep(self, name: str, *, of: Any = None) -> None:
        """A screenshot among the artefacts, of the page or of what these elements span."""
        clip = None if of is None else around(of)
        self.page.screenshot(path=self.artefacts / f"{name}.png", clip=clip)

    def n_accepted(self) -> int:
        """Tasks that Mynth was asked for, by its own log."""
        return int(self._totals()["accepted"])

    def charged_usd(self) -> Decimal:
        """What Mynth took for them, by its own log."""
        return Decimal(self._totals()["charged"])

    def _totals(self) -> dict[str, Any]:
        log = f"{self.mynth_url}/_simulator/log?view=summary"
        with urllib.request.urlopen(log, timeout=20) as answer:
            totals: dict[str, Any] = json.load(answer)["totals"]
        return totals

    def ask(self, query: str) -> dict[str, Any]:
        """A query to the UI's own GraphQL."""
        return ask(self.url, query)


def around(elements: Any) -> dict[str, float]:
    """The part of a page that shows all these elements, with some space about them."""
    boxes = [element.bounding_box() for element in elements.all()]
    left, top = min(box["x"] for box in boxes), min(box["y"] for box in boxes)
    right = max(box["x"] + box["width"] for box in boxes)
    bottom = max(box["y"] + box["height"] for box in boxes)
    return {
        "x": left - MARGIN_PX,
        "y": top - MARGIN_PX,
        "width": right - left + 2 * MARGIN_PX,
        "height": bottom - top + 2 * MARGIN_PX,
    }


def ask(url: str, query: str) -> dict[str, Any]:
    """The data of a GraphQL query."""
    request = urllib.request.Request(
        f"{url}/graphql",
        json.dumps({"query": query}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)["data"]
    return found


@contextmanager
def serve(place: Place, base_url: str) -> Iterator[str]:
    """`dagster dev` on the demo's code location; its URL once the location is loaded."""
    port = free_port()
    command = ["-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with place.log("dev").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=PROJECT,
            env=place.environment(base_url),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _is_loaded(url), f"the UI; see {place.log('dev')}")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so."""
    look_again, until_s = threading.Event(), time.monotonic() + START_DEADLINE_S
    while not condition():
        if time.monotonic() > until_s:
            pytest.fail(f"waited in vain for {what}")
        look_again.wait(0.3)


def _run_nights(place: Place, base_url: str) -> list[str]:
    """In a process of its own: playwright keeps a loop running in this one."""
    with place.log("history").open("w") as log:
        told = subprocess.run(
            [sys.executable, "-m", "demo.history", str(place.home), base_url, *map(str, NIGHTS)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
        )
    return told.stdout.split()


def _is_loaded(url: str) -> bool:
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
    try:
        return bool(ask(url, query)["repositoriesOrError"]["nodes"])
    except (OSError, ValueError, KeyError):
        return False


@pytest.fixture
def browser() -> Iterator[Any]:
    """
    A headless Chromium; without one, or without playwright, the test is skipped.

    For one test only: while playwright runs, its event loop is the thread's, and no other test
    could start one.
    """
    api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}; name another one with CHROMIUM")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture
def home() -> Iterator[Path]:
    """Where the demo's things are; the path is to be seen on screenshots."""
    with TemporaryDirectory(prefix="mynth-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def ui(browser: Any, home: Path) -> Iterator[Ui]:
    """Three nights of history, and the UI on it; its Mynth was ended and started in between."""
    place = Place(home / "demo")
    place.make()
    quick = place.home / "scenario.json"
    quick.write_text(json.dumps({**json.loads(SCENARIO.read_text("utf-8")), **QUICK}), "utf-8")
    with simulator(place, quick) as mynth_url:
        nights = _run_nights(place, mynth_url)
    with _shown(browser, place, quick) as shown:
        shown.nights = nights
        yield shown


@pytest.fixture
def empty_ui(browser: Any, home: Path) -> Iterator[Ui]:
    """The UI before the first run, with a table of twenty prompts; tasks finish at once."""
    place = Place(home / "demo")
    place.make()
    write_prompts(place.prompts, 20)
    scenario = place.home / "scenario.json"
    scenario.write_text(json.dumps({"progress": "immediate"}), "utf-8")
    with _shown(browser, place, scenario) as shown:
        yield shown


@contextmanager
def _shown(browser: Any, place: Place, scenario: Path) -> Iterator[Ui]:
    artefacts = Path(os.environ.get("BROWSER_ARTEFACTS", place.home / "artefacts"))
    artefacts.mkdir(parents=True, exist_ok=True)
    with simulator(place, scenario) as mynth_url, serve(place, mynth_url) as url:
        size = {"width": 1440, "height": 900}
        page = browser.new_page(viewport=size, device_scale_factor=2)
        page.set_default_timeout(PAGE_TIMEOUT_MS)
        yield Ui(page, url, [], mynth_url, place.tables, artefacts)
        page.close()
