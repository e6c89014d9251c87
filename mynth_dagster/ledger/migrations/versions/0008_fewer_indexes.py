"""Indexes that every paid row had to keep up, and nothing needed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("tasks_by_intent", "tasks")
    op.drop_index("intents_by_task", "intents")
    op.create_index(
        "intents_by_task",
        "intents",
        ["task_id"],
        sqlite_where=sa.text("task_id IS NOT NULL"),
        postgresql_where=sa.text("task_id IS NOT NULL"),
    )
