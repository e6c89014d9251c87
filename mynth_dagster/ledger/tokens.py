"""Public access tokens: kept only where a batch asked for them, to be handed out in `tasks`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.group_commit import GroupCommit
from mynth_dagster.ledger.grouped import CALL, insert_into
from mynth_dagster.ledger.queries import looked_up
from mynth_dagster.ledger.statements import Lookup
from mynth_dagster.models.task import PublicAccessToken

_tokens = schema.tokens
_OF_TASKS = Lookup(lambda names: sa.select(_tokens).where(names.among(_tokens.c.task_id)))


class Tokens:
    """The part of the ledger that knows tokens; a write returns after COMMIT."""

    def __init__(self, commits: GroupCommit, reader: Engine) -> None:
        self._commits, self._reader = commits, reader

    async def keep(self, task_id: str, token: PublicAccessToken) -> None:
        """Keep the token of a task."""
        await self._commits.submit(CALL, _keeping(task_id, token))

    def of(self, task_ids: Sequence[str]) -> dict[str, PublicAccessToken]:
        """The tokens of those tasks that have one, by task id."""
        rows = looked_up(self._reader, _OF_TASKS, task_ids)
        return {
            row["task_id"]: PublicAccessToken(row["token"], row["expires_at_us"]) for row in rows
        }


def _keeping(task_id: str, token: PublicAccessToken) -> Callable[[Connection], Any]:
    row = {"task_id": task_id, "token": token.token, "expires_at_us": token.expires_at_us}

    def call(connection: Connection) -> None:
        connection.execute(insert_into(connection, _tokens).on_conflict_do_nothing(), row)

    return call
