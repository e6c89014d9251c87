"""What became of the files of images; a kept one is never replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes, exposure_of_places
from mynth_dagster.ledger.group_commit import Write
from mynth_dagster.ledger.grouped import insert_into
from mynth_dagster.ledger.partitions import is_partition
from mynth_dagster.ledger.queries import looked_up
from mynth_dagster.ledger.statements import Lookup
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download, DownloadState, KeptFile

_downloads = schema.downloads
_KEY = ("intent_id", "image_index")
_FILE = tuple(KeptFile.__dataclass_fields__)


def _apply_downloads(connection: Connection, seen: Sequence[Download]) -> list[bool]:
    """Whether each was news; the partitions of news have something new to show."""
    # Postgres refuses to touch a row twice; of two words on one file, the kept one counts.
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
    changes = Changes()
    for place in exposure_of_places(connection, sorted({intent_id for intent_id, _ in news})):
        changes.add(place)
    apply_changes(connection, changes)
    return [(download.intent_id, download.image_index) in news for download in seen]


KEEP = Write("download", 4, _apply_downloads)
_OF_INTENTS = Lookup(lambda names: sa.select(_downloads).where(names.among(_downloads.c.intent_id)))


def downloads_of(engine: Engine, intent_ids: Sequence[str]) -> dict[str, dict[int, Download]]:
    """What became of the files of these intents' images, by intent id and image index."""
    found: dict[str, dict[int, Download]] = {}
    for row in looked_up(engine, _OF_INTENTS, intent_ids):
        found.setdefault(row["intent_id"], {})[row["image_index"]] = _download(row)
    return found


def mark_filed(batch: str, slice_: Slice, version: int) -> Callable[[Connection], bool]:
    """Every image of this version was dealt with; False where one of a newer version was."""

    def call(connection: Connection) -> bool:
        partitions = schema.partitions
        statement = (
            sa.update(partitions)
            .where(is_partition(batch, slice_), partitions.c.filed < version)
            .values(filed=version)
        )
        return connection.execute(statement).rowcount == 1

    return call


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


def _download(row: Any) -> Download:
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
