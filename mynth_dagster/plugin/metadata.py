"""What the UI shows of a run: plain numbers plot by themselves, tables and links are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.submit import SubmitCounts
from mynth_dagster.engine.survey import Survey
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import ResultsSummary

Metadata = dict[str, Any]

MARKDOWN_CELL_MAX = 80


def prompts_metadata(summary: PromptsSummary) -> Metadata:
    """Of one partition of `prompts`."""
    return {
        "dagster/partition_row_count": summary.n_rows,
        "dagster/uri": dg.MetadataValue.text(summary.uri),
        "mynth/rows": summary.n_rows,
        "mynth/rejected": summary.n_rejected,
        "mynth/images_asked": summary.n_images_asked,
        "mynth/problems": dg.MetadataValue.json(summary.problems_by_code),
        "mynth/sample": dg.MetadataValue.md(_table(summary.sample)),
    }


def tasks_metadata(summary: ResultsSummary) -> Metadata:
    """Of one partition of `tasks`."""
    return {
        "dagster/partition_row_count": summary.n_tasks,
        "dagster/uri": dg.MetadataValue.text(summary.uris["tasks"]),
        "mynth/tasks": summary.n_tasks,
        "mynth/pending": summary.n_pending,
        "mynth/unresolved": summary.n_unresolved,
        "mynth/reserved_usd": _usd(summary.reserved_units),
        "mynth/states": dg.MetadataValue.json(summary.rows_by_status),
    }


def submission_metadata(survey: Survey, quote: Quote, counts: SubmitCounts) -> Metadata:
    """Of a whole submission, over all its partitions."""
    metadata: Metadata = {
        "mynth/to_send": survey.n_to_send,
        "mynth/posts_sent": counts.n_posts,
        "mynth/accepted": counts.n_accepted,
        "mynth/quote_basis": ", ".join(quote.bases) or "nothing to send",
    }
    if quote.total_units is not None:
        metadata["mynth/quoted_usd"] = _usd(quote.total_units)
    if quote.notes:
        metadata["mynth/quote_notes"] = dg.MetadataValue.md(
            "\n".join(f"- {n}" for n in quote.notes)
        )
    return metadata


def images_metadata(summary: ResultsSummary) -> Metadata:
    """Of one partition of `images`."""
    return {
        "dagster/partition_row_count": summary.n_images,
        "dagster/uri": dg.MetadataValue.text(summary.uris["images"]),
        "mynth/images": summary.n_images,
        "mynth/images_asked": summary.n_images_asked,
        "mynth/failure_rate": _rate(summary),
        "mynth/charged_usd": _usd(summary.charged_units),
        "mynth/cost_unknown": summary.n_cost_unknown,
    }


def failures_metadata(summary: ResultsSummary) -> Metadata:
    """Of one partition of `failures`."""
    return {
        "dagster/partition_row_count": summary.n_failures,
        "dagster/uri": dg.MetadataValue.text(summary.uris["failures"]),
        "mynth/failures": summary.n_failures,
        "mynth/failures_by_code": dg.MetadataValue.json(summary.failures_by_code),
        "mynth/stalled": summary.n_stalled,
        "mynth/unresolved": summary.n_unresolved,
    }


def _rate(summary: ResultsSummary) -> float:
    asked = summary.n_images + summary.n_failures
    return summary.n_failures / asked if asked else 0.0


def _usd(units: int) -> float:
    """Dagster plots floats; exact money is in the tables."""
    return float(usd_from_units(units))


def _table(rows: tuple[Mapping[str, object], ...]) -> str:
    if not rows:
        return "no rows"
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    shown = text if len(text) <= MARKDOWN_CELL_MAX else f"{text[: MARKDOWN_CELL_MAX - 1]}…"
    return shown.replace("|", "\\|").replace("\n", " ")
