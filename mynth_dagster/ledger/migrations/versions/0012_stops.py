"""Stops by a person's word, fences around runs that are over, and who wrote which tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stops",
        sa.Column("stop", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("batch", sa.Text, nullable=False),
        sa.Column("window", sa.Text),
        sa.Column("fan_out", sa.Text),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("lifted_at_us", sa.BigInteger),
        sa.Column("lifted_by", sa.Text),
    )
    op.create_table(
        "fences",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
    )
    op.add_column("partitions", sa.Column("collected_by", sa.Text))
