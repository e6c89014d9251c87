"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_meta()
    _create_partitions()
    _create_intents()
    _create_evidence()


def _create_meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "accounts",
        sa.Column("account", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("base_url", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False, server_default=""),
        sa.Column("key_id", sa.Text, nullable=False, server_default=""),
        sa.Column("first_seen_at_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("base_url", "user_id", "key_id"),
    )


def _create_partitions() -> None:
    op.create_table(
        "partitions",
        sa.Column("batch", sa.Text, primary_key=True),
        sa.Column("window", sa.Text, primary_key=True),
        sa.Column("fan_out", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("collected", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("submitter", sa.Text),
        sa.Column("stop_code", sa.Text),
        sa.Column("stop_message", sa.Text),
        sa.Column("requested", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("spent_units", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reserved_units", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("unknown_units", sa.BigInteger, nullable=False, server_default="0"),
    )


def _create_intents() -> None:
    op.create_table(
        "intents",
        sa.Column("intent_id", sa.Text, primary_key=True),
        sa.Column("batch", sa.Text, nullable=False),
        sa.Column("window", sa.Text, nullable=False),
        sa.Column("request_key", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("prompt_id", sa.Text, nullable=False),
        sa.Column("fan_out", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("n_asked", sa.Integer, nullable=False),
        sa.Column("account", sa.Integer),
        sa.Column("quoted_units", sa.BigInteger),
        sa.Column("reserved_units", sa.BigInteger),
        sa.Column("charged_units", sa.BigInteger),
        sa.Column("claimed_at_us", sa.BigInteger, nullable=False),
        sa.Column("send_by_us", sa.BigInteger, nullable=False),
        sa.Column("submitted_at_us", sa.BigInteger),
        sa.Column("completed_at_us", sa.BigInteger),
        sa.Column("deadline_at_us", sa.BigInteger),
        sa.Column("task_id", sa.Text),
        sa.Column("remote_status", sa.Text),
        sa.Column("missed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("error_field", sa.Text),
        sa.Column("http_status", sa.Integer),
        sa.UniqueConstraint("batch", "window", "request_key", "generation"),
    )
    op.create_index("intents_by_state", "intents", ["batch", "window", "fan_out", "state"])
    op.create_index("intents_by_task", "intents", ["task_id"])


def _create_evidence() -> None:
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.Text, primary_key=True),
        sa.Column("intent_id", sa.Text, nullable=False),
        sa.Column("is_surplus", sa.Boolean, nullable=False),
        sa.Column("details", sa.Text),
        sa.Column("read_at_us", sa.BigInteger),
    )
    op.create_index("tasks_by_intent", "tasks", ["intent_id"])
    op.create_table(
        "attempts",
        sa.Column("intent_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("detail", sa.Text),
        sa.Column("ended_at_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sightings",
        sa.Column("task_id", sa.Text, primary_key=True),
        sa.Column("intent_id", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("seen_at_us", sa.BigInteger, nullable=False),
    )
