"""
The ledger's tables: a new ledger is created from them, and statements are written against them.

Migrations, from 0002 on, bring an older ledger to this schema.

Money is in units of 10⁻⁸ USD (64-bit integers), times are UTC microseconds.
States and their arrows are those of `models.transitions`.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
SEQUENCE = sa.Sequence("mynth_seq", metadata=METADATA)
"""The sequence of running numbers on Postgres; SQLite, which has none, counts in `meta`."""

_US = sa.BigInteger  # UTC microseconds
_UNITS = sa.BigInteger  # 10⁻⁸ USD

alembic_version = sa.Table(
    "alembic_version",
    METADATA,
    sa.Column("version_num", sa.String(32), primary_key=True),
)
"""Alembic's own table: the migration that the schema is at."""

meta = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""
Facts: `ledger_id`, `salt`, the last verdict on a server's revision, when a run that pays again
began, and on SQLite the newest running number (`seq`).
"""

accounts = sa.Table(
    "accounts",
    METADATA,
    sa.Column("account", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False, server_default=""),
    sa.Column("key_id", sa.Text, nullable=False, server_default=""),
    sa.Column("first_seen_at_us", _US, nullable=False),
    sa.UniqueConstraint("base_url", "fingerprint"),
)
"""
The keys that sent: base URL, a hash of the key with the ledger's salt, and the vendor's ids of
account and key (empty where not known).
"""

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
    sa.Column("spent_units", _UNITS, nullable=False, server_default="0"),
    sa.Column("reserved_units", _UNITS, nullable=False, server_default="0"),
    sa.Column("unknown_units", _UNITS, nullable=False, server_default="0"),
    sa.Column("downloaded", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("stopped_at_us", _US),
    sa.Column("collected_by", sa.Text),
)
"""
`version` rises with any change that the partition's tables show; `collected` is the version
that the tables have, `collected_by` the run that wrote them until it is known to have reported
them, and `downloaded` the version whose images were all processed. `submitter` names the
run that is sending now; `stopped_at_us` is when the last one ended early. `requested` counts
how often collection was requested. The three amounts are its exposure, which caps are checked
against; they change in the transaction of the write that changes them.
"""

DISPUTED = "other hash"
"""The source of an observation that proves nothing: its tag is of another request."""

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
    sa.Column("missing_since", sa.Text),
    sa.Column("claimed_seq", sa.BigInteger),
    sa.Column("accepted_seq", sa.BigInteger),
    sa.Column("claimant", sa.Text),
    sa.Column("unresolved_seq", sa.BigInteger),
    sa.Column("unresolved_since", sa.Text),
    sa.Column("held_because", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("error_field", sa.Text),
    sa.Column("http_status", sa.Integer),
    sa.UniqueConstraint("batch", "window", "request_key", "generation"),
    sa.Index("intents_by_state", "batch", "window", "fan_out", "state"),
    sa.Index(
        "intents_by_task",
        "task_id",
        sqlite_where=sa.text("task_id IS NOT NULL"),
        postgresql_where=sa.text("task_id IS NOT NULL"),
    ),
)
"""
`claimed_seq`, `accepted_seq` and `unresolved_seq` are running numbers: they order events whatever
the clocks show. `accepted_seq` is the newest number when the task's id was recorded.
`held_because` is why the last search could not prove that there is no task.
`missing_since` and `unresolved_since` are instants (`clock.Instant`), to measure waits from.
"""

tasks = sa.Table(
    "tasks",
    METADATA,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("intent_id", sa.Text, nullable=False),
    sa.Column("is_surplus", sa.Boolean, nullable=False),
    sa.Column("details", sa.Text),
    sa.Column("reserved_units", _UNITS),
    sa.Column("charged_units", _UNITS),
    sa.Column("read_at_us", _US),
    sa.Index(
        "surplus_tasks",
        "intent_id",
        sqlite_where=sa.text("is_surplus = 1"),
        postgresql_where=sa.text("is_surplus"),
    ),
)
"""
The tasks that were read, and every further (surplus) task of an intent that has one.

`details` is the finished task as read, null until then. A task that is still awaited is in its
intent alone, so a query for the owner of a task reads both.
"""

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
"""The end of each delivery that was not accepted: the evidence that `resolve` shows."""

observations = sa.Table(
    "observations",
    METADATA,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("intent_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("seen_at_us", _US, nullable=False),
    sa.Index(
        "disputed_observations",
        "intent_id",
        sqlite_where=sa.text(f"source = '{DISPUTED}'"),
        postgresql_where=sa.text(f"source = '{DISPUTED}'"),
    ),
)
"""Every task id that was ever connected with an intent, however late and from any source."""

walks = sa.Table(
    "walks",
    METADATA,
    sa.Column("walk", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("account", sa.Integer, nullable=False),
    sa.Column("page_size", sa.Integer, nullable=False),
    sa.Column("began", sa.Text, nullable=False),
    sa.Column("ended", sa.Text, nullable=False),
    sa.Column("findings", sa.Text, nullable=False),
)
"""Complete walks over the task list, as `models.intent.Walk`."""

webhook_events = sa.Table(
    "webhook_events",
    METADATA,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("is_signed", sa.Boolean, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("body", sa.Text),
    sa.Column("signed_at_us", _US),
    sa.Column("received_at_us", _US, nullable=False),
    sa.Column("due_at_us", _US, nullable=False),
    sa.Column("n_tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("done_at_us", _US),
    sa.Column("outcome", sa.Text),
    sa.Column("batch", sa.Text),
    sa.Column("body_sha256", sa.Text),
    sa.Index("webhook_events_by_work", "done_at_us", "received_at_us"),
    sa.Index("webhook_events_by_batch", "batch", "received_at_us"),
)
"""
Webhooks as they came, committed before they are acknowledged; duplicates share their `event_id`.

`done_at_us` is null until the event is processed; then `body` is dropped, its hash stays, and
`batch` is the batch of its task.
"""

uploads = sa.Table(
    "uploads",
    METADATA,
    sa.Column("account", sa.Integer, primary_key=True),
    sa.Column("content_hash", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("uploaded_at_us", _US, nullable=False),
)
"""Where each input file lies at Mynth: its newest upload under each account."""

tokens = sa.Table(
    "tokens",
    METADATA,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("expires_at_us", _US, nullable=False),
)
"""Public access tokens, where a batch asked for them: secrets that open one task each."""

follow_ups = sa.Table(
    "follow_ups",
    METADATA,
    sa.Column("intent_id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, primary_key=True),
    sa.Column("task_type", sa.Text, nullable=False),
)
"""
What a follow-up was sent with, kept before it is sent.

Such a request carries no metadata: type and URL are all that its task can be recognised by.
"""

downloads = sa.Table(
    "downloads",
    METADATA,
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
    sa.Column("at_us", _US, nullable=False),
)
"""The download of each image's file, as `models.failure.Download`."""

stops = sa.Table(
    "stops",
    METADATA,
    sa.Column("stop", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("batch", sa.Text, nullable=False),
    sa.Column("window", sa.Text),
    sa.Column("fan_out", sa.Text),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_us", _US, nullable=False),
    sa.Column("lifted_at_us", _US),
    sa.Column("lifted_by", sa.Text),
)
"""Stops: what is not sent, who set it and who lifted it; as `ledger.stops.Stop`."""

fences = sa.Table(
    "fences",
    METADATA,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_us", _US, nullable=False),
)
"""Fences: runs that claim nothing more, even if processes of them are left."""
