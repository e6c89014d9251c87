"""Input files that were uploaded: remembered by their content, so that each is sent up once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.chunks import chunks
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import GroupCommit
from mynth_dagster.ledger.grouped import CALL, insert_into
from mynth_dagster.ledger.queries import IN_MAX, rows_of

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
