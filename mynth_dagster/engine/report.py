"""All that a run learned, as one value; everything that shows figures shows these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mynth_dagster.engine.download import FilesReport
from mynth_dagster.engine.pipeline import SubmitReport
from mynth_dagster.engine.quote import Quote, total_of
from mynth_dagster.models.money import NO_MONEY, Receipt, usd_from_units
from mynth_dagster.tables.results import ResultsSummary


@dataclass(frozen=True)
class RunReport:
    """
    What a table came to. Money in units of 10⁻⁸ USD.

    Args:
        rows: Request rows (prompts × models), rejected ones included.
        images_asked: Images asked for by good rows.
        images_missing: Those of them that are not there.
        images_beyond_asked: Images that rows were given beyond their count; each is paid for.
        failures: Rows of the failure table by code.
        api_revision: The API revision that the server spoke.
        posts_sent: Paid requests of this run.
        requests: HTTP requests of this run, of every kind.
        quoted_units: What this run's quotes said, first sending and retries together; None where
            a price was unknown.
        reserved_units: Reserved by this run's accepted requests, as far as known.
        receipt: The money of all the table's rows, over all runs.
        charged_units: Known charges of all the table's tasks, over all runs.
        files: Images whose file is kept; None: the batch keeps none.
        file_bytes: Of all kept files together.
        n_cost_unknown: Tasks that may have cost something which is not known yet.
        stopped: The code of why the run ended early, if it did; `stop_message` and
            `stop_next_step` are its sentences.
    """

    rows: int
    images_asked: int
    images_missing: int
    images: int
    failures: dict[str, int]
    rows_by_status: dict[str, int]
    posts_sent: int
    accepted: int
    requests: int
    quoted_units: int | None
    quote_is_exact: bool
    reserved_units: int
    charged_units: int
    n_cost_unknown: int
    unresolved: int
    stalled: int
    pending: int
    withheld: int
    api_revision: str
    receipt: Receipt = NO_MONEY
    tables: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: int | None = None
    file_bytes: int = 0
    stopped: str | None = None
    stop_message: str | None = None
    stop_next_step: str | None = None
    images_beyond_asked: int = 0

    @property
    def is_accounted_for(self) -> bool:
        """Nothing is still moving, unresolved, stalled or kept back."""
        open_rows = self.unresolved + self.stalled + self.pending + self.withheld
        return open_rows == 0 and self.stopped is None

    def to_json(self) -> dict[str, Any]:
        """For machines: plain JSON types, money as decimal strings in USD."""
        return {
            "rows": self.rows,
            "images_asked": self.images_asked,
            "images_missing": self.images_missing,
            "images": self.images,
            "images_beyond_asked": self.images_beyond_asked,
            "failures": self.failures,
            "rows_by_status": self.rows_by_status,
            "api_revision": self.api_revision,
            "posts_sent": self.posts_sent,
            "accepted": self.accepted,
            "requests": self.requests,
            "quoted_usd": usd(self.quoted_units),
            "quote_is_exact": self.quote_is_exact,
            "reserved_usd": usd(self.reserved_units),
            "charged_usd": usd(self.charged_units),
            "cost_unknown": self.n_cost_unknown,
            "unresolved": self.unresolved,
            "stalled": self.stalled,
            "pending": self.pending,
            "withheld": self.withheld,
            "receipt": receipt_json(self.receipt),
            "tables": self.tables,
            "notes": list(self.notes),
            "files": self.files,
            "file_bytes": self.file_bytes,
            "stopped": self.stopped,
            "stop_message": self.stop_message,
            "stop_next_step": self.stop_next_step,
        }


def build_report(
    submitted: SubmitReport,
    quotes: Sequence[Quote],
    results: Sequence[ResultsSummary],
    *,
    n_requests: int,
    receipt: Receipt = NO_MONEY,
    files: Sequence[FilesReport] = (),
) -> RunReport:
    """
    Add up the partitions of one run.

    ``submitted`` is its last submission, which has the counts of all; ``quotes`` are those of each.
    """
    stop = submitted.stopped
    statuses = _added(summary.rows_by_status for summary in results)
    return RunReport(
        rows=sum(summary.n_rows for summary in results),
        images_asked=sum(summary.n_images_asked for summary in results),
        images_missing=sum(summary.n_images_missing for summary in results),
        images=sum(summary.n_images for summary in results),
        images_beyond_asked=sum(summary.n_images_beyond_asked for summary in results),
        failures=dict(sorted(_added(summary.failures_by_code for summary in results).items())),
        rows_by_status=dict(sorted(statuses.items())),
        posts_sent=submitted.counts.n_posts,
        accepted=submitted.counts.n_accepted,
        requests=n_requests,
        quoted_units=total_of(quotes),
        quote_is_exact=all(quote.is_exact for quote in quotes),
        reserved_units=submitted.counts.reserved_units,
        charged_units=sum(summary.charged_units for summary in results),
        n_cost_unknown=sum(summary.n_cost_unknown for summary in results),
        unresolved=sum(summary.n_unresolved for summary in results),
        stalled=sum(summary.n_stalled for summary in results),
        pending=sum(summary.n_pending for summary in results),
        withheld=statuses["withheld"] + statuses["not_submitted"] + statuses["cleared"],
        api_revision=submitted.api_revision,
        receipt=receipt,
        tables=_tables(results),
        notes=tuple(dict.fromkeys(note for quote in quotes for note in quote.notes)),
        files=sum(report.summary.n_files for report in files) if files else None,
        file_bytes=sum(report.summary.n_bytes for report in files),
        stopped=stop.code if stop else None,
        stop_message=stop.message if stop else None,
        stop_next_step=stop.next_step if stop else None,
    )


def _added(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


def _tables(results: Sequence[ResultsSummary]) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for summary in results:
        for name, uri in summary.uris.items():
            tables.setdefault(name, []).append(uri)
    return tables


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """For machines: amounts as decimal strings in USD, counts as numbers."""
    return {
        name if name.startswith("n_") else f"{name}_usd": (
            value if name.startswith("n_") else usd(value)
        )
        for name, value in asdict(receipt).items()
    }


def usd(units: int | None) -> str | None:
    """An amount for machines: a decimal string in USD."""
    return None if units is None else f"{usd_from_units(units):f}"
