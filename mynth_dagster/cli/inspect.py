"""`mynth-dagster inspect`: have the images of a batch rated, described or reviewed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from mynth_dagster.cli.failing import (
    EXIT_OPEN,
    EXIT_OTHER,
    PAYS_AGAIN,
    ask_if_needed,
    errors_as_exit_codes,
    say,
    say_json,
)
from mynth_dagster.cli.options import (
    BaseUrl,
    Identity,
    Ledger,
    Revision,
    Root,
    Window,
    engine_settings,
    mapping,
    prices,
    written_batch,
)
from mynth_dagster.cli.progress import stopped_early
from mynth_dagster.cli.stopping import drain_on_signals
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.inspect import InspectionProgress, inspect_images
from mynth_dagster.engine.plan import Asking, Retry
from mynth_dagster.engine.run import usd
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.session import run as run_on_loop
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import CONCURRENCY_DEFAULT
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.money import budget_from_usd, format_usd
from mynth_dagster.models.request import KINDS_BY_TABLE, InspectionSettings, RatingLevel
from mynth_dagster.tables.inspection_tables import InspectionSummary
from mynth_dagster.tables.store import IMAGES, TableStore
from mynth_dagster.wire import AUTO_REVISION


def inspect(
    table: Annotated[str, typer.Argument(help="ratings, alt_texts or reviews.")],
    root: Root,
    batch: Annotated[str, typer.Option(help="Name of the batch.")],
    partition: Annotated[str, typer.Option(help="Key of the partition.")] = "",
    level: Annotated[
        list[str] | None, typer.Option(help="value=description of an own level of ratings.")
    ] = None,
    effort: Annotated[str | None, typer.Option(help="Of reviews: low or high.")] = None,
    window: Window = None,
    identity: Identity = None,
    retries: Annotated[
        int, typer.Option(help="How often a failed look is asked for again by itself.")
    ] = 0,
    retry: Annotated[
        Retry, typer.Option(help="Finished looks to ask for again; each is paid for anew.")
    ] = Retry.NONE,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Yes, pay again for a large part of the images.")
    ] = False,
    budget_usd: Annotated[
        str | None, typer.Option(help="The most that it may cost, over all runs; needs prices.")
    ] = None,
    price_usd: Annotated[
        list[str] | None, typer.Option(help="image.rate=USD, image.alt=USD or image.review=USD.")
    ] = None,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = CONCURRENCY_DEFAULT,
) -> None:
    """
    Ask Mynth about each image of a batch: one paid task each, nothing asked twice.

    The API key is read from MYNTH_API_KEY.
    Exit codes: 0 every image has an answer, 2 wrong input, settings or key, 3 some have none,
    1 anything else.
    """
    console, progress = Console(stderr=True), InspectionProgress()
    progress.on_quote = lambda surveyed, quote: say(
        console, f"{surveyed.n_to_send} images to ask about, {format_usd(quote.total_units)}"
    )
    asking = Asking(retry, confirm=confirm)
    with errors_as_exit_codes(console, lambda: progress.counts.n_posts, asking=asking):
        key = os.environ.get("MYNTH_API_KEY")
        settings = engine_settings(root, ledger, base_url, api_revision, key, concurrency)
        asked = _asked(table, level or [], effort)
        told = prices(price_usd or [])
        images = written_batch(
            root, batch, IMAGES, window=window, identity=identity, prices_usd=told
        )
        budget = budget_from_usd({"batch": budget_usd} if budget_usd else {})
        looking = images.inspecting(asked, budget=budget, retries=retries)
        stop = StopSwitch()

        def look(asking: Asking) -> list[InspectionSummary]:
            return run_on_loop(_inspect(settings, looking, partition, asking, stop, progress))

        summaries = ask_if_needed(console, look, asking)
    say_json(_in_json(summaries, stop))
    n_open = sum(summary.n_images - summary.n_answered for summary in summaries)
    if stop.reason:
        reason = stop.reason
        say(console, stopped_early(reason.code, reason.message, reason.next_step))
        if asking.pays_again and progress.counts.n_posts:
            say(console, PAYS_AGAIN)
        raise typer.Exit(EXIT_OTHER)
    raise typer.Exit(EXIT_OPEN if n_open else 0)


def _asked(table: str, levels: list[str], effort: str | None) -> InspectionSettings:
    if table not in KINDS_BY_TABLE:
        raise ConfigError("TABLE", f"{table!r} is none of {', '.join(KINDS_BY_TABLE)}")
    scale = mapping("--level", levels, "value=description")
    own = tuple(RatingLevel(value, description) for value, description in scale.items())
    return InspectionSettings(KINDS_BY_TABLE[table], own, effort)


async def _inspect(
    settings: EngineSettings,
    batch: Batch,
    window: str,
    asking: Asking,
    stop: StopSwitch,
    progress: InspectionProgress,
) -> list[InspectionSummary]:
    drain_on_signals(stop)
    store = TableStore(settings.root, batch.name)
    found = await asyncio.to_thread(store.slices, IMAGES, batch)
    slices = [slice_ for slice_ in found if slice_.window == window]
    if not slices:
        raise ConfigError("--partition", f"{batch.name} has no images under {window!r}")
    async with open_session(settings) as session:
        looks = inspect_images(
            session,
            batch,
            slices,
            submitter="command line",
            stop=stop,
            progress=progress,
            asking=asking,
        )
        return [summary async for summary in looks]


def _in_json(summaries: Sequence[InspectionSummary], stop: StopSwitch) -> dict[str, Any]:
    return {
        "images": sum(summary.n_images for summary in summaries),
        "answered": sum(summary.n_answered for summary in summaries),
        "charged_usd": usd(sum(summary.charged_units for summary in summaries)),
        "tables": [summary.uri for summary in summaries],
        "stopped": stop.reason.code if stop.reason else None,
        "stop_message": stop.reason.message if stop.reason else None,
        "stop_next_step": stop.reason.next_step if stop.reason else None,
    }
