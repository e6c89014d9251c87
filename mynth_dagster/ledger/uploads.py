"""Input files that were uploaded: remembered by their content, so that each is sent up once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.chunks import chunks
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.counters import Changes, apply_changes, exposure_of_places
from mynth_dagster.ledger.group_commit import GroupCommit, Write
from mynth_dagster.ledger.partitions import is_partition
from mynth_dagster.ledger.statements import (
    CALL,
    IN_MAX,
    Lookup,
    insert_into,
    intent_from_row,
    looked_up,
    rows_of,
)
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download, DownloadState, KeptFile
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.request import normal_url
from mynth_dagster.models.task import PublicAccessToken
from mynth_dagster.models.transitions import Event, states_before

_uploads = schema.uploads


@dataclass(frozen=True)
class Upload:
    """One file at Mynth: SHA-256 (hex) of its content, and its URL since a time (UTC, µs)."""

    content_hash: str
    url: str
    uploaded_at_us: int


class Uploads:
    """The part of the ledger that knows uploads; each write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        self._commits, self._reader = commits, reader

    async def remember(self, account: int, uploads: Sequence[Upload]) -> None:
        """Keep where files lie now; a newer upload takes the place of an older one."""
        await self._commits.submit(CALL, _remembering(account, uploads))

    def known(self, account: int, hashes: Sequence[str], *, since_us: int) -> dict[str, str]:
        """URLs by content of the files that were uploaded no earlier."""
        columns = (_uploads.c.content_hash, _uploads.c.url)
        query = sa.select(*columns).where(
            _uploads.c.account == account, _uploads.c.uploaded_at_us >= since_us
        )
        found: dict[str, str] = {}
        for some in chunks(hashes, IN_MAX):
            rows = rows_of(self._reader, query.where(_uploads.c.content_hash.in_(some)), dict)
            found.update((row["content_hash"], row["url"]) for row in rows)
        return found


def _remembering(account: int, uploads: Sequence[Upload]) -> Callable[[Connection], Any]:
    rows = [
        {
            "account": account,
            "content_hash": upload.content_hash,
            "url": upload.url,
            "uploaded_at_us": upload.uploaded_at_us,
        }
        for upload in uploads
    ]

    def call(connection: Connection) -> None:
        insert = insert_into(connection, _uploads)
        newer = {name: insert.excluded[name] for name in ("url", "uploaded_at_us")}
        key = ["account", "content_hash"]
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=newer), rows)

    return call


# What became of the files of images; a kept one is never replaced.


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


def mark_downloaded(batch: str, slice_: Slice, version: int) -> Callable[[Connection], bool]:
    """Every image of this version was dealt with; False where one of a newer version was."""

    def call(connection: Connection) -> bool:
        partitions = schema.partitions
        statement = (
            sa.update(partitions)
            .where(is_partition(batch, slice_), partitions.c.downloaded < version)
            .values(downloaded=version)
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


# Public access tokens: kept only where a batch asked for them, to be handed out in `tasks`.


_tokens = schema.tokens
_OF_TASKS = Lookup(lambda names: sa.select(_tokens).where(names.among(_tokens.c.task_id)))


class Tokens:
    """The part of the ledger that knows tokens; a write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        self._commits, self._reader = commits, reader

    async def keep(self, task_id: str, token: PublicAccessToken) -> None:
        """Keep the token of a task."""
        await self._commits.submit(CALL, _keeping_token(task_id, token))

    def of(self, task_ids: Sequence[str]) -> dict[str, PublicAccessToken]:
        """The tokens of those tasks that have one, by task id."""
        rows = looked_up(self._reader, _OF_TASKS, task_ids)
        return {
            row["task_id"]: PublicAccessToken(row["token"], row["expires_at_us"]) for row in rows
        }


def _keeping_token(task_id: str, token: PublicAccessToken) -> Callable[[Connection], Any]:
    row = {"task_id": task_id, "token": token.token, "expires_at_us": token.expires_at_us}

    def call(connection: Connection) -> None:
        connection.execute(insert_into(connection, _tokens).on_conflict_do_nothing(), row)

    return call


# What paid looks at images are about, so that a task whose answer was lost is recognised.


_follow_ups, _intents = schema.follow_ups, schema.intents
_OPEN = [state.value for state in states_before(Event.SIGHT)]

Subject = tuple[str, str]
"""Task type and URL, in its normal form."""


@dataclass(frozen=True)
class OpenSubject:
    """
    An intent whose task may turn up.

    Args:
        account: The ledger's number of the account and key that sent it.
        claimed_seq: The ledger's running number of its claim; 0 where not known.
    """

    intent: Intent
    account: int | None
    claimed_seq: int


class Subjects:
    """The part of the ledger that knows what was looked at; a write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        self._commits, self._reader = commits, reader

    async def keep(self, intent_id: str, task_type: str, url: str) -> None:
        """Keep what an intent will be sent with; before it is sent."""
        await self._commits.submit(CALL, _keeping_subject(intent_id, task_type, url))

    def open(self) -> dict[Subject, list[OpenSubject]]:
        """What tasks of unknown origin may be about: intents that may still get their task."""
        query = (
            sa.select(_intents, _follow_ups.c.url, _follow_ups.c.task_type)
            .join(_follow_ups, _follow_ups.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.state.in_(_OPEN))
            .order_by(_intents.c.claimed_seq)
        )
        found: dict[Subject, list[OpenSubject]] = {}
        for row in rows_of(self._reader, query, dict):
            subject = (row["task_type"], normal_url(row["url"]))
            candidate = OpenSubject(intent_from_row(row), row["account"], row["claimed_seq"] or 0)
            found.setdefault(subject, []).append(candidate)
        return found


def _keeping_subject(intent_id: str, task_type: str, url: str) -> Callable[[Connection], Any]:
    row = {"intent_id": intent_id, "url": url, "task_type": task_type}

    def call(connection: Connection) -> None:
        connection.execute(insert_into(connection, _follow_ups).on_conflict_do_nothing(), row)

    return call
