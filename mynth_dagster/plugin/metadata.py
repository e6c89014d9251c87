"""
What the UI shows of a run: plain numbers plot by themselves, tables and links are read. Pure.

Every text is bounded here, and says what it leaves out: metadata is kept for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mynth_dagster.engine.download import NO_THUMBNAILS, FilesReport, Thumbnails
from mynth_dagster.engine.plan import Survey
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.run import SubmitReport
from mynth_dagster.errors import cut
from mynth_dagster.limits import TABLE_ROWS_MAX
from mynth_dagster.models.money import NO_MONEY, Receipt, usd_from_units
from mynth_dagster.plugin.markdown import as_table, as_text, as_usd
from mynth_dagster.plugin.previews import gallery, strip
from mynth_dagster.printable import printable
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import FailureKind, ResultsSummary

Metadata = dict[str, Any]

_MESSAGE_CHARS = 160
_SAMPLE_CHARS = 100
_ID_CHARS = 60
_STEP_CHARS = 200
_RATE_DECIMALS = 4
_FAILURE_HEADS = ("failures", "code", "next step")


def prompts_metadata(summary: PromptsSummary) -> Metadata:
    """Of one partition of `prompts`."""
    return {
        **_place(summary.n_rows, summary.uri),
        "mynth/rejected": summary.n_rejected,
        "mynth/images_asked": summary.n_images_asked,
        "mynth/problems": dg.MetadataValue.json(summary.problems_by_code),
        "mynth/sample": dg.MetadataValue.md(_sample(summary)),
        **_notes("mynth/prompt_notes", summary.notes),
    }


def quote_metadata(survey: Survey, quote: Quote) -> Metadata:
    """What sending would cost, as far as is known; of one partition or of several."""
    metadata: Metadata = {
        "mynth/to_send": survey.n_to_send,
        "mynth/quote_basis": ", ".join(quote.bases) or "nothing to send",
    }
    if quote.total_units is not None:
        metadata["mynth/quoted_usd"] = _usd(quote.total_units)
    return {**metadata, **_notes("mynth/quote_notes", quote.notes)}


def _notes(name: str, notes: Sequence[str]) -> Metadata:
    """Sentences as a list; nothing where there are none."""
    lines = (f"- {as_text(note, max_chars=_MESSAGE_CHARS)}" for note in notes)
    return {name: dg.MetadataValue.md("\n".join(lines))} if notes else {}


def tasks_metadata(summary: ResultsSummary) -> Metadata:
    """Of one partition of `tasks`."""
    return {
        "mynth/rows": _rows(summary),
        **_place(summary.n_tasks, summary.uris["tasks"]),
        "mynth/pending": summary.n_pending,
        "mynth/unresolved": summary.n_unresolved,
        "mynth/reserved_usd": _usd(summary.reserved_units),
        "mynth/charged_usd": _usd(summary.charged_units),
    }


def submission_metadata(report: SubmitReport) -> Metadata:
    """Of a whole run, over all its partitions; the names say so, since each partition has them."""
    told = {
        **quote_metadata(report.survey, report.quote),
        "mynth/posts_sent": report.counts.n_posts,
        "mynth/accepted": report.counts.n_accepted,
        "mynth/api_revision": report.api_revision,
    }
    return {name.replace("mynth/", "mynth/run_"): value for name, value in told.items()}


def images_metadata(
    summary: ResultsSummary, receipt: Receipt = NO_MONEY, thumbnails: Thumbnails = NO_THUMBNAILS
) -> Metadata:
    """Of one partition of `images`."""
    metadata: Metadata = {
        "mynth/preview": dg.MetadataValue.md(strip(summary, thumbnails)),
        "mynth/gallery": dg.MetadataValue.md(gallery(summary, thumbnails)),
        "mynth/rows": _rows(summary),
        **_place(summary.n_images, summary.uris["images"]),
        "mynth/images_asked": summary.n_images_asked,
        "mynth/images_missing": summary.n_images_missing,
        "mynth/failure_rate": failure_rate(summary),
        "mynth/charged_usd": _usd(summary.charged_units),
        "mynth/cost_unknown": summary.n_cost_unknown,
        "mynth/receipt": dg.MetadataValue.md(_receipt(receipt)),
    }
    if summary.n_images and not summary.n_cost_unknown:
        metadata["mynth/cost_per_image_usd"] = _usd(summary.charged_units // summary.n_images)
    if summary.n_images_beyond_asked:
        metadata["mynth/images_beyond_asked"] = summary.n_images_beyond_asked
    if summary.median_task_s is not None:
        metadata["mynth/median_task_s"] = round(summary.median_task_s, 1)
    if thumbnails.n_failed:
        metadata["mynth/thumbnails_left_out"] = thumbnails.n_failed
    return metadata


def failures_metadata(summary: ResultsSummary) -> Metadata:
    """Of one partition of `failures`."""
    return {
        "mynth/failures_by_code": dg.MetadataValue.md(_failure_table(summary.failure_kinds)),
        "mynth/rows": _rows(summary),
        **_place(summary.n_failures, summary.uris["failures"]),
        "mynth/failure_rate": failure_rate(summary),
        "mynth/retryable": sum(kind.n_retryable for kind in summary.failure_kinds),
        "mynth/stalled": summary.n_stalled,
        "mynth/unresolved": summary.n_unresolved,
    }


def files_metadata(report: FilesReport) -> Metadata:
    """Of one partition of `files`."""
    summary, counts = report.summary, report.counts
    return {
        "dagster/uri": dg.MetadataValue.text(report.uri),
        "mynth/files": summary.n_files,
        "mynth/file_bytes": summary.n_bytes,
        "mynth/files_missing": summary.n_missing,
        "mynth/missing_by_code": dg.MetadataValue.json(summary.failed_by_code),
        "mynth/downloaded": counts.n_fetched,
        "mynth/taken_in": counts.n_taken_in,
        "mynth/download_s": round(report.seconds, 1),
    }


def failure_rate(summary: ResultsSummary) -> float:
    """
    Of the images that good rows asked for, those that are not there, 0 to 1.

    A rejected row asked for none; the check `prompts_valid` judges it.
    """
    asked = summary.n_images_asked
    return round(summary.n_images_missing / asked, _RATE_DECIMALS) if asked else 0.0


def name_rows(prompt_ids: Sequence[str]) -> str:
    """Rows by their ids, whatever is in them; a few, on one line."""
    return ", ".join(cut(printable(prompt_id), _ID_CHARS) for prompt_id in prompt_ids)


def _place(n_rows: int, uri: str) -> Metadata:
    return {
        "dagster/partition_row_count": n_rows,
        "dagster/uri": dg.MetadataValue.text(uri),
    }


def _rows(summary: ResultsSummary) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(summary.rows_in_words.replace("; ", "\n\n"))


def _usd(units: int) -> float:
    """Dagster plots floats; exact money is in the tables."""
    return float(usd_from_units(units))


def _failure_table(kinds: Sequence[FailureKind]) -> str:
    rows = [
        (
            str(kind.n_failures),
            _told(kind),
            f"{kind.money.value.capitalize()}. {as_text(kind.next_step, max_chars=_STEP_CHARS)}",
        )
        for kind in kinds[:TABLE_ROWS_MAX]
    ]
    left = kinds[TABLE_ROWS_MAX:]
    n_left = sum(kind.n_failures for kind in left)
    more = f"\n\nand {n_left} failures of {len(left)} more codes" if left else ""
    return as_table(_FAILURE_HEADS, rows) + more


def _receipt(receipt: Receipt) -> str:
    names = ("quoted", "reserved", "charged", "refunded", "open", "unknown")
    amounts = [as_usd(getattr(receipt, name)) for name in names]
    return as_table([f"{name} USD" for name in names], [amounts])


def _told(kind: FailureKind) -> str:
    examples = as_text(", ".join(kind.examples))
    message = as_text(kind.message, max_chars=_MESSAGE_CHARS)
    return f"**{as_text(kind.code)}** as in {examples}: {message}"


def _sample(summary: PromptsSummary) -> str:
    """A list: the cells of a table would be a few letters wide here."""
    lines = [f"- {_sampled(row)}" for row in summary.sample]
    left = summary.n_rows - len(lines)
    return "\n".join([*lines, f"- and {left} more rows"] if left > 0 else lines) or "no rows"


def _sampled(row: Mapping[str, object]) -> str:
    problem = f", rejected: {row['problem_code']}" if row.get("problem_code") else ""
    asked = as_text(f"{row.get('count')} of {row.get('model')}{problem}")
    prompt = as_text(row.get("prompt"), max_chars=_SAMPLE_CHARS)
    return f"**{as_text(row.get('prompt_id'))}** ({asked}) {prompt}"
