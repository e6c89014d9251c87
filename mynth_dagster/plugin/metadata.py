"""
The metadata that the UI shows of a run: figures, which Dagster plots, tables and links. Pure.

Every text has a bound and names what it leaves out: metadata is kept for ever.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import dagster as dg
import pyarrow as pa

from mynth_dagster.engine.download import NO_THUMBNAILS, FilesReport, Thumbnails
from mynth_dagster.engine.plan import Plan
from mynth_dagster.engine.quote import Quote
from mynth_dagster.engine.run import SubmitReport
from mynth_dagster.errors import cut
from mynth_dagster.followups.tables import FollowUpSummary
from mynth_dagster.limits import GALLERY_MAX_CHARS, INLINE_MARKDOWN_MAX_CHARS, TABLE_ROWS_MAX
from mynth_dagster.models.money import NO_MONEY, Receipt, format_usd, usd_from_units
from mynth_dagster.printable import printable
from mynth_dagster.tables.catalogue import Catalogue
from mynth_dagster.tables.images import draw_strip
from mynth_dagster.tables.prompts import PromptsSummary
from mynth_dagster.tables.results import FailureKind, ResultsSummary, SampleImage
from mynth_dagster.tables.schemas import COLUMNS, OUR_COLUMNS, schema_of

# Markdown that Dagster's UI renders, made of texts that may be anything. Pure.
#
# The UI drops raw HTML and shows images at their own size, from https or data URIs only.
# Prompts are escaped: one that is itself markdown must not load a picture into the page.


CELL_MAX_CHARS = 80

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#+!|~])")
_AUTOLINK = re.compile(r"://|(?<=www)\.", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_LINKABLE = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_URL_UNSAFE = {"(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "\\": "%5C", "|": "%7C"}


def as_text(value: object, *, max_chars: int = CELL_MAX_CHARS) -> str:
    """Format any value as one line of plain text, safe in a table's cell; None is empty."""
    text = "" if value is None else _BLANKS.sub(" ", str(value)).strip()
    shown = text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
    return _AUTOLINK.sub(lambda found: f"\\{found[0]}", _SPECIAL.sub(r"\\\1", shown))


def as_usd(units: int) -> str:
    """Format an amount like the figures beside it: a number, its unit in the heading."""
    return format_usd(units).removeprefix("$")


def as_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table of cells that are markdown already; "no rows" if there are none."""
    if not rows:
        return "no rows"
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines)


def as_link(shown: str, url: str | None) -> str:
    """Format ``shown`` (markdown already) as a link, if the URL may be linked."""
    if url is None or not _LINKABLE.fullmatch(url):
        return shown
    return f"[{shown}]({''.join(_URL_UNSAFE.get(char, char) for char in url)})"


def as_picture(alt: str, webp: bytes) -> str:
    """Format a WebP file as a picture that needs no network."""
    return f"![{as_text(alt)}](data:image/webp;base64,{b64encode(webp).decode('ascii')})"


# What the UI shows of images: a strip within the page, and a gallery in a window. Pure.


_STRIP_IMAGES = 4
_STRIP_ROOM_CHARS = 80  # for alt text and type
_LINK_NAME_CHARS = 24
_PROMPT_CHARS = 160
_HEADS = ("image", "prompt id", "prompt", "model", "size", "cost USD")


def strip(summary: ResultsSummary, thumbnails: Thumbnails) -> str:
    """Format the first thumbnails side by side, short enough for the page; else links."""
    first = list(islice(thumbnails.by_image.values(), _STRIP_IMAGES))
    metadata = f"{summary.n_images} images"
    room = (INLINE_MARKDOWN_MAX_CHARS - _STRIP_ROOM_CHARS) * 3 // 4
    drawn = draw_strip(first, room)
    if drawn is None:
        return _links(summary.images, metadata)
    return as_picture(f"the first {len(first)} of {metadata}", drawn)


def gallery(summary: ResultsSummary, thumbnails: Thumbnails) -> str:
    """Format a row for each of the first images: picture, id, prompt, model, size, cost."""
    rows, n_chars = list[Sequence[str]](), 0
    for image in summary.images:
        row = _row(image, thumbnails.by_image.get(image))
        n_chars += sum(map(len, row)) + 3 * len(row)
        if n_chars > GALLERY_MAX_CHARS:
            break
        rows.append(row)
    left = summary.n_images - len(rows)
    more = f"\n\n{len(rows)} of {summary.n_images} images; the table has all." if left else ""
    return as_table(_HEADS, rows) + more


def _row(image: SampleImage, thumbnail: bytes | None) -> Sequence[str]:
    shown = "" if thumbnail is None else as_picture(image.prompt_id, thumbnail)
    return (
        shown and as_link(shown, image.link),
        as_link(as_text(image.prompt_id), image.link),
        as_text(image.prompt, max_chars=_PROMPT_CHARS),
        as_text(image.model),
        f"{image.width}×{image.height}" if image.width and image.height else "",
        "" if image.cost_units is None else as_usd(image.cost_units),
    )


def _links(images: Iterable[SampleImage], metadata: str) -> str:
    text = metadata
    for image in images:
        name = as_text(image.prompt_id, max_chars=_LINK_NAME_CHARS)
        longer = f"{text} · {as_link(name, image.link)}"
        if len(longer) > INLINE_MARKDOWN_MAX_CHARS:
            break
        text = longer
    return text


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


def quote_metadata(plan: Plan, quote: Quote) -> Metadata:
    """Return what sending would cost, as far as known; of one partition or of several."""
    metadata: Metadata = {
        "mynth/to_send": plan.n_to_send,
        "mynth/quote_basis": ", ".join(quote.bases) or "nothing to send",
    }
    if quote.total_units is not None:
        metadata["mynth/quoted_usd"] = _usd(quote.total_units)
    return {**metadata, **_notes("mynth/quote_notes", quote.notes)}


def _notes(name: str, notes: Sequence[str]) -> Metadata:
    """Format sentences as a list; nothing if there are none."""
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
    """Return the figures of a whole run; their names say so, since each partition has them."""
    metadata = {
        **quote_metadata(report.plan, report.quote),
        "mynth/posts_sent": report.counts.n_posts,
        "mynth/accepted": report.counts.n_accepted,
        "mynth/api_revision": report.api_revision,
    }
    return {name.replace("mynth/", "mynth/run_"): value for name, value in metadata.items()}


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


def follow_up_metadata(summary: FollowUpSummary) -> Metadata:
    """What the UI shows of one partition of `ratings`, `alt_texts` or `reviews`."""
    answers = {f"mynth/images_{answer}": n for answer, n in summary.by_answer.items()}
    return {
        "dagster/partition_row_count": summary.n_images,
        "dagster/uri": dg.MetadataValue.text(summary.uri),
        "mynth/answered": summary.n_answered,
        "mynth/states": dg.MetadataValue.json(summary.by_status),
        "mynth/charged_usd": float(usd_from_units(summary.charged_units)),
        **answers,
    }


def catalogue_metadata(catalogue: Catalogue, models: Sequence[str]) -> Metadata:
    """What the UI shows of the prices of a batch's models, as they were last read."""
    rows = []
    for model in models:
        price = catalogue.prices_usd.get(model)
        known = "not listed" if model not in catalogue.prices_usd else "not known"
        rows.append((as_text(model), known if price is None else f"{price:f}"))
    heads = ("model", f"USD per image on {catalogue.read_at[:10]}")
    return {"mynth/prices": dg.MetadataValue.md(as_table(heads, rows))}


def failure_rate(summary: ResultsSummary) -> float:
    """
    Return the share of missing images among those that valid rows ask for, 0 to 1.

    A rejected row asks for none; the check `prompts_valid` judges it.
    """
    asked = summary.n_images_asked
    return round(summary.n_images_missing / asked, _RATE_DECIMALS) if asked else 0.0


def name_rows(prompt_ids: Sequence[str]) -> str:
    """Name a few rows by their ids, whatever is in them, on one line."""
    return ", ".join(cut(printable(prompt_id), _ID_CHARS) for prompt_id in prompt_ids)


def _place(n_rows: int, uri: str) -> Metadata:
    return {
        "dagster/partition_row_count": n_rows,
        "dagster/uri": dg.MetadataValue.text(uri),
    }


def _rows(summary: ResultsSummary) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(summary.rows_in_words.replace("; ", "\n\n"))


def _usd(units: int) -> float:
    """Convert to a float, which Dagster plots; exact money is in the tables."""
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
    """Format a list: the cells of a table would be a few letters wide here."""
    lines = [f"- {_sampled(row)}" for row in summary.sample]
    left = summary.n_rows - len(lines)
    return "\n".join([*lines, f"- and {left} more rows"] if left > 0 else lines) or "no rows"


def _sampled(row: Mapping[str, object]) -> str:
    problem = f", rejected: {row['problem_code']}" if row.get("problem_code") else ""
    asked = as_text(f"{row.get('count')} of {row.get('model')}{problem}")
    prompt = as_text(row.get("prompt"), max_chars=_SAMPLE_CHARS)
    return f"**{as_text(row.get('prompt_id'))}** ({asked}) {prompt}"


# Columns as the UI shows them: their types and meanings, and where they come from. Pure.


SCHEMA = "dagster/column_schema"
SCHEMA_IN_A_WINDOW = "mynth/columns"
"""Where there are pictures: Dagster's page lists the columns of `SCHEMA` above all metadata."""
LINEAGE = "dagster/column_lineage"

_ROW = {"prompt_id": "prompt_id", "request_key": "request_key"}
_ORIGINS: dict[str, dict[str, dict[str, str]]] = {
    "tasks": {"prompts": _ROW},
    "images": {
        "prompts": {
            **_ROW,
            "model_requested": "model",
            "prompt": "prompt",
            "prompt_sent": "prompt",
        },
        "tasks": {name: name for name in ("task_id", "intent_id", "submitted_at", "completed_at")},
    },
    "failures": {
        "prompts": {**_ROW, "error_message": "problem_message", "field": "problem_field"},
        "tasks": {
            "task_id": "task_id",
            "intent_id": "intent_id",
            "status": "status",
            "attempts": "attempt",
            "error_code": "error_code",
        },
    },
}
"""Table -> upstream table -> column -> the column it comes from; carried ones keep their name."""


def defined_columns(table: str, *, below_pictures: bool = False) -> dict[str, Any]:
    """Return the metadata of the asset's definition: the columns that the table always has."""
    return _columns(_schema(table, schema_of(table)), below_pictures=below_pictures)


def written_columns(
    table: str,
    schema: pa.Schema,
    key: Callable[[str], dg.AssetKey],
    *,
    below_pictures: bool = False,
) -> dict[str, Any]:
    """Return the metadata of a materialization: the columns written, and their origins."""
    metadata = _columns(_schema(table, schema), below_pictures=below_pictures)
    lineage = _lineage(table, schema, key)
    if lineage:
        metadata[LINEAGE] = dg.TableColumnLineage(lineage)
    return metadata


def _columns(schema: dg.TableSchema, *, below_pictures: bool) -> dict[str, Any]:
    return {SCHEMA_IN_A_WINDOW if below_pictures else SCHEMA: schema}


def _schema(table: str, schema: pa.Schema) -> dg.TableSchema:
    meanings = {name: meaning for name, _, meaning in COLUMNS[table]}
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name, str(field.type), description=meanings.get(field.name) or None
            )
            for field in schema
        ]
    )


def _lineage(
    table: str, schema: pa.Schema, key: Callable[[str], dg.AssetKey]
) -> dict[str, list[dg.TableColumnDep]]:
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for upstream, columns in _ORIGINS.get(table, {}).items():
        for column, origin in columns.items():
            deps.setdefault(column, []).append(dg.TableColumnDep(key(upstream), origin))
    if table in ("images", "failures"):
        own = set(schema_of(table).names) | set(OUR_COLUMNS)
        carried = [name for name in schema.names if name not in own]
        deps |= {name: [dg.TableColumnDep(key("prompts"), name)] for name in carried}
    return deps
