"""What a person sees: lineage, pictures, plots and checks, and a retry from the launchpad."""

from __future__ import annotations

from io import BytesIO
from urllib.parse import quote

import pyarrow.dataset as ds
import pytest
from PIL import Image

from tests.browser.conftest import wait_until

ASSETS = ("prompts", "tasks", "images", "failures", "files")
LINEAGE = "/locations/__repository__@mynth/asset-groups/packaging/lineage"
LOADED = "pictures => pictures.map(p => [p.complete, p.naturalWidth, p.naturalHeight])"


def _partition(ui, table: str) -> str:
    key = quote(f"{ui.nights[-1]}|000", safe="")
    return f"/assets/packaging/{table}?view=partitions&partition={key}"


def lineage_shows_the_assets_in_order(ui):
    """From left to right: prompts, tasks, then images beside failures, and files behind images."""
    ui.open(LINEAGE, shows="prompts")
    names = {asset: ui.page.get_by_text(asset, exact=True).first for asset in ASSETS}
    for name in names.values():
        name.wait_for(state="visible")

    left = {asset: name.bounding_box()["x"] for asset, name in names.items()}
    assert left["prompts"] < left["tasks"] < left["images"] < left["files"]
    assert abs(left["images"] - left["failures"]) < 50


def check_badges_are_on_the_lineage(ui):
    """The blocking check passed; the bad prompts of the demo are a warning."""
    ui.open(LINEAGE, shows="2 / 2 Passed")
    ui.page.get_by_text("Loading...").first.wait_for(state="hidden")

    assert ui.page.get_by_text("0 / 1 Passed").count() == 1
    ui.keep("lineage", of=ui.page.locator("foreignObject"))


def strip_of_thumbnails_is_shown_in_the_page(ui):
    """The preview of a partition is a loaded picture, without a click and without a request."""
    ui.open(_partition(ui, "images"), shows="mynth/preview")
    strip = ui.page.locator("img[alt^='the first 4 of']")
    strip.first.wait_for(state="visible")

    ((complete, width, height),) = strip.evaluate_all(LOADED)
    assert complete
    assert width > 2 * height > 0
    ui.keep("partition")


def gallery_pictures_are_really_loaded(ui):
    """Behind the entry is a table of thumbnails, each a picture and a link to the full image."""
    ui.open(_partition(ui, "images"), shows="mynth/gallery")
    ui.page.get_by_text("[Show Markdown]").first.click()
    pictures = ui.page.locator("a > img[src^='data:image/webp']")
    pictures.first.wait_for(state="visible")

    found = pictures.evaluate_all(LOADED)
    assert len(found) >= 6
    assert all(complete and width > 0 for complete, width, _ in found)
    link = pictures.first.locator("..").get_attribute("href")
    assert link.startswith(f"{ui.mynth_url}/cdn/")
    full = ui.page.request.get(link)
    assert (full.status, full.headers["content-type"]) == (200, "image/webp")
    with Image.open(BytesIO(full.body())) as picture:
        assert picture.size == (1536, 1024)
    first_rows = ui.page.locator("table:has(a > img)").locator("th, tr:nth-child(-n+4) td")
    ui.keep("gallery", of=first_rows)


def failures_are_told_by_code(ui):
    """The failures of a partition are a table with next steps, in the page."""
    ui.open(_partition(ui, "failures"), shows="mynth/failures_by_code")

    ui.page.get_by_text("next step").first.wait_for(state="visible")
    ui.keep("failures")


def prompts_tell_the_quote(ui):
    """Rows, rejected rows and what sending would have cost, as told before it was sent."""
    ui.open(_partition(ui, "prompts"), shows="mynth/quoted_usd")

    ui.page.get_by_text("mynth/rejected", exact=True).first.wait_for(state="visible")
    ui.keep("prompts")


def tasks_tell_the_money(ui):
    """What was sent, what is in flight, and what is held for it."""
    ui.open(_partition(ui, "tasks"), shows="mynth/reserved_usd")
    ui.keep("tasks")


def figures_plot_with_points(ui):
    """Images, failure rate, cost and duration are curves over the nights."""
    ui.open("/assets/packaging/images?view=overview", shows="mynth/preview")
    ui.page.get_by_role("button", name="Plots").click()
    for figure in ("mynth/images_asked", "mynth/cost_per_image_usd", "mynth/median_task_s"):
        ui.page.get_by_text(figure, exact=True).first.wait_for(state="visible")
    plots = ui.page.locator("canvas")
    plots.first.wait_for(state="visible")
    plots.first.scroll_into_view_if_needed()

    painted = plots.evaluate_all(
        """plots => plots.map(plot => {
            const pixels = plot.getContext('2d').getImageData(0, 0, plot.width, plot.height).data;
            const colours = new Set();
            for (let i = 0; i < pixels.length; i += 4)
                if (pixels[i + 3] > 200 && pixels[i + 2] > pixels[i] + 60) colours.add(i);
            return colours.size;
        })"""
    )
    assert len(painted) >= 5
    assert min(painted) > 20
    ui.keep("plots")


def retry_is_launched_from_the_launchpad(ui):
    """With a partition chosen the job has its configuration ready; one click pays for failures."""
    paid = ui.n_accepted()
    ui.open("/locations/__repository__@mynth/jobs/packaging_retry/playground", shows="Launch Run")
    partition = _partition_with_a_retryable_row(ui)
    ui.page.get_by_placeholder("Partition").click()
    ui.page.keyboard.type(partition)
    ui.page.get_by_role("menuitem", name=partition).first.wait_for(state="visible")
    ui.page.keyboard.press("Enter")
    editor = ui.page.locator(".CodeMirror").first
    wait_until(lambda: "'retryable'" in editor.inner_text(), "the job's configuration")
    ui.keep("launchpad")
    ui.page.get_by_text("Launch Run").click()

    wait_until(lambda: _status_of_retry(ui) in ("SUCCESS", "FAILURE"), "the run to end")
    assert _status_of_retry(ui) == "SUCCESS"
    assert paid < ui.n_accepted() <= paid + 2


def _partition_with_a_retryable_row(ui) -> str:
    failures = ds.dataset(ui.tables / "packaging" / "failures", partitioning="hive").to_table()
    shards = {
        row["fan_out"]
        for row in failures.to_pylist()
        if row["error_code"] == "generation_failed" and str(row["date"]) == ui.nights[-1]
    }
    return f"{ui.nights[-1]}|{min(shards):03d}"


def _status_of_retry(ui) -> str | None:
    query = "{ runsOrError { ... on Runs { results { jobName status } } } }"
    runs = ui.ask(query)["runsOrError"]["results"]
    return next((run["status"] for run in runs if run["jobName"] == "packaging_retry"), None)


STEPS = (
    lineage_shows_the_assets_in_order,
    check_badges_are_on_the_lineage,
    strip_of_thumbnails_is_shown_in_the_page,
    gallery_pictures_are_really_loaded,
    failures_are_told_by_code,
    prompts_tell_the_quote,
    tasks_tell_the_money,
    figures_plot_with_points,
    retry_is_launched_from_the_launchpad,
)


@pytest.mark.timeout(420)
def test_a_person_sees_and_runs_a_batch(ui):
    """One UI, started once, is looked at from lineage to launchpad."""
    for step in STEPS:
        step(ui)
