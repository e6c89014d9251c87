"""
The queries of the ledger. Synchronous: call them from a worker thread, never on the event loop.

Every query waits for a while if the database is unreachable; then it raises
`LedgerUnavailableError` with the driver's message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import Instant, block_s
from mynth_dagster.errors import ConfigError, name_some
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.database import DATABASE_NOW, RetryBudget, in_our_words, is_outage
from mynth_dagster.ledger.files import download_from_row
from mynth_dagster.ledger.rows import (
    in_slices,
    intent_from_row,
    is_partition,
    of_accounts,
    task_from_json,
)
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import (
    Awaited,
    Intent,
    KnownTask,
    SurplusTask,
    UnresolvedIntent,
    Walk,
)
from mynth_dagster.models.money import NO_MONEY, Exposure, MoneyGroup, Receipt, receipt_of
from mynth_dagster.models.request import normal_url
from mynth_dagster.models.task import PublicAccessToken, Task, TaskStatus
from mynth_dagster.models.transitions import HELD, Event, IntentState, states_before

_intents, _tasks, _partitions = schema.intents, schema.tasks, schema.partitions
_observations, _follow_ups = schema.observations, schema.follow_ups
T = TypeVar("T")
Row = Mapping[Any, Any]

ROWS_AT_ONCE = 500
"""Rows of a streamed result that are in memory at a time."""

IN_MAX = 5000
"""Values in one statement; SQLite allows 32,766 in all."""


@dataclass(frozen=True)
class PartitionRow:
    """One partition as the ledger knows it; money in units of 10⁻⁸ USD."""

    batch: str
    window: str
    fan_out: str
    version: int
    collected: int
    submitter: str | None
    stop_code: str | None
    stop_message: str | None
    spent_units: int = 0
    reserved_units: int = 0
    unknown_units: int = 0
    downloaded: int = 0
    stopped_at_us: int | None = None
    collected_by: str | None = None

    @property
    def exposure(self) -> Exposure:
        return Exposure(self.spent_units, self.reserved_units, self.unknown_units)


@dataclass(frozen=True)
class StateCount:
    """Intents of one partition in one state, and their money in units of 10⁻⁸ USD."""

    window: str
    fan_out: str
    state: IntentState
    finished_remotely: bool
    n_intents: int
    reserved_units: int
    charged_units: int


@dataclass(frozen=True)
class Moving:
    """
    Intents of one partition that are on their way.

    `n_finished` tasks are finished at Mynth and not read; `n_stalled` are past their deadline.
    """

    n_sending: int = 0
    n_pending: int = 0
    n_finished: int = 0
    n_stalled: int = 0


@dataclass(frozen=True)
class Attempt:
    """How one request of an intent ended without a task."""

    attempt: int
    outcome: str
    http_status: int | None
    detail: str | None
    ended_at_us: int


@dataclass(frozen=True)
class Resting:
    """
    Deliveries of one partition that were proved not accepted, and those in doubt.

    `n_unsearched` of those in doubt were not yet searched for late enough to prove anything.
    """

    n_not_accepted: int = 0
    n_unsearched: int = 0


@dataclass(frozen=True)
class AccountRow:
    """
    One key of one account.

    Args:
        fingerprint: The key under the ledger's salt.
        user_id: The vendor's name of the account; empty where not known.
        key_id: The vendor's name of the key; empty where not known.
    """

    number: int
    base_url: str
    fingerprint: str
    user_id: str
    key_id: str


FollowUpKey = tuple[str, str]
"""Task type and URL, in its normal form."""


@dataclass(frozen=True)
class OpenFollowUp:
    """
    A follow-up whose task may turn up.

    Args:
        account: The ledger's number of the account and key that sent it.
        claimed_seq: The ledger's running number of its claim; 0 where not known.
    """

    intent: Intent
    account: int | None
    claimed_seq: int


class Reader:
    """Runs queries on one ledger; waits for a while if the database is unreachable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _stream(self, query: sa.Select[Any], read: Callable[[Row], T]) -> Iterator[T]:
        """
        Yield what `read` makes of each row, a few hundred in memory at a time.

        Raises:
            LedgerUnavailableError: The database failed, with the driver's message.
        """
        budget = RetryBudget()
        while True:
            n_read = 0
            try:
                with self._engine.connect() as connection:
                    result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
                    for row in result.mappings():
                        n_read += 1
                        yield read(row)
            except sa.exc.SQLAlchemyError as error:
                pause_s = budget.next_pause_s() if is_outage(error) and n_read == 0 else None
                if pause_s is None:
                    raise in_our_words(error, "the ledger cannot be read") from error
            else:
                return
            block_s(pause_s)

    def _all(self, query: sa.Select[Any]) -> Sequence[Row]:
        """Return all rows at once, with no cursor left open at the server."""
        budget = RetryBudget()
        while True:
            try:
                with self._engine.connect() as connection:
                    return connection.execute(query).mappings().all()
            except sa.exc.SQLAlchemyError as error:
                pause_s = budget.next_pause_s() if is_outage(error) else None
                if pause_s is None:
                    raise in_our_words(error, "the ledger cannot be read") from error
            block_s(pause_s)

    def _of(
        self, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Sequence[str]
    ) -> Iterator[Row]:
        """Yield the rows of a query with one of these values in a column."""
        if self._engine.dialect.name == "postgresql":
            values = [value for value in values if "\0" not in value]  # which Postgres cannot hold
        for chunk in chunks(values, IN_MAX):
            yield from self._all(query.where(column.in_(chunk)))


class Queries(Reader):
    """Queries of one ledger."""

    def now(self, ours: Instant) -> Instant:
        """Return the present time: the database's where hosts share it, else this machine's."""
        if self._engine.dialect.name != "postgresql":
            return ours
        (row,) = self._all(DATABASE_NOW)
        return Instant(int(row["now_us"]))

    # Intents

    def intents_for(
        self, batch: str, window: str, request_keys: Sequence[str]
    ) -> dict[str, list[Intent]]:
        """Return all generations of these rows, by request key, oldest first."""
        found: dict[str, list[Intent]] = {}
        query = sa.select(_intents).where(_intents.c.batch == batch, _intents.c.window == window)
        query = query.order_by(_intents.c.generation)
        for row in self._of(query, _intents.c.request_key, request_keys):
            found.setdefault(row["request_key"], []).append(intent_from_row(row))
        return found

    def delivered(self, batch: str, slice_: Slice, request_keys: Sequence[str]) -> dict[str, str]:
        """
        Return which of these rows have one generation, here, delivered and paid for: key to hash.

        These are nearly all rows of a table that is run again; the others have to be examined.
        """
        later = _intents.alias("later")
        is_renewed = sa.exists().where(
            later.c.batch == _intents.c.batch,
            later.c.window == _intents.c.window,
            later.c.request_key == _intents.c.request_key,
            later.c.generation > 1,
        )
        # Behind functions, so that no index on places and states is taken for the one on keys.
        query = sa.select(_intents.c.request_key, _intents.c.request_hash).where(
            _intents.c.batch == batch,
            _intents.c.window == slice_.window,
            _intents.c.generation == 1,
            sa.func.coalesce(_intents.c.fan_out, "") == slice_.fan_out,
            sa.func.coalesce(_intents.c.state, "") == IntentState.COMPLETED.value,
            _intents.c.task_id.is_not(None),
            sa.func.coalesce(_intents.c.charged_units, 1) != 0,
            ~is_renewed,
        )
        rows = self._of(query, _intents.c.request_key, request_keys)
        return {row["request_key"]: row["request_hash"] for row in rows}

    def intents_by_id(self, intent_ids: Sequence[str]) -> dict[str, Intent]:
        """Return these intents, by id."""
        rows = self._of(sa.select(_intents), _intents.c.intent_id, intent_ids)
        return {row["intent_id"]: intent_from_row(row) for row in rows}

    def standing(self, intent_ids: Sequence[str]) -> set[str]:
        """Return the claimants of these intents that are still `sending`: not taken over."""
        is_sending = _intents.c.state == IntentState.SENDING.value
        query = sa.select(_intents.c.claimant).where(is_sending)
        rows = self._of(query, _intents.c.intent_id, intent_ids)
        return {row["claimant"] for row in rows}

    def keys_of_slice(self, batch: str, slice_: Slice) -> Iterator[tuple[str, str]]:
        """Stream request key and id of each intent of a partition, by key and generation."""
        query = (
            sa.select(_intents.c.request_key, _intents.c.intent_id)
            .where(_intents.c.batch == batch, _intents.c.window == slice_.window)
            .where(_intents.c.fan_out == slice_.fan_out)
            .order_by(_intents.c.request_key, _intents.c.generation)
        )
        return self._stream(query, lambda row: (row["request_key"], row["intent_id"]))

    def n_rows_of_slice(self, batch: str, slice_: Slice) -> int:
        """Count the rows of a partition that have an intent."""
        return self._n_rows(batch, slice_)

    def n_paid_rows(self, batch: str, slice_: Slice) -> int:
        """Count the rows of a partition with a task of some cost, or of unknown cost."""
        was_paid = sa.func.coalesce(_intents.c.charged_units, 1) != 0
        return self._n_rows(batch, slice_, _intents.c.task_id.is_not(None), was_paid)

    def _n_rows(self, batch: str, slice_: Slice, *conditions: sa.ColumnElement[bool]) -> int:
        n_rows = sa.func.count(_intents.c.request_key.distinct()).label("n_rows")
        query = sa.select(n_rows).where(_intents.c.batch == batch, in_slices([slice_]), *conditions)
        return int(self._all(query)[0]["n_rows"])

    # Tasks

    def awaited(
        self, batch: str, slices: Iterable[Slice], accounts: Collection[int] | None
    ) -> list[Awaited]:
        """Return tasks of these accounts that were accepted and not read, by submission."""
        since = sa.func.coalesce(_intents.c.submitted_at_us, _intents.c.claimed_at_us)
        names = (
            *("intent_id", "task_id", "n_asked", "deadline_at_us", "remote_status", "missed"),
            *("request_hash", "model", "account"),
        )
        query = (
            sa.select(*(_intents.c[name] for name in names), since.label("since_us"))
            .where(_intents.c.batch == batch, in_slices(slices))
            .where(_intents.c.state == IntentState.ACCEPTED.value, of_accounts(accounts))
            .order_by(_intents.c.submitted_at_us, _intents.c.claimed_at_us, _intents.c.intent_id)
        )

        def read(row: Row) -> Awaited:
            status = row["remote_status"]
            return Awaited(**{**row, "remote_status": TaskStatus(status) if status else None})

        return list(self._stream(query, read))

    def unread(
        self, batch: str, slices: Iterable[Slice], accounts: Collection[int] | None
    ) -> list[Awaited]:
        """Return the awaited tasks that are finished."""
        tasks = self.awaited(batch, slices, accounts)
        return [task for task in tasks if task.is_finished_remotely]

    def owners(self, task_ids: Sequence[str]) -> dict[str, str]:
        """Return the intents of the tasks that are ours, by task id."""
        return {
            row["task_id"]: row["intent_id"]
            for table in (_intents, _tasks)
            for row in self._of(
                sa.select(table.c.task_id, table.c.intent_id), table.c.task_id, task_ids
            )
        }

    def tasks_for(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """Return the finished tasks among these, as read."""
        query = sa.select(_tasks.c.task_id, _tasks.c.details).where(_tasks.c.details.is_not(None))
        rows = self._of(query, _tasks.c.task_id, task_ids)
        return {row["task_id"]: task_from_json(row["details"]) for row in rows}

    def surplus_for(self, intent_ids: Sequence[str]) -> dict[str, list[SurplusTask]]:
        """Return further tasks of these intents, by intent id."""
        found: dict[str, list[SurplusTask]] = {}
        query = sa.select(_tasks).where(_tasks.c.is_surplus).order_by(_tasks.c.task_id)
        for row in self._of(query, _tasks.c.intent_id, intent_ids):
            task = task_from_json(row["details"]) if row["details"] else None
            surplus = SurplusTask(row["task_id"], row["intent_id"], task)
            found.setdefault(row["intent_id"], []).append(surplus)
        return found

    def unread_surplus(
        self, batch: str, slices: Iterable[Slice] | None, accounts: Collection[int] | None
    ) -> list[tuple[Intent, str]]:
        """Return further tasks of these accounts, in these partitions or all, not read yet."""
        query = (
            sa.select(_intents, _tasks.c.task_id.label("surplus_id"))
            .join(_tasks, _tasks.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.batch == batch, in_slices(slices), of_accounts(accounts))
            .where(_tasks.c.is_surplus, _tasks.c.details.is_(None))
            .order_by(_tasks.c.task_id)
        )
        return [(intent_from_row(row), row["surplus_id"]) for row in self._all(query)]

    def tokens(self, task_ids: Sequence[str]) -> dict[str, PublicAccessToken]:
        """Return the public access tokens of the tasks that have one, by task id."""
        rows = self._of(sa.select(schema.tokens), schema.tokens.c.task_id, task_ids)
        return {
            row["task_id"]: PublicAccessToken(row["token"], row["expires_at_us"]) for row in rows
        }

    def sources_of(self, intent_id: str, task_id: str) -> list[str]:
        """Return the sources that showed that the task belongs to the intent."""
        query = sa.select(_observations.c.source).filter_by(intent_id=intent_id, task_id=task_id)
        return [str(row["source"]) for row in self._all(query)]

    # Files

    def downloads_for(self, intent_ids: Sequence[str]) -> dict[str, dict[int, Download]]:
        """Return the downloads of these intents' images, by intent id and image index."""
        found: dict[str, dict[int, Download]] = {}
        downloads = schema.downloads
        for row in self._of(sa.select(downloads), downloads.c.intent_id, intent_ids):
            found.setdefault(row["intent_id"], {})[row["image_index"]] = download_from_row(row)
        return found

    def uploads(self, account: int, hashes: Sequence[str], *, since_us: int) -> dict[str, str]:
        """Return the URLs, by content, of files that were not uploaded before this time."""
        uploads = schema.uploads
        query = sa.select(uploads.c.content_hash, uploads.c.url).where(
            uploads.c.account == account, uploads.c.uploaded_at_us >= since_us
        )
        rows = self._of(query, uploads.c.content_hash, hashes)
        return {row["content_hash"]: row["url"] for row in rows}

    # Partitions

    def batches(self) -> list[str]:
        """Return the names of all batches."""
        query = sa.select(_partitions.c.batch).distinct().order_by(_partitions.c.batch)
        return [str(row["batch"]) for row in self._all(query)]

    def require_batch(self, batch: str) -> str:
        """
        Check the name of a batch that a person gave, and return it.

        Raises:
            ConfigError: There is no such batch; names those that there are.
        """
        batches = self.batches()
        if batch not in batches:
            known = name_some(batches) or "none"
            raise ConfigError("batch", f"the ledger has no batch {batch!r}; it has {known}")
        return batch

    def partitions(self, batch: str) -> list[PartitionRow]:
        """Return all partitions that anything was ever sent for."""
        query = _PARTITION_ROWS.where(_partitions.c.batch == batch)
        query = query.order_by(_partitions.c.window, _partitions.c.fan_out)
        return list(self._stream(query, lambda row: PartitionRow(**row)))

    def partition(self, batch: str, slice_: Slice) -> PartitionRow | None:
        """Return one partition, or None if nothing was ever sent for it."""
        rows = self._all(_PARTITION_ROWS.where(is_partition(batch, slice_)))
        return PartitionRow(**rows[0]) if rows else None

    def counts(self, batch: str, slices: Iterable[Slice] | None = None) -> list[StateCount]:
        """Count intents by partition and state; of all partitions if none are given."""
        finished = _is_finished_remotely()
        group = (_intents.c.window, _intents.c.fan_out, _intents.c.state, finished)
        query = (
            sa.select(
                *group[:3],
                finished.label("finished_remotely"),
                sa.func.count().label("n_intents"),
                sa.func.coalesce(sa.func.sum(_intents.c.reserved_units), 0).label("reserved_units"),
                sa.func.coalesce(sa.func.sum(_intents.c.charged_units), 0).label("charged_units"),
            )
            .where(_intents.c.batch == batch, in_slices(slices))
            .group_by(*group)
            .order_by(_intents.c.window, _intents.c.fan_out)
        )

        def read(row: Row) -> StateCount:
            state, is_finished = IntentState(row["state"]), bool(row["finished_remotely"])
            return StateCount(**{**row, "state": state, "finished_remotely": is_finished})

        return list(self._stream(query, read))

    def moving(
        self, batch: str, now_us: int, accounts: Collection[int] | None
    ) -> dict[tuple[str, str], Moving]:
        """
        Count intents on their way by window and fan-out; idle partitions are left out.

        A finished task counts as finished if these accounts can read it, else as pending.
        """
        finished = sa.and_(_is_finished_remotely(), of_accounts(accounts))
        is_late = sa.func.coalesce(_intents.c.deadline_at_us < now_us, sa.false())
        is_accepted = _intents.c.state == IntentState.ACCEPTED.value
        kinds = {
            "n_sending": ~is_accepted,
            "n_finished": sa.and_(is_accepted, finished),
            "n_stalled": sa.and_(is_accepted, ~finished, is_late),
            "n_pending": sa.and_(is_accepted, ~finished, ~is_late),
        }
        states = [IntentState.ACCEPTED.value, IntentState.SENDING.value]
        return self._count_by_place(batch, kinds, _intents.c.state.in_(states), Moving)

    def resting(self, batch: str) -> dict[tuple[str, str], Resting]:
        """Return resting deliveries by window and fan-out; partitions without any are left out."""
        is_not_accepted = _intents.c.state == IntentState.NOT_ACCEPTED.value
        is_unresolved = _intents.c.state == IntentState.UNRESOLVED.value
        kinds = {
            "n_not_accepted": is_not_accepted,
            "n_unsearched": is_unresolved & _intents.c.held_because.is_(None),
        }
        return self._count_by_place(batch, kinds, is_not_accepted | is_unresolved, Resting)

    def _count_by_place(
        self,
        batch: str,
        kinds: Mapping[str, sa.ColumnElement[bool]],
        condition: sa.ColumnElement[bool],
        counts: Callable[..., T],
    ) -> dict[tuple[str, str], T]:
        """Count the intents of each kind, by window and fan-out."""
        summed = [sa.func.sum(sa.case((kind, 1), else_=0)).label(n) for n, kind in kinds.items()]
        query = sa.select(*_PLACE, *summed).where(_intents.c.batch == batch, condition)
        return {
            (row["window"], row["fan_out"]): counts(**{name: int(row[name]) for name in kinds})
            for row in self._all(query.group_by(*_PLACE))
        }

    def last_tries_us(self, batch: str, slices: Sequence[Slice]) -> dict[tuple[str, str], int]:
        """
        Return when a delivery into each of these partitions last began, or a run last stopped.

        A run stops for all its partitions at once, also for those that it had not begun. Reads
        all rows of these partitions.
        """
        begun = (
            sa.select(*_PLACE, sa.func.max(_intents.c.claimed_at_us).label("at_us"))
            .where(_intents.c.batch == batch, in_slices(slices))
            .group_by(*_PLACE)
        )
        place = (_partitions.c.window, _partitions.c.fan_out)
        stopped = (
            sa.select(*place, _partitions.c.stopped_at_us.label("at_us"))
            .where(_partitions.c.batch == batch, in_slices(slices, _partitions))
            .where(_partitions.c.stopped_at_us.is_not(None))
        )
        tries: dict[tuple[str, str], int] = {}
        for row in (*self._all(begun), *self._all(stopped)):
            key = row["window"], row["fan_out"]
            tries[key] = max(tries.get(key, 0), int(row["at_us"]))
        return tries

    # Money

    def receipt(self, batch: str, slices: Iterable[Slice] | None = None) -> Receipt:
        """Return what these partitions, or all of the batch, have cost and may yet cost."""
        where = (_intents.c.batch == batch, in_slices(slices))
        held = sa.func.coalesce(_intents.c.reserved_units, _intents.c.quoted_units, 0)
        of_intents = _sums(
            _intents.c.state, _intents.c.quoted_units, held, _intents.c.charged_units
        )
        of_surplus = _sums(
            sa.null(),
            sa.literal(0),
            sa.func.coalesce(_tasks.c.reserved_units, 0),
            _tasks.c.charged_units,
        ).join_from(_tasks, _intents, _intents.c.intent_id == _tasks.c.intent_id)
        queries = (of_intents.where(*where), of_surplus.where(*where, _tasks.c.is_surplus))
        groups = [_group(row) for query in queries for row in self._all(query)]
        return sum(map(receipt_of, groups), NO_MONEY)

    # Requests whose outcome is not known

    def held(self, batch: str | None = None) -> list[Intent]:
        """Return all intents that only evidence or a person can resolve, oldest first."""
        query = sa.select(_intents).where(_intents.c.state.in_([state.value for state in HELD]))
        if batch is not None:
            query = query.where(_intents.c.batch == batch)
        ordered = query.order_by(_intents.c.claimed_at_us, _intents.c.intent_id)
        return list(self._stream(ordered, intent_from_row))

    def unresolved(
        self, batch: str, slices: Iterable[Slice] | None, states: Iterable[IntentState]
    ) -> list[UnresolvedIntent]:
        """Return requests of these partitions, or of all, whose task may have to be searched."""
        disputed = sa.exists().where(
            _observations.c.intent_id == _intents.c.intent_id, _observations.c.source == _DISPUTED
        )
        query = sa.select(_intents, disputed.label("is_disputed")).where(
            _intents.c.batch == batch,
            in_slices(slices),
            _intents.c.state.in_([state.value for state in states]),
        )

        def read(row: Row) -> UnresolvedIntent:
            since = row["unresolved_since"]
            return UnresolvedIntent(
                intent=intent_from_row(row),
                account=row["account"],
                claimed_seq=row["claimed_seq"] or 0,
                since=Instant.parse(since) if since else None,
                unresolved_seq=row["unresolved_seq"] or 0,
                is_disputed=bool(row["is_disputed"]),
            )

        return list(self._stream(query, read))

    def walks(self, account: int) -> list[Walk]:
        """Return the newest walks over this account's list, oldest first."""
        table = schema.walks
        query = sa.select(table).where(table.c.account == account).order_by(table.c.walk)
        return [
            Walk(
                account=row["account"],
                page_size=row["page_size"],
                began=Instant.parse(row["began"]),
                ended=Instant.parse(row["ended"]),
                findings=json.loads(row["findings"]),
            )
            for row in self._all(query)
        ]

    def known_tasks(self, task_ids: Sequence[str]) -> dict[str, KnownTask]:
        """Return the tasks among these that are the first one of an intent of ours."""
        found: dict[str, KnownTask] = {}
        for row in self._of(sa.select(_intents), _intents.c.task_id, task_ids):
            # Of several attempts, the task may be that of an earlier one: its claim is not known.
            is_of_claim = row["attempt"] == 1 and row["claimed_seq"] is not None
            claimed_seq = row["claimed_seq"] if is_of_claim else 0
            known = KnownTask(intent_from_row(row), claimed_seq, row["accepted_seq"])
            found[row["task_id"]] = known
        return found

    def tasks_until(self, account: int, newest_seq: int) -> list[str]:
        """Return the account's tasks whose ids were known when this number was given."""
        is_known = _intents.c.accepted_seq <= newest_seq
        return list(self._stream(_task_ids(account).where(is_known), _task_id))

    def tasks_between(self, account: int, oldest_seq: int, newest_seq: int) -> list[str]:
        """
        Return the account's tasks that were claimed after one number and known before the other.

        Of several attempts, the task may be that of an earlier one: these are left out.
        """
        query = _task_ids(account).where(
            _intents.c.attempt == 1,
            _intents.c.claimed_seq > oldest_seq,
            _intents.c.accepted_seq < newest_seq,
        )
        return list(self._stream(query, _task_id))

    def attempts_of(self, intent_id: str) -> list[Attempt]:
        """Return how the requests of one intent ended, oldest first."""
        table = schema.attempts
        columns = [table.c[name] for name in Attempt.__dataclass_fields__]
        query = sa.select(*columns).where(table.c.intent_id == intent_id)
        return [Attempt(**row) for row in self._all(query.order_by(table.c.attempt))]

    def open_follow_ups(self) -> dict[FollowUpKey, list[OpenFollowUp]]:
        """What tasks of unknown origin may be about: intents that may still get their task."""
        may_get_it = [state.value for state in states_before(Event.SIGHT)]
        query = (
            sa.select(_intents, _follow_ups.c.url, _follow_ups.c.task_type)
            .join(_follow_ups, _follow_ups.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.state.in_(may_get_it))
            .order_by(_intents.c.claimed_seq)
        )
        found: dict[FollowUpKey, list[OpenFollowUp]] = {}
        for row in self._all(query):
            key = (row["task_type"], normal_url(row["url"]))
            candidate = OpenFollowUp(intent_from_row(row), row["account"], row["claimed_seq"] or 0)
            found.setdefault(key, []).append(candidate)
        return found

    # Accounts and the ledger itself

    def accounts(self) -> list[AccountRow]:
        """Return every key that was ever used, oldest first."""
        table = schema.accounts
        names = ("base_url", "fingerprint", "user_id", "key_id")
        columns = [table.c.account.label("number"), *(table.c[name] for name in names)]
        query = sa.select(*columns).order_by(table.c.account)
        return [AccountRow(**row) for row in self._all(query)]

    def account_of(self, task_id: str) -> int | None:
        """Return the account that a task is known to be of; None if it was not recorded."""
        further = sa.select(_tasks.c.intent_id).where(_tasks.c.task_id == task_id)
        is_of = sa.or_(_intents.c.task_id == task_id, _intents.c.intent_id.in_(further))
        query = sa.select(_intents.c.account).where(is_of, _intents.c.account.is_not(None))
        rows = self._all(query.limit(1))
        return int(rows[0]["account"]) if rows else None

    def n_awaited(self) -> dict[int, int]:
        """Count tasks that were accepted and not read yet, by account."""
        account, n = _intents.c.account, sa.func.count().label("n")
        is_awaited = _intents.c.state == IntentState.ACCEPTED.value
        query = sa.select(account, n).where(is_awaited, account.is_not(None)).group_by(account)
        return {int(row["account"]): int(row["n"]) for row in self._all(query)}

    def newest_task(
        self, accounts: Collection[int] | None, except_for: Sequence[str] = ()
    ) -> str | None:
        """Return the newest task that one of these accounts paid for, or None."""
        query = (
            sa.select(_intents.c.task_id)
            .where(_intents.c.task_id.is_not(None), _intents.c.task_id.not_in(except_for))
            .where(_intents.c.state != IntentState.LOST.value, of_accounts(accounts))
            .order_by(_intents.c.claimed_seq.desc().nulls_last())
            .limit(1)
        )
        rows = self._all(query)
        return _task_id(rows[0]) if rows else None

    def meta(self, key: str) -> str | None:
        """Return one stored fact."""
        rows = self._all(sa.select(schema.meta.c.value).where(schema.meta.c.key == key))
        return str(rows[0]["value"]) if rows else None

    def facts(self, prefix: str) -> dict[str, str]:
        """Return the stored facts whose keys begin with this, by the rest of their keys."""
        is_such = schema.meta.c.key.startswith(prefix, autoescape=True)
        rows = self._all(sa.select(schema.meta).where(is_such).order_by(schema.meta.c.key))
        return {str(row["key"]).removeprefix(prefix): str(row["value"]) for row in rows}


class SliceLookup:
    """The queries that the result tables of one partition need."""

    def __init__(
        self, read: Queries, batch: str, slice_: Slice, *, with_tokens: bool = False
    ) -> None:
        self._read, self._batch, self._slice = read, batch, slice_
        self._with_tokens = with_tokens
        self.tasks_for = read.tasks_for
        self.surplus_for = read.surplus_for
        self.downloads_for = read.downloads_for

    def intents_for(self, request_keys: Sequence[str]) -> dict[str, list[Intent]]:
        return self._read.intents_for(self._batch, self._slice.window, request_keys)

    def tokens_for(self, task_ids: Sequence[str]) -> dict[str, PublicAccessToken]:
        """Return the tokens of tasks, if the batch wants them in its tables."""
        return self._read.tokens(task_ids) if self._with_tokens else {}

    def n_rows(self) -> int:
        return self._read.n_rows_of_slice(self._batch, self._slice)

    def removed(self, seen: Container[str]) -> Iterator[list[Intent]]:
        """Yield intents whose rows are not in the table any more, some thousand at a time."""
        known = self._read.keys_of_slice(self._batch, self._slice)
        gone = (intent_id for key, intent_id in known if key not in seen)
        while ids := list(islice(gone, IN_MAX)):
            intents = self._read.intents_by_id(ids)
            yield [intents[intent_id] for intent_id in ids]


_PLACE = (_intents.c.window, _intents.c.fan_out)
_PARTITION_ROWS = sa.select(*(_partitions.c[name] for name in PartitionRow.__dataclass_fields__))
# A literal, not a parameter: SQLite recognises the partial index by it.
_DISPUTED = sa.literal_column(f"'{schema.DISPUTED}'", sa.Text)


def _is_finished_remotely() -> sa.ColumnElement[bool]:
    ends = [TaskStatus.COMPLETED.value, TaskStatus.FAILED.value]
    return sa.func.coalesce(_intents.c.remote_status, "").in_(ends)


def _task_ids(account: int) -> sa.Select[Any]:
    is_accounts = _intents.c.account == account
    return sa.select(_intents.c.task_id).where(is_accounts, _intents.c.task_id.is_not(None))


def _task_id(row: Row) -> str:
    return str(row["task_id"])


def _sums(state: Any, quoted: Any, held: Any, charged: Any) -> sa.Select[Any]:
    is_known = charged.is_not(None)
    refund = sa.case((sa.and_(is_known, held > charged), held - charged), else_=0)
    amounts = {
        "n_unpriced": sa.case((quoted.is_(None), 1), else_=0),
        "n_charged": sa.case((charged > 0, 1), else_=0),
        "quoted": sa.func.coalesce(quoted, 0),
        "held": held,
        "charged": sa.func.coalesce(charged, 0),
        "refunded": refund,
    }
    columns = [sa.func.sum(amount).label(name) for name, amount in amounts.items()]
    head = (state.label("state"), is_known.label("is_known"), sa.func.count().label("n"))
    return sa.select(*head, *columns).group_by(sa.text("1"), sa.text("2"))


def _group(row: Row) -> MoneyGroup:
    names = ("n", "n_unpriced", "n_charged", "quoted", "held", "charged", "refunded")
    sums = {name: int(row[name] or 0) for name in names}
    state = IntentState(row["state"]) if row["state"] is not None else None
    return MoneyGroup(state, bool(row["is_known"]), **sums)
