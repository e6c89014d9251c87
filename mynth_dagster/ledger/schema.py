"""
The ledger's tables. Migrations create them; this is what statements are written against.

Money is in units of 10⁻⁸ USD (64-bit integers), times are UTC microseconds.
States and their arrows are those of `models.transitions`.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

_US = sa.BigInteger  # UTC microseconds
_UNITS = sa.BigInteger  # 10⁻⁸ USD

meta = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""`ledger_id`, `salt`, and the last verdict on a server's revision."""

accounts = sa.Table(
    "accounts",
    METADATA,
    sa.Column("account", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False, server_default=""),
    sa.Column("key_id", sa.Text, nullable=False, server_default=""),
    sa.Column("first_seen_at_us", _US, nullable=False),
    sa.UniqueConstraint("base_url", "user_id", "key_id"),
)
"""Who sent: base URL, the vendor's user id and the key's id (empty where not known)."""

partitions = sa.Table(
    "partitions",
    METADATA,
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
"""
`version` rises with any change that the partition's tables show; `collected` is the version
that the tables have. `submitter` names the run that is sending now. `requested` counts how often
collection was asked for.
"""

intents = sa.Table(
    "intents",
    METADATA,
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
    sa.Column("quoted_units", _UNITS),
    sa.Column("reserved_units", _UNITS),
    sa.Column("charged_units", _UNITS),
    sa.Column("claimed_at_us", _US, nullable=False),
    sa.Column("send_by_us", _US, nullable=False),
    sa.Column("submitted_at_us", _US),
    sa.Column("completed_at_us", _US),
    sa.Column("deadline_at_us", _US),
    sa.Column("task_id", sa.Text),
    sa.Column("remote_status", sa.Text),
    sa.Column("missed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("error_field", sa.Text),
    sa.Column("http_status", sa.Integer),
    sa.UniqueConstraint("batch", "window", "request_key", "generation"),
    sa.Index("intents_by_state", "batch", "window", "fan_out", "state"),
    sa.Index("intents_by_task", "task_id"),
)

tasks = sa.Table(
    "tasks",
    METADATA,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("intent_id", sa.Text, nullable=False),
    sa.Column("is_surplus", sa.Boolean, nullable=False),
    sa.Column("details", sa.Text),
    sa.Column("read_at_us", _US),
    sa.Index("tasks_by_intent", "intent_id"),
)
"""Every task of ours; `details` is the finished task as read, null until then."""

attempts = sa.Table(
    "attempts",
    METADATA,
    sa.Column("intent_id", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("http_status", sa.Integer),
    sa.Column("detail", sa.Text),
    sa.Column("ended_at_us", _US, nullable=False),
)
"""How each delivery that was not accepted ended; the evidence that `resolve` shows."""

sightings = sa.Table(
    "sightings",
    METADATA,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("intent_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("seen_at_us", _US, nullable=False),
)
"""Each task id that was ever connected with an intent, however late and from wherever."""

budgets = sa.Table(
    "budgets",
    METADATA,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("spent_units", _UNITS, nullable=False, server_default="0"),
    sa.Column("reserved_units", _UNITS, nullable=False, server_default="0"),
    sa.Column("unknown_units", _UNITS, nullable=False, server_default="0"),
)
"""Counters per scope, changed in the transaction of the intent that changes them."""
