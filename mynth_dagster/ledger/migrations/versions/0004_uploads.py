"""Uploads: which file lies at Mynth under which URL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("account", sa.Integer, primary_key=True),
        sa.Column("content_hash", sa.Text, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("uploaded_at_us", sa.BigInteger, nullable=False),
    )
