"""`mynth-dagster run`: one table of prompts into tables of images, without Dagster."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer
from rich.console import Console

from mynth_dagster.cli.failing import (
    EXIT_OK,
    EXIT_OPEN,
    EXIT_OTHER,
    ask_if_needed,
    errors_as_exit_codes,
    say_json,
)
from mynth_dagster.cli.options import (
    BaseUrl,
    Ledger,
    Revision,
    Root,
    amount,
    batch_name,
    columns,
    engine_settings,
    prices,
)
from mynth_dagster.cli.progress import ShownProgress, print_report
from mynth_dagster.cli.stopping import drain_on_signals
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.engine.plan import Asking, Retry
from mynth_dagster.engine.run import Progress, RunReport, run_table
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.session import run as run_on_loop
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.limits import CONCURRENCY_DEFAULT, CONFIRM_ABOVE_USD, TASK_DEADLINE_S
from mynth_dagster.models.batch import Batch, FileSettings, RequestDefaults
from mynth_dagster.models.money import budget_from_usd
from mynth_dagster.tables.source import open_source
from mynth_dagster.wire import AUTO_REVISION


def run(
    prompts: Annotated[
        str, typer.Argument(help="Parquet file, folder or pattern; any fsspec URL.")
    ],
    root: Root,
    batch: Annotated[str | None, typer.Option(help="Name; by default the table's.")] = None,
    partition: Annotated[str, typer.Option(help="Key of this run's partition.")] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="Model id; several: each prompt is asked of each.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images per prompt.")] = 1,
    size: Annotated[str | None, typer.Option(help="A preset, a ratio, …_4k, or auto.")] = None,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = CONCURRENCY_DEFAULT,
    deadline: Annotated[
        float, typer.Option(help="Seconds to wait for a task before it counts as stalled.")
    ] = TASK_DEADLINE_S,
    column: Annotated[
        list[str] | None,
        typer.Option(help="ours=theirs, such as prompt=caption_en; count= where it is your own."),
    ] = None,
    budget_usd: Annotated[
        str | None, typer.Option(help="The most this batch may cost, over all its runs.")
    ] = None,
    price_usd: Annotated[
        list[str] | None, typer.Option(help="model=USD per image, where Mynth tells no price.")
    ] = None,
    inputs_root: Annotated[
        str | None, typer.Option(help="Folder of input files; none is read outside of it.")
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="Keep the files of images too, in the root.")
    ] = False,
    files_store: Annotated[
        str | None, typer.Option(help="Keep them under this folder or fsspec URL instead.")
    ] = None,
    retries: Annotated[
        int, typer.Option(help="How often a row whose task failed is asked for again by itself.")
    ] = 0,
    retry: Annotated[
        Retry, typer.Option(help="Finished rows to ask for again; each is paid for anew.")
    ] = Retry.NONE,
    force: Annotated[
        bool, typer.Option("--force", help="Ask for every finished row again, delivered or not.")
    ] = False,
    prompt_id: Annotated[
        list[str] | None, typer.Option(help="Send only this row; may be given several times.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Yes, pay again for rows that were paid before.")
    ] = False,
    confirm_above_usd: Annotated[
        str, typer.Option(help="After a change of models or defaults: pay no more again unasked.")
    ] = str(CONFIRM_ABOVE_USD),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """
    Make images from a table of prompts. Safe to repeat: only what is missing is sent.

    The API key is read from MYNTH_API_KEY.
    Exit codes: 0 all rows accounted for, 2 wrong input, settings or key, or a confirmation is
    needed (nothing was sent), 3 rows unresolved, stalled or still under way, 1 anything else.
    """
    console = Console(stderr=True)
    shown = ShownProgress(console, quiet=as_json)
    asking = Asking(retry, force, frozenset(prompt_id or []), confirm)
    with errors_as_exit_codes(console, lambda: shown.progress.counts.n_posts, asking=asking):
        settings = engine_settings(
            root, ledger, base_url, api_revision, os.environ.get("MYNTH_API_KEY"), concurrency
        )
        wanted = Batch(
            name=batch or batch_name(prompts),
            models=tuple(model or ["auto"]),
            columns=columns(column or []),
            defaults=RequestDefaults(size=size, count=count),
            deadline_s=deadline,
            window_dimension="partition",
            retries=retries,
            files=FileSettings(files_store or "") if files or files_store else None,
            inputs_root=inputs_root,
            prices_usd=prices(price_usd or []),
            confirm_above_usd=amount("--confirm-above-usd", confirm_above_usd),
            budget=budget_from_usd({"batch": budget_usd} if budget_usd else {}),
        )

        def make(asking: Asking) -> RunReport:
            with shown:
                work = _run(
                    settings,
                    wanted,
                    prompts,
                    partition,
                    asking,
                    shown.progress,
                    is_same_batch=batch is not None,
                )
                return run_on_loop(work)

        report = ask_if_needed(console, make, asking)
    if as_json:
        say_json(report.to_json())
    else:
        print_report(console, report, asking)
    raise typer.Exit(exit_code(report))


async def _run(
    settings: EngineSettings,
    batch: Batch,
    prompts: str,
    window: str,
    asking: Asking,
    progress: Progress,
    *,
    is_same_batch: bool,
) -> RunReport:
    source = await asyncio.to_thread(open_source, prompts)
    stop = StopSwitch()
    drain_on_signals(stop)
    async with open_session(settings) as session:
        return await run_table(
            session,
            batch,
            source,
            window=window,
            stop=stop,
            progress=progress,
            asking=asking,
            is_same_batch=is_same_batch,
        )


def exit_code(report: RunReport) -> int:
    """What the shell learns."""
    if report.is_accounted_for:
        return EXIT_OK
    is_under_way = report.pending and report.stopped is None
    is_open = report.unresolved or report.stalled or is_under_way
    return EXIT_OPEN if is_open else EXIT_OTHER
