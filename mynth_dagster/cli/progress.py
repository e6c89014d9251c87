"""What a run looks like on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from mynth_dagster.cli.failing import PAYS_AGAIN, say
from mynth_dagster.engine.plan import NOTHING_SPECIAL, Asking, Survey
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.reconcile import Waiting
from mynth_dagster.engine.run import Progress, RunReport
from mynth_dagster.models.money import Receipt, format_usd
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import rows_in_words


class _Bars(Bars):
    """Bars that look up how far the work is whenever they are drawn."""

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
        self.progress = Progress(
            on_phase=self._phase,
            on_prepared=self._prepared,
            on_quote=self._quoted,
            on_round=self._round,
        )
        self._bars.look_up = self._sent

    def __enter__(self) -> ShownProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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

    def _quoted(self, survey: Survey, quote: Quote) -> None:
        kind = "exactly" if quote.is_exact else "about"
        price = format_usd(quote.total_units)
        told = f"{kind} {price}" if quote.total_units is not None else "price unknown"
        self._say(f"{survey.n_to_send} to send, {told}.")
        for note in quote.notes:
            self._say(f"  {note}")
        self._n_waiting = survey.n_to_send
        self._bars.update(self._bar, total=survey.n_to_send or None)

    def _round(self, waiting: Waiting) -> None:
        if self._is_sending:
            return
        self._n_waiting = max(self._n_waiting, waiting.n_pending)
        done = self._n_waiting - waiting.n_pending
        self._bars.update(self._bar, completed=done, total=self._n_waiting or None)

    def _say(self, text: str) -> None:
        if not self._quiet:
            say(self._console, text)


def receipt_line(receipt: Receipt) -> str:
    """The money of a table over all its runs, in one line."""
    parts = [
        f"reserved {format_usd(receipt.reserved)}",
        f"charged {format_usd(receipt.charged)} for {receipt.n_charged} tasks",
        f"given back {format_usd(receipt.refunded)}",
        f"still held {format_usd(receipt.open)}",
        f"unknown at most {format_usd(receipt.unknown)} in {receipt.n_unknown}",
    ]
    return f"Over all runs: {', '.join(parts)}; {receipt.n_not_charged} requests cost nothing."


def stopped_early(code: str, message: str, next_step: str) -> str:
    """Why no more was sent, and what to do, in one line."""
    return f"Stopped early ({code}): {message} Next: {next_step}"


def print_report(console: Console, report: RunReport, asking: Asking = NOTHING_SPECIAL) -> None:
    """The end of a run in a few lines; ``asking`` is what it was to ask for again."""
    failures = ", ".join(f"{n} {code}" for code, n in report.failures.items()) or "none"
    say(console, f"{rows_in_words(report.rows_by_status)}.")
    told = f"{report.images} of {report.images_asked} images, {report.images_missing} missing"
    say(console, f"{told}; failures: {failures}.")
    if report.images_beyond_asked:
        extra = f"{report.images_beyond_asked} images are more than their rows asked for"
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
        said = (report.stop_message or "", report.stop_next_step or "")
        say(console, stopped_early(report.stopped, *said))
    if report.unresolved:
        say(
            console,
            f"{report.unresolved} rows are unresolved; they are not sent again by themselves.",
        )
    if report.stalled:
        say(console, f"{report.stalled} rows are past their deadline; run again to collect them.")
    if asking.pays_again and report.posts_sent and not report.is_accounted_for:
        say(console, PAYS_AGAIN)
