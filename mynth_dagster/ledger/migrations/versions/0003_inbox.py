"""The inbox: what webhooks told, kept before it is acknowledged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("is_signed", sa.Boolean, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("task_id", sa.Text, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("signed_at_us", sa.BigInteger),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
        sa.Column("due_at_us", sa.BigInteger, nullable=False),
        sa.Column("n_tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("done_at_us", sa.BigInteger),
        sa.Column("outcome", sa.Text),
        sa.Column("batch", sa.Text),
        sa.Column("waited_us", sa.BigInteger),
    )
    op.create_index("inbox_by_work", "inbox", ["done_at_us", "received_at_us"])
    op.create_index("inbox_by_batch", "inbox", ["batch", "received_at_us"])
