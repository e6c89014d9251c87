"""
What is known of a request whose answer was lost, and of the searches for its task.

A *walk* reads the task list from its newest entry down. It proves absence only if it was
thorough, late enough, and not looking at a stale list; `engine.clearing` decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from mynth_dagster.clock import Instant
from mynth_dagster.models.intent import Intent


@dataclass(frozen=True)
class Doubt:
    """
    An `unresolved` intent, or one that is `sending`, with what a search has to know.

    Args:
        account: The ledger's number of the account and key that sent it.
        claimed_server_us: When it was claimed, on the server's clock; None where not known.
        since: When its outcome became unknown: the request had ended, or its time was over.
            None while it may still be on its way.
        since_no: The ledger's running number of that moment.
        is_disputed: A task carries its id with another request's hash.
    """

    intent: Intent
    account: int | None
    claimed_server_us: int | None
    since: Instant | None
    since_no: int
    is_disputed: bool = False


@dataclass(frozen=True)
class Walk:
    """
    A walk over the task list that read every page and every unknown task to its end.

    Args:
        account: Whose list, as the ledger's number.
        reached_us: Creation of the oldest task seen, on the server's clock; None: the end.
        witness_no: The running number of the newest claim whose task the list showed.
    """

    account: int
    page_size: int
    began: Instant
    ended: Instant
    reached_us: int | None
    witness_no: int
