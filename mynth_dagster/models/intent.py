"""
Intents: the identity of a row and its generation, and the tag that identifies its task at Mynth.

A row is (batch, window, request key). The fan-out (shard or model partition) is not part of it:
eight shards may become sixteen and nothing is paid again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mynth_dagster.clock import Instant
from mynth_dagster.limits import ABSENT_AFTER_S, INTENT_TAG_KEY, INTENT_TAG_MAX_BYTES
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import STALLED, IntentState

INTENT_PREFIX = "int_"
LEDGER_PREFIX = "led_"
HASH_PREFIX_CHARS = 12


@dataclass(frozen=True)
class RowKey:
    """
    Identity of a prompt row.

    Args:
        batch: The batch's identity, by default its name.
        window: The partition key without its fan-out part; empty where there is none.
        request_key: The row's prompt id with its model.
    """

    batch: str
    window: str
    request_key: str


@dataclass(frozen=True)
class IntentTag:
    """The tag that a request carries under our metadata key, to be recognised later."""

    intent_id: str
    hash_prefix: str
    ledger_id: str

    def __str__(self) -> str:
        return f"{self.intent_id}.{self.hash_prefix}.{self.ledger_id}"

    def matches(self, stored_hash: str) -> bool:
        """Whether the tag was made for a request with this hash."""
        return hash_prefix(stored_hash) == self.hash_prefix

    def is_of(self, intent_id: str, stored_hash: str) -> bool:
        """Whether the tag is this intent's, for a request with this hash."""
        return self.intent_id == intent_id and self.matches(stored_hash)


@dataclass(frozen=True)
class Intent:
    """
    One paid request of a row, one generation of it, as the ledger knows it.

    Money is in units of 10⁻⁸ USD, None where unknown; times are UTC microseconds.

    Args:
        prompt_id: The row's name; `row.request_key` is it with the model.
        generation: 1-based.
        attempt: 1-based; how often delivery of this generation was tried.
        reason: Why it is withheld, or the last response if it is not accepted.
        request_hash: Hash of what it asks for, `<version>:<hex>`.
        n_asked: The number of images that it asks for.
        claimed_at_us: When the newest attempt was committed as `sending`.
        send_by_us: After this the attempt must not be handed to the network.
        deadline_at_us: After this an accepted task is shown as stalled.
        remote_status: The status that Mynth last gave; final here while the intent is still
            `accepted` means: finished, not read yet.
        missed: How often in a row Mynth did not know the task.
        held_because: Why a search could not prove that an unresolved request has no task.
    """

    intent_id: str
    row: RowKey
    prompt_id: str
    fan_out: str
    generation: int
    attempt: int
    state: IntentState
    request_hash: str
    model: str
    n_asked: int
    claimed_at_us: int
    send_by_us: int
    reason: str | None = None
    quoted_units: int | None = None
    reserved_units: int | None = None
    charged_units: int | None = None
    task_id: str | None = None
    remote_status: TaskStatus | None = None
    missed: int = 0
    held_because: str | None = None
    submitted_at_us: int | None = None
    completed_at_us: int | None = None
    deadline_at_us: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_field: str | None = None
    http_status: int | None = None

    def shown_status(self, now_us: int) -> str:
        """The status in tables and reports: the state, or `stalled` past the deadline."""
        overdue = self.deadline_at_us is not None and now_us > self.deadline_at_us
        waiting = self.state is IntentState.ACCEPTED and not self.is_finished_remotely
        return STALLED if waiting and overdue else self.state.value

    @property
    def is_finished_remotely(self) -> bool:
        """Whether the task is finished at Mynth, read by us or not."""
        return self.remote_status is not None and self.remote_status.is_final


@dataclass(frozen=True)
class SurplusTask:
    """A further task that Mynth made for an intent which already had one; charged, and listed."""

    task_id: str
    intent_id: str
    task: Task | None = None


def choose_current(intents: Sequence[Intent], stored_hash: str) -> Intent | None:
    """
    Return the generation of a row that counts now: the newest with the row's hash.

    None means that the row was never sent with its present content.
    """
    matching = [intent for intent in intents if intent.request_hash == stored_hash]
    return max(matching, key=lambda intent: intent.generation, default=None)


def choose_shown(intents: Sequence[Intent], stored_hash: str) -> Intent | None:
    """Return the generation that tables show: the newest that delivered, else the newest."""
    matching = [intent for intent in intents if intent.request_hash == stored_hash]
    delivered = [i for i in matching if i.state in (IntentState.COMPLETED, IntentState.PARTIAL)]
    return max(delivered or matching, key=lambda intent: intent.generation, default=None)


def intent_id(ledger_id: str, row: RowKey, generation: int) -> str:
    """
    Return the id of a row's generation, ``int_`` and 26 characters.

    A function of its arguments, so that a ledger rebuilt under the same id names the same intents.
    """
    parts = (ledger_id, row.batch, row.window, row.request_key, str(generation))
    framed = b"".join([_framed(part) for part in parts])
    return INTENT_PREFIX + _base32(hashlib.sha256(framed).digest(), 26)


def new_ledger_id(randomness: bytes) -> str:
    """Make a ledger's id from at least 8 random bytes, ``led_`` and 12 characters."""
    return LEDGER_PREFIX + _base32(randomness, 12)


def request_key(prompt_id: str, model: str) -> str:
    """
    Return a row's key within its window: the prompt id with the model.

    With one model too, so that a second one beside it leaves the rows of the first as they are.
    """
    return f"{prompt_id}@{model}"


def hash_prefix(stored_hash: str) -> str:
    """Return the part of a request hash that is in the tag."""
    return stored_hash.partition(":")[2][:HASH_PREFIX_CHARS]


def make_tag(intent: str, stored_hash: str, ledger_id: str) -> IntentTag:
    """Make the tag of one intent; at most `INTENT_TAG_MAX_BYTES` bytes by construction."""
    return IntentTag(intent, hash_prefix(stored_hash), ledger_id)


def parse_tag(value: object) -> IntentTag | None:
    """Read the tag in a metadata value; None if the value is not one of ours."""
    if not isinstance(value, str) or len(value) > INTENT_TAG_MAX_BYTES:
        return None
    parts = value.split(".")
    if len(parts) != 3 or not parts[0].startswith(INTENT_PREFIX):
        return None
    return IntentTag(*parts) if parts[2].startswith(LEDGER_PREFIX) else None


def tag_of(task: Task) -> IntentTag | None:
    """Return the tag that a task carries, or None if it carries none of ours."""
    return parse_tag(task.metadata.get(INTENT_TAG_KEY))


def shard_of(prompt_id: str, n_shards: int) -> int:
    """Return the shard of a prompt row, 0-based; stable across releases, machines, row order."""
    digest = hashlib.blake2b(prompt_id.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % n_shards


def _framed(part: str) -> bytes:
    raw = part.encode("utf-8")
    return len(raw).to_bytes(4, "big") + raw


def _base32(raw: bytes, n_chars: int) -> str:
    # Whole quanta of five bytes, and no more of them than are shown.
    some = raw[: -(-n_chars // 8) * 5]
    return base64.b32encode(some).decode("ascii").lower().rstrip("=")[:n_chars]


# Tasks that are waited for, held by the ten thousand: no more of an intent than waiting needs.


@dataclass(frozen=True, slots=True)
class Awaited:
    """
    An accepted intent and its task; times are UTC microseconds.

    Args:
        n_asked: Images asked for.
        since_us: When it was submitted.
        deadline_at_us: After this the task is called stalled.
        remote_status: The status that Mynth last gave; final: finished, and not read yet.
        missed: How often in a row Mynth did not know the task.
        request_hash: What was asked, as in the tag that the task carries.
        model: The model, or the task type of a follow-up.
        account: The ledger's number of the account and key that sent it.
    """

    intent_id: str
    task_id: str
    n_asked: int
    since_us: int
    deadline_at_us: int | None = None
    remote_status: TaskStatus | None = None
    missed: int = 0
    request_hash: str = ""
    model: str = ""
    account: int | None = None

    @classmethod
    def of(cls, intent: Intent, task_id: str) -> Awaited:
        """Make one of a task that was attached to an intent, its first one or a further one."""
        return cls(intent.intent_id, task_id, intent.n_asked, intent.claimed_at_us)

    @property
    def is_finished_remotely(self) -> bool:
        """Whether the task is finished at Mynth."""
        return self.remote_status is not None and self.remote_status.is_final

    def is_stalled(self, now_us: int) -> bool:
        """Whether the task is pending past its deadline."""
        is_late = self.deadline_at_us is not None and now_us > self.deadline_at_us
        return is_late and not self.is_finished_remotely


# A request whose response was lost, and the walks that searched for its task.
#
# A *walk* reads the task list from its newest entry down; `engine.lost_responses` defines what it
# proves.


TOO_EARLY = f"it may have reached Mynth late: searched before {ABSENT_AFTER_S / 60:.0f} min passed"
"""The finding of a walk that began too early to prove anything."""


@dataclass(frozen=True)
class UnresolvedIntent:
    """
    An `unresolved` intent, or one that is `sending`, with the facts that a search needs.

    Args:
        account: The ledger's number of the account and key that sent it.
        claimed_seq: The ledger's running number of its claim; 0 where not known.
        since: When its outcome became unknown: the request had ended, or its time was over.
            None while it may still be on its way.
        unresolved_seq: The ledger's running number at that time.
        is_disputed: A task carries its id with another request's hash.
    """

    intent: Intent
    account: int | None
    claimed_seq: int
    since: Instant | None
    unresolved_seq: int
    is_disputed: bool = False


@dataclass(frozen=True)
class KnownTask:
    """
    A task of ours, placed in time by the ledger's running numbers alone.

    Args:
        claimed_seq: Of the claim that it was made for: it is younger than everything that the
            ledger knew then. 0 where not known.
        accepted_seq: The newest number when its id came into the ledger: it is older than every
            request that was claimed later. None where not known.
    """

    intent: Intent
    claimed_seq: int
    accepted_seq: int | None


@dataclass(frozen=True)
class StrangeTask:
    """
    A listed task that may be the one which is searched for.

    Args:
        type: As in the list.
        reason: Why it may be.
        content: Its prompt, or the image that it is about; None where that is not known either.
    """

    task_id: str
    type: str
    reason: str
    content: str | None = None


@dataclass
class Trail:
    """
    The tasks that a walk saw, in the order of the list: newest first, places counted from 0.

    Args:
        began_seq: The ledger's newest number when the walk began.
        known: Tasks of ours, each with its place.
        strange: Tasks that cannot be distinguished from one of ours, each with its place.
        is_at_end: The last page was empty.
        flaw: Why the list as a whole proves nothing; empty where it may.
        tag_flaw: Why a missing tag proves nothing; empty where it may.
    """

    began_seq: int
    known: list[tuple[int, KnownTask]] = field(default_factory=list)
    strange: list[tuple[int, StrangeTask]] = field(default_factory=list)
    n_places: int = 0
    is_at_end: bool = False
    flaw: str = ""
    tag_flaw: str = ""


@dataclass(frozen=True)
class Walk:
    """
    One walk over the task list of an account, with its finding for each request it searched for.

    Args:
        account: Whose list, as the ledger's number.
        findings: By intent, why the walk does not prove that its request came to nothing; an empty
            text: it does.
    """

    account: int
    page_size: int
    began: Instant
    ended: Instant
    findings: Mapping[str, str]
