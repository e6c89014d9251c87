"""Walks say what they prove; tasks are placed in time by running numbers; events have a hash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NEWEST = {
    "sqlite": "(SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'number')",
    "postgresql": "(SELECT last_value FROM mynth_numbers)",
}


def upgrade() -> None:
    op.add_column("intents", sa.Column("accepted_no", sa.BigInteger))
    op.add_column("intents", sa.Column("held_because", sa.Text))
    newest = _NEWEST[op.get_bind().dialect.name]
    op.execute(f"UPDATE intents SET accepted_no = {newest} WHERE task_id IS NOT NULL")  # noqa: S608
    op.add_column("inbox", sa.Column("body_sha256", sa.Text))
    op.drop_column("intents", "claimed_server_us")
    op.drop_table("walks")
    op.create_table(
        "walks",
        sa.Column("walk", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("account", sa.Integer, nullable=False),
        sa.Column("page_size", sa.Integer, nullable=False),
        sa.Column("began", sa.Text, nullable=False),
        sa.Column("ended", sa.Text, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
    )
