"""What proves that a lost request was not accepted, and each partition's exposure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("intents", sa.Column("missing_since", sa.Text))
    op.add_column("intents", sa.Column("claimed_no", sa.BigInteger))
    op.add_column("intents", sa.Column("claimed_server_us", sa.BigInteger))
    op.add_column("intents", sa.Column("claimant", sa.Text))
    op.add_column("intents", sa.Column("doubted_no", sa.BigInteger))
    op.add_column("intents", sa.Column("doubted_since", sa.Text))
    op.add_column("tasks", sa.Column("reserved_units", sa.BigInteger))
    op.add_column("tasks", sa.Column("charged_units", sa.BigInteger))
    op.create_index(
        "surplus_tasks",
        "tasks",
        ["intent_id"],
        sqlite_where=sa.text("is_surplus"),
        postgresql_where=sa.text("is_surplus"),
    )
    op.drop_table("budgets")
    _replace_accounts()
    _create_walks()
    _create_numbers()
    _create_exposure()
    _date_doubts()


def _replace_accounts() -> None:
    """Keys by fingerprint; an old row keeps its number, and its key is recognised anew."""
    op.rename_table("accounts", "old_accounts")
    op.create_table(
        "accounts",
        sa.Column("account", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("base_url", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False, server_default=""),
        sa.Column("key_id", sa.Text, nullable=False, server_default=""),
        sa.Column("first_seen_at_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("base_url", "fingerprint"),
    )
    op.execute(
        "INSERT INTO accounts (account, base_url, fingerprint, user_id, key_id, first_seen_at_us)"
        " SELECT account, base_url, 'unknown ' || account, user_id, key_id, first_seen_at_us"
        " FROM old_accounts"
    )
    op.drop_table("old_accounts")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('accounts', 'account'),"
            " (SELECT coalesce(max(account), 0) + 1 FROM accounts), false)"
        )


def _create_walks() -> None:
    op.create_table(
        "walks",
        sa.Column("walk", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("account", sa.Integer, nullable=False),
        sa.Column("page_size", sa.Integer, nullable=False),
        sa.Column("began", sa.Text, nullable=False),
        sa.Column("ended", sa.Text, nullable=False),
        sa.Column("reached_us", sa.BigInteger),
        sa.Column("witness_no", sa.BigInteger, nullable=False),
    )


def _create_numbers() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE mynth_numbers")
    else:
        op.execute("INSERT INTO meta (key, value) VALUES ('number', '0')")


def _create_exposure() -> None:
    final = "state IN ('completed', 'partial', 'failed')"
    held = "coalesce(reserved_units, quoted_units, 0)"
    unknown = f"state IN ('unresolved', 'lost', 'abandoned') OR ({final} AND charged_units IS NULL)"
    _add_sum("spent_units", "charged_units", f"{final} AND charged_units IS NOT NULL")
    _add_sum("reserved_units", held, "state IN ('sending', 'accepted')")
    _add_sum("unknown_units", held, unknown)


def _add_sum(column: str, amount: str, condition: str) -> None:
    """A counter of partitions, filled from what their intents came to so far."""
    counter = sa.Column(column, sa.BigInteger, nullable=False, server_default="0")
    op.add_column("partitions", counter)
    op.execute(
        f"UPDATE partitions SET {column} = (SELECT coalesce(sum({amount}), 0) FROM intents"  # noqa: S608
        ' WHERE intents.batch = partitions.batch AND intents."window" = partitions."window"'
        f" AND intents.fan_out = partitions.fan_out AND ({condition}))"
    )


def _date_doubts() -> None:
    """Waits of rows in doubt begin when they were claimed: nothing later was written down."""
    op.execute(
        "UPDATE intents SET doubted_no = 0, doubted_since = send_by_us || '//'"
        " WHERE state = 'unresolved'"
    )
