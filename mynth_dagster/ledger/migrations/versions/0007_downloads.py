"""Downloads: what became of the file of each image."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "downloads",
        sa.Column("intent_id", sa.Text, primary_key=True),
        sa.Column("image_index", sa.Integer, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("uri", sa.Text),
        sa.Column("n_bytes", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("format", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("http_status", sa.Integer),
        sa.Column("at_us", sa.BigInteger, nullable=False),
    )
    op.add_column(
        "partitions",
        sa.Column("filed", sa.BigInteger, nullable=False, server_default="0"),
    )
