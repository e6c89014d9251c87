"""Indexes on what is rare, in the words that SQLite has to find in a query to use them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("surplus_tasks", "tasks")
    op.create_index(
        "surplus_tasks",
        "tasks",
        ["intent_id"],
        sqlite_where=sa.text("is_surplus = 1"),
        postgresql_where=sa.text("is_surplus"),
    )
    op.create_index(
        "disputed_sightings",
        "sightings",
        ["intent_id"],
        sqlite_where=sa.text("source = 'other hash'"),
        postgresql_where=sa.text("source = 'other hash'"),
    )
