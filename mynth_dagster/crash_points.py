"""
The moments at which a crash would be worst, by name.

Each is announced to Python's audit hooks when it is reached, which costs nothing where nobody
listens. The tests listen, and kill the process there; a point without such a test fails them.
`docs/guarantees.md` tells what happens after a crash at each.
"""

from __future__ import annotations

import sys
from enum import Enum

EVENT = "mynth_dagster.crash_point"


class CrashPoint(str, Enum):
    """A named moment between two things that should both happen."""

    UPLOADED = "after input files are uploaded, before their URLs are recorded"
    BEFORE_INTENT = "before the intent is recorded"
    IN_TRANSACTION = "inside the ledger's transaction, before its COMMIT"
    INTENT_COMMITTED = "after the intent is committed, before its request leaves"
    ANSWER_READ = "after the answer is read, before its task id is recorded"
    ANSWER_SPOOLED = "after the answer is in the journal, before the ledger has it"
    ANSWER_COMMITTED = "after the task id is committed"
    SUBMITTED = "after everything is sent, before the run says so"
    POLLED = "after a round of polling"
    RESULT_READ = "after a finished task is read, before it is recorded"
    RESULT_COMMITTED = "after a finished task is recorded"
    TABLES_STAGED = "after tables are written, before the first has its name"
    TABLE_PUBLISHED = "after one of several tables has its name"
    TABLES_PUBLISHED = "after all tables are published, before the ledger knows"
    DOWNLOADING = "in the middle of an image's download, before it is whole"
    DOWNLOAD_PUBLISHED = "after an image's file has its name, before it is recorded"
    DOWNLOAD_RECORDED = "after an image's file is recorded, before a table tells of it"
    WALKED = "after a walk over the task list, before it is recorded"
    WALK_RECORDED = "after a walk is recorded, before rows are marked by it"
    CLEARED = "after rows are marked as not accepted, before they are sent again"
    SPOOL_TAKEN_IN = "after answers of a journal are recorded, before it is deleted"
    BACKED_UP = "after the ledger is backed up, before it is migrated"
    MIGRATING = "inside a migration of the ledger"
    EVENT_VERIFIED = "after a webhook is verified, before it is kept"
    EVENT_KEPT = "after a webhook is kept, before it is acknowledged"
    EVENT_ATTACHED = "after a webhook's task is attached, before it is recorded"
    EVENT_RECORDED = "after a webhook's task is recorded, before the event is done"


def reach(point: CrashPoint) -> None:
    """Announce that this moment has come."""
    sys.audit(EVENT, point.name)
