"""`mynth-dagster run`, `stop` and `resume`: a table of prompts to tables of images."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from mynth_dagster.cli.options import (
    Connection,
    Ledger,
    Root,
    amount,
    batch_name,
    columns,
    drain_on_signals,
    prices,
    takes,
)
from mynth_dagster.cli.output import (
    EXIT_OK,
    EXIT_OPEN,
    EXIT_OTHER,
    PAYS_AGAIN,
    AsJson,
    CommandOutput,
    say,
)
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.plan import DEFAULT_RUN_OPTIONS, Plan, Retry, RunOptions
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.reconcile import Progress
from mynth_dagster.engine.run import RunProgress, RunReport, run_table
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.engine.session import run as run_on_loop
from mynth_dagster.engine.stop import (
    CancelToken,
    StopTarget,
    in_words,
    lift_stops,
    stop_sending,
)
from mynth_dagster.errors import ConfigError
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.limits import CONFIRM_ABOVE_USD, TASK_DEADLINE_S
from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import (
    Delivery,
    Files,
    ImageRequest,
    Prompts,
    Spending,
)
from mynth_dagster.models.money import Receipt, format_usd
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import rows_in_words
from mynth_dagster.tables.source import open_source

# The progress and the result of a run on a terminal.


class _Bars(Bars):
    """Progress bars that read the state of the work whenever they are drawn."""

    look_up: Callable[[], None] = staticmethod(lambda: None)

    def get_renderables(self) -> Iterable[RenderableType]:
        self.look_up()
        yield from super().get_renderables()


class ShownProgress:
    """Bars and short lines on stderr while a run goes on; silent when `quiet`."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._bars = _Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=quiet,
            transient=True,
        )
        self._bar = self._bars.add_task("checking prompts", total=None)
        self._n_waiting = 0
        self._is_sending = False
        self.progress = RunProgress(
            on_phase=self._phase,
            on_prepared=self._prepared,
            on_quote=self._quoted,
            on_round=self._round,
        )
        self._bars.look_up = self._sent

    def __enter__(self) -> ShownProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _phase(self, phase: str) -> None:
        names = {
            "submit": "sending",
            "wait": "waiting",
            "collect": "writing tables",
            "download": "downloading",
        }
        self._is_sending = phase == "submit"
        self._bars.update(self._bar, description=names.get(phase, phase))

    def _sent(self) -> None:
        if self._is_sending:
            counts = self.progress.counts
            self._bars.update(self._bar, completed=counts.n_accepted + counts.n_rejected)

    def _prepared(self, summaries: list[PromptsSummary]) -> None:
        rows = sum(summary.n_rows for summary in summaries)
        rejected = sum(summary.n_rejected for summary in summaries)
        self._say(f"{rows} rows, {rejected} rejected before sending.")
        for note in dict.fromkeys(note for summary in summaries for note in summary.notes):
            self._say(f"  {note}")

    def _quoted(self, plan: Plan, quote: Quote) -> None:
        kind = "exactly" if quote.is_exact else "about"
        price = format_usd(quote.total_units)
        summary = f"{kind} {price}" if quote.total_units is not None else "price unknown"
        self._say(f"{plan.n_to_send} to send, {summary}.")
        for note in quote.notes:
            self._say(f"  {note}")
        self._n_waiting = plan.n_to_send
        self._bars.update(self._bar, total=plan.n_to_send or None)

    def _round(self, waiting: Progress) -> None:
        if self._is_sending:
            return
        self._n_waiting = max(self._n_waiting, waiting.n_pending)
        done = self._n_waiting - waiting.n_pending
        self._bars.update(self._bar, completed=done, total=self._n_waiting or None)

    def _say(self, text: str) -> None:
        if not self._quiet:
            say(self._console, text)


def receipt_line(receipt: Receipt) -> str:
    """Format the money of a table over all its runs in one line."""
    parts = [
        f"reserved {format_usd(receipt.reserved)}",
        f"charged {format_usd(receipt.charged)} for {receipt.n_charged} tasks",
        f"given back {format_usd(receipt.refunded)}",
        f"still held {format_usd(receipt.open)}",
        f"unknown at most {format_usd(receipt.unknown)} in {receipt.n_unknown}",
    ]
    return f"Over all runs: {', '.join(parts)}; {receipt.n_not_charged} requests cost nothing."


def stopped_early(code: str, message: str, next_step: str) -> str:
    """Format why no more was sent, and what to do, in one line."""
    return f"Stopped early ({code}): {message} Next: {next_step}"


def print_report(
    console: Console, report: RunReport, options: RunOptions = DEFAULT_RUN_OPTIONS
) -> None:
    """Print the result of a run in a few lines; ``options`` is what it paid for again."""
    failures = ", ".join(f"{n} {code}" for code, n in report.failures.items()) or "none"
    say(console, f"{rows_in_words(report.rows_by_status)}.")
    summary = f"{report.images} of {report.images_asked} images, {report.images_missing} missing"
    say(console, f"{summary}; failures: {failures}.")
    if report.images_beyond_asked:
        extra = f"{report.images_beyond_asked} images are beyond the number that their rows ask for"
        say(console, f"{extra}: each is paid for, and is in `images`.")
    say(
        console,
        f"{report.accepted} paid requests of {report.posts_sent} sent, {report.requests} requests "
        "in all, "
        f"API revision {report.api_revision}. "
        f"Quoted {format_usd(report.quoted_units)}, charged {format_usd(report.charged_units)}"
        + (f", {report.n_cost_unknown} tasks of unknown cost." if report.n_cost_unknown else "."),
    )
    if report.files is not None:
        n_missing = report.images - report.files
        missing = f", {n_missing} images have none: see `failures`" if n_missing else ""
        say(console, f"{report.files} files kept, {report.file_bytes} bytes{missing}.")
    say(console, receipt_line(report.receipt))
    for name, uris in report.tables.items():
        say(console, f"{name}: {uris[0]}" + (f" and {len(uris) - 1} more" if uris[1:] else ""))
    if report.stopped:
        message = (report.stop_message or "", report.stop_next_step or "")
        say(console, stopped_early(report.stopped, *message))
    if report.unresolved:
        say(
            console,
            f"{report.unresolved} rows are unresolved; they are not sent again by themselves.",
        )
    if report.stalled:
        say(console, f"{report.stalled} rows are past their deadline; run again to collect them.")
    if options.pays_again and report.posts_sent and not report.is_accounted_for:
        say(console, PAYS_AGAIN)


@dataclass(frozen=True, kw_only=True)
class RunArguments(Connection):
    """The options of `mynth-dagster run`."""

    prompts: Annotated[str, typer.Argument(help="Parquet file, folder or pattern; any fsspec URL.")]
    batch: Annotated[str | None, typer.Option(help="Name; by default the table's.")] = None
    partition: Annotated[str, typer.Option(help="Key of this run's partition.")] = ""
    model: Annotated[
        list[str] | None, typer.Option(help="Model id; several: each prompt is sent to each.")
    ] = None
    count: Annotated[int, typer.Option(help="Images per prompt.")] = 1
    size: Annotated[str | None, typer.Option(help="A preset, a ratio, …_4k, or auto.")] = None
    deadline: Annotated[
        float, typer.Option(help="Seconds to wait for a task before it counts as stalled.")
    ] = TASK_DEADLINE_S
    column: Annotated[
        list[str] | None,
        typer.Option(help="ours=theirs, such as prompt=caption_en; count= where it is your own."),
    ] = None
    budget_usd: Annotated[
        str | None, typer.Option(help="The most this batch may cost, over all its runs.")
    ] = None
    price_usd: Annotated[
        list[str] | None, typer.Option(help="model=USD per image, where Mynth gives no price.")
    ] = None
    inputs_root: Annotated[
        str | None, typer.Option(help="Folder of input files; none is read outside of it.")
    ] = None
    files: Annotated[
        bool, typer.Option("--files", help="Keep the files of images too, in the root.")
    ] = False
    files_store: Annotated[
        str | None, typer.Option(help="Keep them under this folder or fsspec URL instead.")
    ] = None
    retries: Annotated[
        int, typer.Option(help="How often a row whose task failed is sent again automatically.")
    ] = 0
    retry: Annotated[
        Retry, typer.Option(help="Finished rows to send again; each is paid for again.")
    ] = Retry.NONE
    force: Annotated[
        bool, typer.Option("--force", help="Ask for every finished row again, delivered or not.")
    ] = False
    prompt_id: Annotated[
        list[str] | None, typer.Option(help="Send only this row; may be given several times.")
    ] = None
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Yes, pay again for rows that were paid before.")
    ] = False
    confirm_above_usd: Annotated[
        str, typer.Option(help="After a change of models or defaults: pay no more again unasked.")
    ] = str(CONFIRM_ABOVE_USD)
    as_json: AsJson = False

    @property
    def of_batch(self) -> Batch:
        """
        The batch.

        Raises:
            ConfigError: An option is wrong.
        """
        keeps_files = self.files or self.files_store
        cap = {"batch": amount("--budget-usd", self.budget_usd)} if self.budget_usd else {}
        return Batch(
            self.batch or batch_name(self.prompts),
            Prompts(columns=columns(self.column or []), inputs_root=self.inputs_root),
            ImageRequest(models=self.model or ["auto"], size=self.size, count=self.count),
            Spending(
                prices_usd=prices(self.price_usd or []),
                confirm_above_usd=amount("--confirm-above-usd", self.confirm_above_usd),
                budget_usd=cap,  # type: ignore[arg-type]
                retries=self.retries,
            ),
            Delivery(
                deadline_s=self.deadline,
                files=Files(store=self.files_store or "") if keeps_files else None,
            ),
            window_dimension="partition",
        )


@takes(RunArguments)
def run(arguments: RunArguments) -> None:
    """
    Make images from a table of prompts. Safe to repeat: only what is missing is sent.

    The API key is read from MYNTH_API_KEY.
    Exit codes: 0 all rows accounted for, 2 wrong input, settings or key, or a confirmation is
    needed (nothing was sent), 3 rows unresolved, stalled or still under way, 1 anything else.
    """
    output = CommandOutput(as_json=arguments.as_json)
    shown = ShownProgress(output.stderr, quiet=arguments.as_json)
    chosen = frozenset(arguments.prompt_id or [])
    options = RunOptions(arguments.retry, arguments.force, chosen, arguments.confirm)
    with output.errors_as_exit_codes(lambda: shown.progress.counts.n_posts, options=options):
        settings, batch = arguments.engine_settings(), arguments.of_batch

        def make(options: RunOptions) -> RunReport:
            with shown:
                return run_on_loop(_run(arguments, settings, batch, options, shown.progress))

        report = output.ask_if_needed(make, options)
    if arguments.as_json:
        output.result(report.to_json())
    else:
        print_report(output.stderr, report, options)
    raise typer.Exit(exit_code(report))


async def _run(
    arguments: RunArguments,
    settings: EngineSettings,
    batch: Batch,
    options: RunOptions,
    progress: RunProgress,
) -> RunReport:
    source = await asyncio.to_thread(open_source, arguments.prompts)
    stop = CancelToken()
    drain_on_signals(stop)
    async with open_session(settings) as session:
        return await run_table(
            session,
            batch,
            source,
            window=arguments.partition,
            stop=stop,
            progress=progress,
            options=options,
            is_same_batch=arguments.batch is not None,
        )


def exit_code(report: RunReport) -> int:
    """Return the exit code of a run."""
    if report.is_accounted_for:
        return EXIT_OK
    is_under_way = report.pending and report.stopped is None
    is_open = report.unresolved or report.stalled or is_under_way
    return EXIT_OPEN if is_open else EXIT_OTHER


# `mynth-dagster stop` and `mynth-dagster resume`: a person's decision that nothing more is sent.


T = TypeVar("T")
BatchName = Annotated[str | None, typer.Option("--batch", help="Name of the batch.")]
PartitionKey = Annotated[
    str | None, typer.Option("--partition", help="Only this partition, as `status` names it.")
]
All = Annotated[bool, typer.Option("--all", help="Every batch of the ledger.")]


def stop(
    root: Root,
    batch: BatchName = None,
    partition: PartitionKey = None,
    everything: All = False,
    reason: Annotated[str, typer.Option(help="Why; shown with the rows that are not sent.")] = "",
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """
    Send nothing more, from any run on any machine, until `mynth-dagster resume`.

    When it returns no further row is claimed. Requests that have left are paid for, and recorded.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        target = _target(batch, partition, everything=everything)

        async def work(opened: OpenLedger) -> None:
            await stop_sending(opened, target, who=_who(), reason=reason, clock=SystemClock())

        _with_ledger(ledger or ledger_url_in(root, must_exist=True), work)
        output.result(
            {"stopped": str(target), "resume_command": target.resume_command},
            f"Stopped: nothing more is sent of {target}. To go on: `{target.resume_command}`.",
        )


def resume(
    root: Root,
    batch: BatchName = None,
    partition: PartitionKey = None,
    everything: All = False,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """
    Lift a stop. The next run, which the sensor starts by itself, sends what was not sent.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        target = _target(batch, partition, everything=everything)

        async def work(opened: OpenLedger) -> tuple[list[str], list[str]]:
            lifted, left = await lift_stops(opened, target, who=_who(), clock=SystemClock())
            return [in_words(stop) for stop in lifted], left

        lifted, left = _with_ledger(ledger or ledger_url_in(root, must_exist=True), work)
        lines = [f"{len(lifted)} stops lifted of {target}."]
        lines += [f"Still stopped: {stop}" for stop in left]
        if lifted and not left:
            lines.append("The next run sends what is left; the completion sensor starts one.")
        output.result({"lifted": lifted, "still_stopped": left}, *lines)


def _target(batch: str | None, partition: str | None, *, everything: bool) -> StopTarget:
    if everything is (batch is not None):
        raise ConfigError("--batch", "name a batch, or give --all")
    if everything and partition is not None:
        raise ConfigError("--partition", "a partition is one of a batch: name that, too")
    return StopTarget(batch or "", partition)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _with_ledger(url: str, work: Callable[[OpenLedger], Awaitable[T]]) -> T:
    async def opened() -> T:
        with closing(OpenLedger.open(url)) as ledger:
            return await work(ledger)

    return asyncio.run(opened())
