"""The accounts and keys that sent for this ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.ledger import schema
from mynth_dagster.ledger.grouped import insert_into
from mynth_dagster.ledger.queries import of_accounts, rows_of
from mynth_dagster.models.transitions import IntentState


@dataclass(frozen=True)
class AccountRow:
    """
    One key of one account.

    Args:
        fingerprint: The key under the ledger's salt.
        user_id: The vendor's name of the account; empty where not known.
        key_id: The vendor's name of the key; empty where not known.
    """

    number: int
    base_url: str
    fingerprint: str
    user_id: str
    key_id: str


class AccountReader:
    """Queries about accounts; synchronous, like `LedgerReader`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[AccountRow]:
        """Every key that was ever used, oldest first."""
        table = schema.accounts
        columns = [
            table.c.account.label("number"),
            *(table.c.base_url, table.c.fingerprint, table.c.user_id, table.c.key_id),
        ]
        query = sa.select(*columns).order_by(table.c.account)
        return list(rows_of(self._engine, query, lambda row: AccountRow(**row)))

    def of_task(self, task_id: str) -> int | None:
        """Which account a task is known to be of; None where nobody noted it."""
        intents, tasks = schema.intents, schema.tasks
        further = sa.select(tasks.c.intent_id).where(tasks.c.task_id == task_id)
        is_of = sa.or_(intents.c.task_id == task_id, intents.c.intent_id.in_(further))
        query = sa.select(intents.c.account).where(is_of, intents.c.account.is_not(None))
        found = list(rows_of(self._engine, query.limit(1), lambda row: int(row["account"])))
        return found[0] if found else None

    def n_awaited(self) -> dict[int, int]:
        """Tasks that were accepted and not read yet, by account."""
        account, n = schema.intents.c.account, sa.func.count().label("n")
        is_awaited = schema.intents.c.state == IntentState.ACCEPTED.value
        query = sa.select(account, n).where(is_awaited, account.is_not(None)).group_by(account)
        return dict(rows_of(self._engine, query, lambda row: (int(row["account"]), int(row["n"]))))

    def newest_task(
        self, accounts: Collection[int] | None, except_for: Sequence[str] = ()
    ) -> str | None:
        """The newest task that one of these accounts paid for; None where there is none."""
        intents = schema.intents
        query = (
            sa.select(intents.c.task_id)
            .where(intents.c.task_id.is_not(None), intents.c.task_id.not_in(except_for))
            .where(intents.c.state != IntentState.LOST.value, of_accounts(accounts))
            .order_by(intents.c.claimed_no.desc().nulls_last())
            .limit(1)
        )
        found = list(rows_of(self._engine, query, lambda row: str(row["task_id"])))
        return found[0] if found else None


def ensure_account(
    base_url: str, fingerprint: str, user_id: str, key_id: str, now_us: int
) -> Callable[[Connection], int]:
    """The number of a key, given at first sight."""

    def call(connection: Connection) -> int:
        table = schema.accounts
        statement = insert_into(connection, table).values(
            base_url=base_url,
            fingerprint=fingerprint,
            user_id=user_id,
            key_id=key_id,
            first_seen_at_us=now_us,
        )
        connection.execute(statement.on_conflict_do_nothing())
        query = sa.select(table.c.account).filter_by(base_url=base_url, fingerprint=fingerprint)
        return int(connection.execute(query).scalar_one())

    return call


def name_account(number: int, user_id: str) -> Callable[[Connection], None]:
    """Remember the vendor's name of an account that had none."""

    def call(connection: Connection) -> None:
        table = schema.accounts
        is_nameless = (table.c.account == number) & (table.c.user_id == "")
        connection.execute(sa.update(table).where(is_nameless).values(user_id=user_id))

    return call
