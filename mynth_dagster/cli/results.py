"""`mynth-dagster status`, `receipt`, `task` and `inspect`: rows, money, tasks and follow-ups."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mynth_dagster.cli.options import (
    BaseUrl,
    Connection,
    Identity,
    Ledger,
    Revision,
    Root,
    Window,
    amount,
    drain_on_signals,
    engine_settings,
    mapping,
    prices,
    takes,
    written_batch,
)
from mynth_dagster.cli.output import (
    EXIT_OK,
    EXIT_OPEN,
    EXIT_OTHER,
    PAYS_AGAIN,
    AsJson,
    CommandOutput,
    say_json,
)
from mynth_dagster.cli.run import stopped_early
from mynth_dagster.client.client import MynthClient, WaitSettings, wait_for_task
from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.plan import Retry, RunOptions
from mynth_dagster.engine.run import RunProgress, receipt_json, usd
from mynth_dagster.engine.session import (
    REVISION_META,
    EngineSettings,
    find_revision,
    ledger_url_in,
    open_session,
)
from mynth_dagster.engine.session import run as run_on_loop
from mynth_dagster.engine.stop import CancelToken, in_words
from mynth_dagster.errors import ConfigError, RefusedError
from mynth_dagster.followups.follow_ups import FollowUpWork, follow_up_images
from mynth_dagster.followups.tables import FollowUpSummary
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.ledger.queries import Queries, StateCount
from mynth_dagster.limits import TASK_DEADLINE_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.batch_settings import FollowUp, Spending
from mynth_dagster.models.money import (
    NO_MONEY,
    Receipt,
    format_usd,
    usd_from_units,
)
from mynth_dagster.models.request import RatingLevel
from mynth_dagster.models.task import Task
from mynth_dagster.printable import printable
from mynth_dagster.tables.store import IMAGES, TableStore
from mynth_dagster.wire import AUTO_REVISION, profile_of


def status(
    root: Root,
    ledger: Ledger = None,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show, by batch and partition, what was sent, what came back and what it cost."""
    output = CommandOutput(as_json=as_json)
    with (
        output.errors_as_exit_codes(),
        closing(OpenLedger.open(ledger or ledger_url_in(root, must_exist=True))) as opened,
    ):
        known = _known(opened.read, batch)
        revisions = opened.read.facts(REVISION_META)
        waited_for = _waited_for(opened)
        stops = [in_words(stop) for stop in opened.stops.active()]
        ledger_id = opened.ledger_id
    document = {
        "ledger_id": ledger_id,
        "api_revisions": revisions,
        "awaited_at": waited_for,
        "stops": stops,
        "batches": _as_json(known),
    }
    spoke = "spoke API revision"
    output.result(
        document,
        f"Ledger {ledger_id}",
        *(f"{url} {spoke} {revision} at the last request" for url, revision in revisions.items()),
        *(
            f"{n} tasks were made at {url}: a session there collects them"
            for url, n in waited_for.items()
        ),
        *(f"Stopped: {stop}" for stop in stops),
        _as_table(known),
    )


def _waited_for(ledger: OpenLedger) -> dict[str, int]:
    """Count the tasks to be collected at each base URL, if there are several."""
    url_of = {account.number: account.base_url for account in ledger.read.accounts()}
    if len(set(url_of.values())) < 2:
        return {}
    n_at: dict[str, int] = {}
    for account, n in ledger.read.n_awaited().items():
        n_at[url_of[account]] = n_at.get(url_of[account], 0) + n
    return n_at


def _known(reader: Queries, batch: str | None) -> dict[str, list[StateCount]]:
    names = reader.batches() if batch is None else [reader.require_batch(batch)]
    return {name: reader.counts(name) for name in names}


def _as_table(known: dict[str, list[StateCount]]) -> Table:
    table = Table("batch", "partition", "state", "rows", "reserved", "charged")
    for name, counts in known.items():
        for count in counts:
            key = Slice(count.window, count.fan_out).key
            money = (format_usd(count.reserved_units), format_usd(count.charged_units))
            cells = (name, key, _state(count), str(count.n_intents), *money)
            table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _as_json(known: dict[str, list[StateCount]]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {
                "window": count.window,
                "fan_out": count.fan_out,
                "state": _state(count),
                "rows": count.n_intents,
                "reserved_usd": f"{usd_from_units(count.reserved_units):f}",
                "charged_usd": f"{usd_from_units(count.charged_units):f}",
            }
            for count in counts
        ]
        for name, counts in known.items()
    }


def _state(count: StateCount) -> str:
    is_unread = count.finished_remotely and count.state.value == "accepted"
    return "accepted (finished, not read)" if is_unread else count.state.value


# `mynth-dagster receipt`: what each batch has cost, and what it may yet cost.


def receipt(
    root: Root,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    ledger: Ledger = None,
    dedicated_key: Annotated[
        bool,
        typer.Option(
            "--dedicated-key",
            help="Nobody else spends from this account: compare what Mynth holds with the ledger.",
        ),
    ] = False,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    as_json: AsJson = False,
) -> None:
    """
    Show what was quoted, reserved, charged, given back, is still held, and is not known.

    With --dedicated-key the API key is read from MYNTH_API_KEY, and the balance with it.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        url = ledger or ledger_url_in(root, must_exist=True)
        receipts, comparison = _receipts(url, batch), None
        if dedicated_key:
            settings = engine_settings(root, url, base_url, api_revision, 1)
            all_batches = sum(_receipts(url, None).values(), NO_MONEY)
            comparison = asyncio.run(_compare(settings, all_batches))
            output.note(comparison)
        output.result(
            {
                "batches": {name: receipt_json(found) for name, found in receipts.items()},
                "comparison": comparison,
            },
            *(line for name, found in receipts.items() for line in _in_lines(name, found)),
        )


def _receipts(url: str, batch: str | None) -> dict[str, Receipt]:
    with closing(OpenLedger.open(url)) as opened:
        names = opened.read.batches() if batch is None else [opened.read.require_batch(batch)]
        return {name: opened.read.receipt(name) for name in names}


def _in_lines(name: str, found: Receipt) -> list[str]:
    """Format one batch: an amount a line, with its meaning."""
    amounts = [
        ("quoted", found.quoted, "expected of the requests that were sent"),
        ("reserved", found.reserved, "held by Mynth for the tasks it accepted"),
        ("charged", found.charged, f"for {found.n_charged} tasks"),
        ("refunded", found.refunded, "reserved for what cost less, or nothing"),
        ("open", found.open, "held for tasks that are not finished"),
        ("unknown", found.unknown, f"at most, in {found.n_unknown} requests of unknown outcome"),
    ]
    lines = [
        f"{label:>10}  {format_usd(units):>12}  {message}" for label, units, message in amounts
    ]
    unpriced = f", {found.n_unpriced} were sent without a known price" if found.n_unpriced else ""
    return [name, *lines, f"{found.n_not_charged} requests cost nothing{unpriced}."]


async def _compare(settings: EngineSettings, ours: Receipt) -> str:
    """Compare what Mynth holds with what the ledger explains."""
    async with open_session(settings) as session:
        if not session.client.profile.HAS_ACCOUNT:
            return f"Revision {session.client.profile.REVISION} does not tell the balance."
        await session.account.number()
        try:
            balance = await session.client.get_balance()
        except RefusedError as error:
            # A key that may not read the balance may still send.
            return f"The balance is not shown to this key ({error.reason}): nothing to compare."
    held, explained = balance.reserved_units, ours.open
    message = (
        f"Mynth holds {format_usd(held)}; open tasks of the ledger explain {format_usd(explained)}"
    )
    if held <= explained:
        return f"{message}."
    rest = held - explained
    return (
        f"{message}, {format_usd(rest)} is not explained. At most {format_usd(ours.unknown)} of it "
        "may be rows in doubt: see `mynth-dagster resolve`."
    )


# `mynth-dagster task`: wait for one task, with its public access token or the key.


TOKEN_VARIABLE = "MYNTH_PUBLIC_ACCESS_TOKEN"  # noqa: S105 - a name, no token


def task(
    task_id: Annotated[str, typer.Argument(help="Mynth's id, tsk_….")],
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for it.")] = TASK_DEADLINE_S,
    as_json: AsJson = False,
) -> None:
    """
    Wait for one task and print its images, always as JSON. Spends nothing, and needs no ledger.

    A public access token is read from MYNTH_PUBLIC_ACCESS_TOKEN, the API key from MYNTH_API_KEY;
    where both are given and the token is refused, the key is used.
    """
    with CommandOutput(as_json=as_json).errors_as_exit_codes():
        token, key = os.environ.get(TOKEN_VARIABLE), os.environ.get("MYNTH_API_KEY")
        if not token and not key:
            reason = "neither it nor MYNTH_API_KEY is set in the environment"
            raise ConfigError(TOKEN_VARIABLE, reason)
        settings = ClientSettings(base_url=base_url, api_key=key or None, concurrency=1)
        found = asyncio.run(_wait(settings, api_revision, task_id, token or None, timeout))
    say_json(_task_in_json(found))


async def _wait(
    settings: ClientSettings, revision: str, task_id: str, token: str | None, timeout_s: float
) -> Task:
    clock = SystemClock()
    if revision == AUTO_REVISION:
        revision = await find_revision(settings)
    client = MynthClient(settings, profile_of(revision), clock)
    try:
        wait = WaitSettings(timeout_s=timeout_s)
        return await wait_for_task(client, task_id, clock, token=token, settings=wait)
    finally:
        await client.aclose()


def _task_in_json(found: Task) -> dict[str, Any]:
    return {
        "task_id": found.task_id,
        "status": found.status.value,
        "images": [
            {
                "index": image.index,
                "url": image.url,
                "width": image.width,
                "height": image.height,
                "error": image.fault.code if image.fault else None,
            }
            for image in found.images
        ],
    }


# `mynth-dagster follow-up`: have the images of a batch rated, described or reviewed.


@dataclass(frozen=True, kw_only=True)
class FollowUpArguments(Connection):
    """The options of `mynth-dagster follow-up`."""

    table: Annotated[str, typer.Argument(help="ratings, alt_texts or reviews.")]
    batch: Annotated[str, typer.Option(help="Name of the batch.")]
    partition: Annotated[str, typer.Option(help="Key of the partition.")] = ""
    level: Annotated[
        list[str] | None, typer.Option(help="value=description of an own level of ratings.")
    ] = None
    effort: Annotated[str | None, typer.Option(help="Of reviews: low or high.")] = None
    window: Window = None
    identity: Identity = None
    retries: Annotated[
        int, typer.Option(help="How often a failed follow-up is asked for again by itself.")
    ] = 0
    retry: Annotated[
        Retry, typer.Option(help="Finished follow-ups to ask for again; each is paid for anew.")
    ] = Retry.NONE
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Yes, pay again for a large part of the images.")
    ] = False
    budget_usd: Annotated[
        str | None, typer.Option(help="The most that it may cost, over all runs; needs prices.")
    ] = None
    price_usd: Annotated[
        list[str] | None, typer.Option(help="image.rate=USD, image.alt=USD or image.review=USD.")
    ] = None
    as_json: AsJson = False

    @property
    def work(self) -> FollowUpWork:
        """
        What is asked about the images of the batch.

        Raises:
            ConfigError: An option is wrong.
            TableError: The windows of the batch have several names.
        """
        levels = mapping("--level", self.level or [], "value=description")
        cap = {"batch": amount("--budget-usd", self.budget_usd)} if self.budget_usd else {}
        fields: dict[str, Any] = {
            "table": self.table,
            "levels": [RatingLevel(value, description) for value, description in levels.items()],
            "effort": self.effort,
            "budget_usd": cap,
            "retries": self.retries,
        }
        follow_up = FollowUp(**fields)
        images = written_batch(
            self.root,
            self.batch,
            IMAGES,
            window=self.window,
            identity=self.identity,
            spending=Spending(prices_usd=prices(self.price_usd or [])),
        )
        return FollowUpWork(images, follow_up)


@takes(FollowUpArguments)
def follow_up(arguments: FollowUpArguments) -> None:
    """
    Ask Mynth about each image of a batch: one paid task each, nothing asked twice.

    Prints its summary as JSON, with or without --json.

    The API key is read from MYNTH_API_KEY.
    Exit codes: 0 every image has an answer, 2 wrong input, settings or key, 3 some have none,
    1 anything else.
    """
    output, progress = CommandOutput(as_json=arguments.as_json), RunProgress()
    progress.on_quote = lambda plan, quote: output.note(
        f"{plan.n_to_send} images to ask about, {format_usd(quote.total_units)}"
    )
    options = RunOptions(arguments.retry, confirm=arguments.confirm)
    with output.errors_as_exit_codes(lambda: progress.counts.n_posts, options=options):
        settings, work, partition = arguments.engine_settings(), arguments.work, arguments.partition
        stop = CancelToken()

        def run(options: RunOptions) -> list[FollowUpSummary]:
            return run_on_loop(_follow_up(settings, work, partition, options, stop, progress))

        summaries = output.ask_if_needed(run, options)
    say_json(_summaries_in_json(summaries, stop))
    n_open = sum(summary.n_images - summary.n_answered for summary in summaries)
    if stop.reason:
        reason = stop.reason
        output.note(stopped_early(reason.code, reason.message, reason.next_step))
        if options.pays_again and progress.counts.n_posts:
            output.note(PAYS_AGAIN)
        raise typer.Exit(EXIT_OTHER)
    raise typer.Exit(EXIT_OPEN if n_open else EXIT_OK)


async def _follow_up(
    settings: EngineSettings,
    work: FollowUpWork,
    window: str,
    options: RunOptions,
    stop: CancelToken,
    progress: RunProgress,
) -> list[FollowUpSummary]:
    drain_on_signals(stop)
    store = TableStore(settings.root, work.batch.name)
    found = await asyncio.to_thread(store.slices, IMAGES, work.batch)
    slices = [slice_ for slice_ in found if slice_.window == window]
    if not slices:
        raise ConfigError("--partition", f"{work.batch.name} has no images under {window!r}")
    async with open_session(settings) as session:
        summaries = follow_up_images(
            session,
            work,
            slices,
            submitter="command line",
            stop=stop,
            progress=progress,
            options=options,
        )
        return [summary async for summary in summaries]


def _summaries_in_json(summaries: Sequence[FollowUpSummary], stop: CancelToken) -> dict[str, Any]:
    return {
        "images": sum(summary.n_images for summary in summaries),
        "answered": sum(summary.n_answered for summary in summaries),
        "charged_usd": usd(sum(summary.charged_units for summary in summaries)),
        "tables": [summary.uri for summary in summaries],
        "stopped": stop.reason.code if stop.reason else None,
        "stop_message": stop.reason.message if stop.reason else None,
        "stop_next_step": stop.reason.next_step if stop.reason else None,
    }
