"""Records of files: where input files lie at Mynth, and the downloads of images' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes, exposure_of_places
from mynth_dagster.ledger.database import execute_many, insert_into
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.rows import is_partition
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download, DownloadState, KeptFile


@dataclass(frozen=True)
class Upload:
    """One file at Mynth: SHA-256 (hex) of its content, and its URL since a time (UTC, µs)."""

    content_hash: str
    url: str
    uploaded_at_us: int


def save_uploads(connection: Connection, account: int, uploads: Sequence[Upload]) -> None:
    """Save where files lie now, each uploaded once; a newer upload replaces an older one."""
    insert = insert_into(connection, schema.uploads)
    newer = {name: insert.excluded[name] for name in ("url", "uploaded_at_us")}
    statement = insert.on_conflict_do_update(index_elements=["account", "content_hash"], set_=newer)
    execute_many(connection, statement, [{"account": account, **vars(u)} for u in uploads])


# What became of the files of images; a kept one is never replaced.


_downloads = schema.downloads
_KEY = ("intent_id", "image_index")
_FILE = tuple(KeptFile.__dataclass_fields__)


def _apply_downloads(connection: Connection, seen: Sequence[Download]) -> list[bool]:
    """Save downloads; return whether each was new, which raises its partition's version."""
    # Postgres refuses to touch a row twice; of two reports on one file, the kept one counts.
    in_order = sorted(seen, key=lambda download: download.file is not None)
    rows = {(download.intent_id, download.image_index): _row(download) for download in in_order}
    insert = insert_into(connection, _downloads)
    offered = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=list(_KEY),
        set_={c.name: offered[c.name] for c in _downloads.c if c.name not in _KEY},
        where=sa.and_(
            _downloads.c.state != DownloadState.KEPT.value,
            sa.or_(
                _downloads.c.state != offered.state,
                sa.func.coalesce(_downloads.c.code, "") != sa.func.coalesce(offered.code, ""),
            ),
        ),
    ).returning(*(_downloads.c[name] for name in _KEY))
    news = {tuple(row) for row in connection.execute(statement, list(rows.values()))}
    places = exposure_of_places(connection, {intent_id for intent_id, _ in news})
    apply_changes(connection, Changes.of_places(places))
    return [(download.intent_id, download.image_index) in news for download in seen]


SAVE_DOWNLOAD = Write("download", 4, _apply_downloads)


def mark_downloaded(connection: Connection, batch: str, slice_: Slice, version: int) -> bool:
    """Note that all images of this version were processed; False if a newer one was."""
    partitions = schema.partitions
    statement = (
        sa.update(partitions)
        .where(is_partition(batch, slice_), partitions.c.downloaded < version)
        .values(downloaded=version)
    )
    return connection.execute(statement).rowcount == 1


def _row(download: Download) -> dict[str, Any]:
    file = asdict(download.file) if download.file else dict.fromkeys(_FILE)
    return {
        "intent_id": download.intent_id,
        "image_index": download.image_index,
        "state": download.state.value,
        "code": download.code,
        "message": download.message,
        "http_status": download.http_status,
        "at_us": download.at_us,
        **file,
    }


def download_from_row(row: Mapping[Any, Any]) -> Download:
    """Make a download from a row of `schema.downloads`."""
    is_kept = row["state"] == DownloadState.KEPT.value
    return Download(
        intent_id=row["intent_id"],
        image_index=row["image_index"],
        at_us=row["at_us"],
        file=KeptFile(**{name: row[name] for name in _FILE}) if is_kept else None,
        code=row["code"],
        message=row["message"],
        http_status=row["http_status"],
    )
