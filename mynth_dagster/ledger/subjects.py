"""What paid looks at images are about, so that a task whose answer was lost is recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import GroupCommit
from mynth_dagster.ledger.grouped import CALL, insert_into
from mynth_dagster.ledger.queries import rows_of
from mynth_dagster.ledger.records import intent_from_row
from mynth_dagster.models.intent import Intent
from mynth_dagster.models.request import normal_url
from mynth_dagster.models.transitions import Event, states_before

_subjects, _intents = schema.subjects, schema.intents
_OPEN = [state.value for state in states_before(Event.SIGHT)]

Subject = tuple[str, str]
"""Task type and URL, in its normal form."""


@dataclass(frozen=True)
class OpenSubject:
    """
    An intent whose task may turn up.

    Args:
        account: The ledger's number of the account and key that sent it.
        claimed_no: The ledger's running number of its claim; 0 where not known.
    """

    intent: Intent
    account: int | None
    claimed_no: int


class Subjects:
    """The part of the ledger that knows what was looked at; a write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        self._commits, self._reader = commits, reader

    async def keep(self, intent_id: str, task_type: str, url: str) -> None:
        """Keep what an intent will be sent with; before it is sent."""
        await self._commits.submit(CALL, _keeping(intent_id, task_type, url))

    def open(self) -> dict[Subject, list[OpenSubject]]:
        """What tasks of unknown origin may be about: intents that may still get their task."""
        query = (
            sa.select(_intents, _subjects.c.url, _subjects.c.task_type)
            .join(_subjects, _subjects.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.state.in_(_OPEN))
            .order_by(_intents.c.claimed_no)
        )
        found: dict[Subject, list[OpenSubject]] = {}
        for row in rows_of(self._reader, query, dict):
            subject = (row["task_type"], normal_url(row["url"]))
            candidate = OpenSubject(intent_from_row(row), row["account"], row["claimed_no"] or 0)
            found.setdefault(subject, []).append(candidate)
        return found


def _keeping(intent_id: str, task_type: str, url: str) -> Callable[[Connection], Any]:
    row = {"intent_id": intent_id, "url": url, "task_type": task_type}

    def call(connection: Connection) -> None:
        connection.execute(insert_into(connection, _subjects).on_conflict_do_nothing(), row)

    return call
