"""
What is known of a request whose answer was lost, and of a walk that searched for its task.

A *walk* reads the task list from its newest entry down; `engine.absence` says what it proves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mynth_dagster.clock import Instant
from mynth_dagster.limits import CLEAR_AFTER_S
from mynth_dagster.models.intent import Intent

TOO_EARLY = f"it may have reached Mynth late: searched before {CLEAR_AFTER_S / 60:.0f} min passed"
"""What a walk says that looked for a task, and is no proof whatever it saw."""


@dataclass(frozen=True)
class Doubt:
    """
    An `unresolved` intent, or one that is `sending`, with what a search has to know.

    Args:
        account: The ledger's number of the account and key that sent it.
        claimed_no: The ledger's running number of its claim; 0 where not known.
        since: When its outcome became unknown: the request had ended, or its time was over.
            None while it may still be on its way.
        since_no: The ledger's running number of that moment.
        is_disputed: A task carries its id with another request's hash.
    """

    intent: Intent
    account: int | None
    claimed_no: int
    since: Instant | None
    since_no: int
    is_disputed: bool = False


@dataclass(frozen=True)
class KnownTask:
    """
    A task of ours, placed in time by the ledger's running numbers alone.

    Args:
        claimed_no: Of the claim that it was made for: it is younger than everything that the
            ledger knew then. 0 where not known.
        accepted_no: The newest number when its id came into the ledger: it is older than every
            request that was claimed later. None where not known.
    """

    intent: Intent
    claimed_no: int
    accepted_no: int | None


@dataclass(frozen=True)
class StrangeTask:
    """
    A listed task that may be the one which is searched for.

    Args:
        type: As the list says.
        said: Why it may be.
        asked: Its prompt, or the image that it looks at; None where that is not known either.
    """

    task_id: str
    type: str
    said: str
    asked: str | None = None


@dataclass
class Trail:
    """
    What a walk saw, in the order of the list: newest first, places counted from 0.

    Args:
        began_no: The ledger's newest number when the walk began.
        known: Tasks of ours, each with its place.
        strange: Tasks that cannot be told from one of ours, each with its place.
        is_at_end: The last page was empty.
        flaw: Why the list as a whole proves nothing; empty where it may.
        tag_flaw: Why a missing tag proves nothing; empty where it may.
    """

    began_no: int
    known: list[tuple[int, KnownTask]] = field(default_factory=list)
    strange: list[tuple[int, StrangeTask]] = field(default_factory=list)
    n_places: int = 0
    is_at_end: bool = False
    flaw: str = ""
    tag_flaw: str = ""


@dataclass(frozen=True)
class Walk:
    """
    What one walk over the task list of an account said of each delivery that it searched for.

    Args:
        account: Whose list, as the ledger's number.
        said: By intent, why the walk does not prove that its request came to nothing; an empty
            text: it does.
    """

    account: int
    page_size: int
    began: Instant
    ended: Instant
    said: Mapping[str, str]
