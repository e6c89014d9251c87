"""What the ledger knows. Synchronous: call from a worker thread, never on the event loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mynth_dagster.clock import Instant
from mynth_dagster.errors import ConfigError, name_some
from mynth_dagster.ledger import schema
from mynth_dagster.ledger.statements import (
    Lookup,
    Names,
    in_slices,
    intent_from_row,
    looked_up,
    of_accounts,
    rows_of,
    task_from_json,
)
from mynth_dagster.ledger.uploads import downloads_of
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
from mynth_dagster.models.task import Task, TaskStatus
from mynth_dagster.models.transitions import HELD, IntentState

_intents, _tasks, _partitions = schema.intents, schema.tasks, schema.partitions
T = TypeVar("T")


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


class LedgerReader:
    """Queries of one ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def intents_for(
        self, batch: str, window: str, request_keys: Sequence[str]
    ) -> dict[str, list[Intent]]:
        """All generations of these rows, by request key, oldest first."""
        found: dict[str, list[Intent]] = {}
        place = {"batch": batch, "window": window}
        for row in looked_up(self._engine, _BY_KEY, request_keys, **place):
            found.setdefault(row["request_key"], []).append(intent_from_row(row))
        return found

    def delivered(self, batch: str, slice_: Slice, request_keys: Sequence[str]) -> dict[str, str]:
        """
        Which of these rows were asked for once, here, and delivered for money: key to hash.

        Nearly all rows of a table that is run again; the others need a closer look.
        """
        place = {"batch": batch, "window": slice_.window, "fan_out": slice_.fan_out}
        found = looked_up(self._engine, _DELIVERED, request_keys, **place)
        return {row["request_key"]: row["request_hash"] for row in found}

    def intents_by_id(self, intent_ids: Sequence[str]) -> dict[str, Intent]:
        """These intents, by id."""
        rows = looked_up(self._engine, _BY_ID, intent_ids)
        return {row["intent_id"]: intent_from_row(row) for row in rows}

    def awaited(
        self, batch: str, slices: Iterable[Slice], accounts: Collection[int] | None
    ) -> list[Awaited]:
        """Tasks of these accounts that were accepted and not read, as they were submitted."""
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
        return list(self._rows(query, _awaited))

    def unread(
        self, batch: str, slices: Iterable[Slice], accounts: Collection[int] | None
    ) -> list[Awaited]:
        """Those of them that are finished."""
        found = self.awaited(batch, slices, accounts)
        return [task for task in found if task.is_finished_remotely]

    def standing(self, intent_ids: Sequence[str]) -> set[str]:
        """The claimants of these intents that are `sending` still: nobody took them over."""
        found = looked_up(self._engine, _STANDING, intent_ids)
        return {row["claimant"] for row in found}

    def owners(self, task_ids: Sequence[str]) -> dict[str, str]:
        """The intents of those tasks that are ours, by task id."""
        rows = chain.from_iterable(
            looked_up(self._engine, lookup, task_ids) for lookup in (_AWAITED_BY, _READ_FOR)
        )
        return {row["task_id"]: row["intent_id"] for row in rows}

    def keys_of_slice(self, batch: str, slice_: Slice) -> Iterator[tuple[str, str]]:
        """Request key and id of each intent of a partition, by key and generation, streamed."""
        query = (
            sa.select(_intents.c.request_key, _intents.c.intent_id)
            .where(_intents.c.batch == batch, _intents.c.window == slice_.window)
            .where(_intents.c.fan_out == slice_.fan_out)
            .order_by(_intents.c.request_key, _intents.c.generation)
        )
        return self._rows(query, lambda row: (row["request_key"], row["intent_id"]))

    def n_rows_of_slice(self, batch: str, slice_: Slice) -> int:
        """Rows of a partition that were ever to be asked for."""
        return self._n_rows(batch, slice_)

    def n_paid_rows(self, batch: str, slice_: Slice) -> int:
        """Rows of a partition with a task that cost something, or whose cost is not known."""
        was_paid = sa.func.coalesce(_intents.c.charged_units, 1) != 0
        return self._n_rows(batch, slice_, _intents.c.task_id.is_not(None), was_paid)

    def partitions(self, batch: str) -> list[PartitionRow]:
        """All partitions that anything was ever sent for."""
        table = schema.partitions
        columns = [table.c[name] for name in PartitionRow.__dataclass_fields__]
        query = sa.select(*columns).where(table.c.batch == batch)
        ordered = query.order_by(table.c.window, table.c.fan_out)
        return list(self._rows(ordered, lambda row: PartitionRow(**row)))

    def partition(self, batch: str, slice_: Slice) -> PartitionRow | None:
        """One partition, or None if nothing was ever sent for it."""
        table = schema.partitions
        columns = [table.c[name] for name in PartitionRow.__dataclass_fields__]
        query = sa.select(*columns).filter_by(
            batch=batch, window=slice_.window, fan_out=slice_.fan_out
        )
        found = list(self._rows(query, lambda row: PartitionRow(**row)))
        return found[0] if found else None

    def batches(self) -> list[str]:
        """The names of all batches."""
        query = sa.select(schema.partitions.c.batch).distinct().order_by(schema.partitions.c.batch)
        return list(self._rows(query, lambda row: str(row["batch"])))

    def require_batch(self, batch: str) -> str:
        """
        The name of a batch that a person gave.

        Raises:
            ConfigError: There is none; names those that there are.
        """
        every = self.batches()
        if batch not in every:
            known = name_some(every) or "none"
            raise ConfigError("batch", f"the ledger has no batch {batch!r}; it has {known}")
        return batch

    def counts(self, batch: str, slices: Iterable[Slice] | None = None) -> list[StateCount]:
        """Intents by partition and state; of all partitions where none are given."""
        finished = _finished_remotely()
        group = (_intents.c.window, _intents.c.fan_out, _intents.c.state, finished)
        query = (
            sa.select(
                *group[:3],
                finished.label("finished_remotely"),
                sa.func.count().label("n_intents"),
                sa.func.coalesce(sa.func.sum(_intents.c.reserved_units), 0).label("reserved_units"),
                sa.func.coalesce(sa.func.sum(_intents.c.charged_units), 0).label("charged_units"),
            )
            .where(_intents.c.batch == batch)
            .group_by(*group)
            .order_by(_intents.c.window, _intents.c.fan_out)
        )
        if slices is not None:
            query = query.where(in_slices(slices))
        return list(self._rows(query, _state_count))

    def moving(
        self, batch: str, now_us: int, accounts: Collection[int] | None
    ) -> dict[tuple[str, str], Moving]:
        """
        Intents on their way, counted by window and fan-out; partitions at rest are left out.

        A finished task counts as finished where these accounts can read it, else as pending.
        """
        finished = sa.and_(_finished_remotely(), of_accounts(accounts))
        is_late = sa.func.coalesce(_intents.c.deadline_at_us < now_us, sa.false())
        is_accepted = _intents.c.state == IntentState.ACCEPTED.value
        kinds = {
            "n_sending": ~is_accepted,
            "n_finished": sa.and_(is_accepted, finished),
            "n_stalled": sa.and_(is_accepted, ~finished, is_late),
            "n_pending": sa.and_(is_accepted, ~finished, ~is_late),
        }
        place = (_intents.c.window, _intents.c.fan_out)
        counted = [sa.func.sum(sa.case((kind, 1), else_=0)).label(n) for n, kind in kinds.items()]
        states = [IntentState.ACCEPTED.value, IntentState.SENDING.value]
        query = (
            sa.select(*place, *counted)
            .where(_intents.c.batch == batch, _intents.c.state.in_(states))
            .group_by(*place)
        )

        def read(row: Any) -> tuple[tuple[str, str], Moving]:
            counts = {name: int(row[name]) for name in kinds}
            return (row["window"], row["fan_out"]), Moving(**counts)

        return dict(self._rows(query, read))

    def meta(self, key: str) -> str | None:
        """One remembered fact."""
        query = sa.select(schema.meta.c.value).where(schema.meta.c.key == key)
        values = list(self._rows(query, lambda row: str(row["value"])))
        return values[0] if values else None

    def facts(self, prefix: str) -> dict[str, str]:
        """Remembered facts whose keys begin alike, by the rest of their keys."""
        meta = schema.meta
        query = sa.select(meta.c.key, meta.c.value).where(
            meta.c.key.startswith(prefix, autoescape=True)
        )
        found = self._rows(query, lambda row: (str(row["key"]), str(row["value"])))
        return {key.removeprefix(prefix): value for key, value in sorted(found)}

    def _n_rows(self, batch: str, slice_: Slice, *conditions: sa.ColumnElement[bool]) -> int:
        query = (
            sa.select(sa.func.count(_intents.c.request_key.distinct()).label("n_rows"))
            .where(_intents.c.batch == batch, in_slices([slice_]))
            .where(*conditions)
        )
        return sum(self._rows(query, lambda row: int(row["n_rows"])))

    def _rows(self, query: sa.Select[Any], read: Callable[[Any], T]) -> Iterator[T]:
        return rows_of(self._engine, query, read)


def _finished_remotely() -> sa.ColumnElement[bool]:
    ends = [TaskStatus.COMPLETED.value, TaskStatus.FAILED.value]
    return sa.func.coalesce(_intents.c.remote_status, "").in_(ends)


def _delivered(names: Names) -> sa.Select[Any]:
    later = _intents.alias("later")
    is_renewed = sa.exists().where(
        later.c.batch == _intents.c.batch,
        later.c.window == _intents.c.window,
        later.c.request_key == _intents.c.request_key,
        later.c.generation > 1,
    )
    # Behind functions, so that no index on places and states is taken for the one on keys.
    return sa.select(_intents.c.request_key, _intents.c.request_hash).where(
        _intents.c.batch == names("batch"),
        _intents.c.window == names("window"),
        names.among(_intents.c.request_key),
        _intents.c.generation == 1,
        sa.func.coalesce(_intents.c.fan_out, "") == names("fan_out"),
        sa.func.coalesce(_intents.c.state, "") == IntentState.COMPLETED.value,
        _intents.c.task_id.is_not(None),
        sa.func.coalesce(_intents.c.charged_units, 1) != 0,
        ~is_renewed,
    )


def _by_key(names: Names) -> sa.Select[Any]:
    place = _intents.c.batch == names("batch"), _intents.c.window == names("window")
    found = sa.select(_intents).where(*place, names.among(_intents.c.request_key))
    return found.order_by(_intents.c.generation)


def _owners_in(table: sa.Table) -> Lookup:
    columns = table.c.task_id, table.c.intent_id
    return Lookup(lambda names: sa.select(*columns).where(names.among(table.c.task_id)))


_DELIVERED = Lookup(_delivered)
_BY_KEY = Lookup(_by_key)
_BY_ID = Lookup(lambda names: sa.select(_intents).where(names.among(_intents.c.intent_id)))
_STANDING = Lookup(
    lambda names: sa.select(_intents.c.claimant).where(
        names.among(_intents.c.intent_id), _intents.c.state == IntentState.SENDING.value
    )
)
_AWAITED_BY, _READ_FOR = _owners_in(_intents), _owners_in(schema.tasks)


def _awaited(row: Any) -> Awaited:
    status = row["remote_status"]
    return Awaited(**{**row, "remote_status": TaskStatus(status) if status else None})


def _state_count(row: Any) -> StateCount:
    return StateCount(
        window=row["window"],
        fan_out=row["fan_out"],
        state=IntentState(row["state"]),
        finished_remotely=bool(row["finished_remotely"]),
        n_intents=row["n_intents"],
        reserved_units=row["reserved_units"],
        charged_units=row["charged_units"],
    )


# What came of intents: tasks as read, further tasks, files. Synchronous, like `LedgerReader`.


class OutcomeReader:
    """Queries about what intents led to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tasks_for(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """The finished tasks among these, as read."""
        rows = looked_up(self._engine, _READ, task_ids)
        return {row["task_id"]: task_from_json(row["details"]) for row in rows}

    def surplus_for(self, intent_ids: Sequence[str]) -> dict[str, list[SurplusTask]]:
        """Further tasks of these intents, by intent id."""
        found: dict[str, list[SurplusTask]] = {}
        for row in looked_up(self._engine, _SURPLUS, intent_ids):
            found.setdefault(row["intent_id"], []).append(_surplus(row))
        return found

    def downloads_for(self, intent_ids: Sequence[str]) -> dict[str, dict[int, Download]]:
        """What became of the files of these intents' images, by intent id and image index."""
        return downloads_of(self._engine, intent_ids)

    def unread_surplus(
        self, batch: str, slices: Iterable[Slice] | None, accounts: Collection[int] | None
    ) -> list[tuple[Intent, str]]:
        """Further tasks of these accounts, in these partitions or all, that were not read yet."""
        query = (
            sa.select(_intents, _tasks.c.task_id.label("surplus_id"))
            .join(_tasks, _tasks.c.intent_id == _intents.c.intent_id)
            .where(_intents.c.batch == batch, in_slices(slices), of_accounts(accounts))
            .where(_tasks.c.is_surplus, _tasks.c.details.is_(None))
            .order_by(_tasks.c.task_id)
        )
        return list(rows_of(self._engine, query, _of_surplus))


def _read(names: Names) -> sa.Select[Any]:
    columns = _tasks.c.task_id, _tasks.c.details
    return sa.select(*columns).where(names.among(_tasks.c.task_id), _tasks.c.details.is_not(None))


def _surplus_of(names: Names) -> sa.Select[Any]:
    of_these = names.among(_tasks.c.intent_id), _tasks.c.is_surplus
    return sa.select(_tasks).where(*of_these).order_by(_tasks.c.task_id)


_READ, _SURPLUS = Lookup(_read), Lookup(_surplus_of)


def _surplus(row: Any) -> SurplusTask:
    details = row["details"]
    return SurplusTask(
        task_id=row["task_id"],
        intent_id=row["intent_id"],
        task=task_from_json(details) if details else None,
    )


def _of_surplus(row: Any) -> tuple[Intent, str]:
    return intent_from_row(row), str(row["surplus_id"])


# What the ledger knows of rows in doubt. Synchronous, like `LedgerReader`.


# No parameter: SQLite recognises the partial index by the word itself.
_DISPUTED = sa.literal_column(f"'{schema.DISPUTED}'", sa.Text)


@dataclass(frozen=True)
class Evidence:
    """How one delivery ended without a task."""

    attempt: int
    outcome: str
    http_status: int | None
    detail: str | None
    ended_at_us: int


class DoubtReader:
    """Queries about intents whose outcome is not known."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def held(self, batch: str | None = None) -> list[Intent]:
        """All intents that only evidence or a person can settle, oldest first."""
        query = sa.select(_intents).where(
            _intents.c.state.in_([state.value for state in HELD]),
            *([] if batch is None else [_intents.c.batch == batch]),
        )
        ordered = query.order_by(_intents.c.claimed_at_us, _intents.c.intent_id)
        return list(rows_of(self._engine, ordered, intent_from_row))

    def doubts(
        self, batch: str, slices: Iterable[Slice] | None, states: Iterable[IntentState]
    ) -> list[UnresolvedIntent]:
        """Deliveries of these partitions, or of all, whose task may have to be searched for."""
        observations = schema.observations
        disputed = sa.exists().where(
            observations.c.intent_id == _intents.c.intent_id, observations.c.source == _DISPUTED
        )
        query = sa.select(_intents, disputed.label("is_disputed")).where(
            _intents.c.batch == batch,
            in_slices(slices),
            _intents.c.state.in_([state.value for state in states]),
        )
        return list(rows_of(self._engine, query, _doubt))

    def walks(self, account: int) -> list[Walk]:
        """The newest walks over this account's list, oldest first."""
        table = schema.walks
        query = sa.select(table).where(table.c.account == account).order_by(table.c.walk)
        return list(rows_of(self._engine, query, _walk))

    def known_tasks(self, task_ids: Sequence[str]) -> dict[str, KnownTask]:
        """Those of these tasks that are the first one of an intent of ours."""
        query = sa.select(_intents).where(_intents.c.task_id.in_(list(task_ids)))
        return dict(rows_of(self._engine, query, lambda row: (row["task_id"], _known(row))))

    def tasks_until(self, account: int, newest_seq: int) -> list[str]:
        """The account's tasks whose ids were known when this number was given."""
        query = sa.select(_intents.c.task_id).where(
            _intents.c.account == account,
            _intents.c.task_id.is_not(None),
            _intents.c.accepted_seq <= newest_seq,
        )
        return list(rows_of(self._engine, query, lambda row: str(row["task_id"])))

    def tasks_between(self, account: int, oldest_seq: int, newest_seq: int) -> list[str]:
        """
        The account's tasks that were claimed after the one number and known before the other.

        Of several attempts, the task may be that of an earlier one: these are left out.
        """
        query = sa.select(_intents.c.task_id).where(
            _intents.c.account == account,
            _intents.c.task_id.is_not(None),
            _intents.c.attempt == 1,
            _intents.c.claimed_seq > oldest_seq,
            _intents.c.accepted_seq < newest_seq,
        )
        return list(rows_of(self._engine, query, lambda row: str(row["task_id"])))

    def sources_of(self, intent_id: str, task_id: str) -> list[str]:
        """Where it was heard that the task belongs to the intent."""
        table = schema.observations
        query = sa.select(table.c.source).filter_by(intent_id=intent_id, task_id=task_id)
        return list(rows_of(self._engine, query, lambda row: str(row["source"])))

    def attempts_of(self, intent_id: str) -> list[Evidence]:
        """How the deliveries of one intent ended, oldest first."""
        table = schema.attempts
        columns = [table.c[name] for name in Evidence.__dataclass_fields__]
        query = sa.select(*columns).where(table.c.intent_id == intent_id)
        ordered = query.order_by(table.c.attempt)
        return list(rows_of(self._engine, ordered, lambda row: Evidence(**row)))


def _doubt(row: Any) -> UnresolvedIntent:
    since = row["unresolved_since"]
    return UnresolvedIntent(
        intent=intent_from_row(row),
        account=row["account"],
        claimed_seq=row["claimed_seq"] or 0,
        since=Instant.parse(since) if since else None,
        unresolved_seq=row["unresolved_seq"] or 0,
        is_disputed=bool(row["is_disputed"]),
    )


def _known(row: Any) -> KnownTask:
    """Of several attempts, the task may be that of an earlier one: its claim is not known then."""
    is_of_claim = row["attempt"] == 1 and row["claimed_seq"] is not None
    return KnownTask(
        intent=intent_from_row(row),
        claimed_seq=row["claimed_seq"] if is_of_claim else 0,
        accepted_seq=row["accepted_seq"],
    )


def _walk(row: Any) -> Walk:
    return Walk(
        account=row["account"],
        page_size=row["page_size"],
        began=Instant.parse(row["began"]),
        ended=Instant.parse(row["ended"]),
        findings=json.loads(row["findings"]),
    )


# Where deliveries rest, by partition. Synchronous: call from a worker thread.


_PLACE = (_intents.c.window, _intents.c.fan_out)


@dataclass(frozen=True)
class Resting:
    """
    Deliveries of one partition that were proved not accepted, and those in doubt.

    `n_unsearched` of those in doubt were not yet searched for late enough to prove anything.
    """

    n_not_accepted: int = 0
    n_unsearched: int = 0


class RestingReader:
    """Queries about deliveries that are over without a task."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def resting(self, batch: str) -> dict[tuple[str, str], Resting]:
        """By window and fan-out; partitions without any are left out."""
        is_not_accepted = _intents.c.state == IntentState.NOT_ACCEPTED.value
        is_unresolved = _intents.c.state == IntentState.UNRESOLVED.value
        kinds = {
            "n_not_accepted": is_not_accepted,
            "n_unsearched": is_unresolved & _intents.c.held_because.is_(None),
        }
        counted = [
            sa.func.sum(sa.case((is_one, 1), else_=0)).label(name) for name, is_one in kinds.items()
        ]
        query = (
            sa.select(*_PLACE, *counted)
            .where(_intents.c.batch == batch)
            .where(is_not_accepted | is_unresolved)
            .group_by(*_PLACE)
        )
        found = rows_of(self._engine, query, lambda row: row)
        return {
            (row["window"], row["fan_out"]): Resting(
                int(row["n_not_accepted"]), int(row["n_unsearched"])
            )
            for row in found
        }

    def last_tries_us(self, batch: str, slices: Sequence[Slice]) -> dict[tuple[str, str], int]:
        """
        When a delivery into each of these partitions was last begun, or a run last stopped.

        A run stops for all its partitions at once, also for those that it had not begun. Reads
        all rows of these partitions.
        """
        begun = (
            sa.select(*_PLACE, sa.func.max(_intents.c.claimed_at_us).label("at_us"))
            .where(_intents.c.batch == batch, in_slices(slices))
            .group_by(*_PLACE)
        )
        stopped = (
            sa.select(
                _partitions.c.window,
                _partitions.c.fan_out,
                _partitions.c.stopped_at_us.label("at_us"),
            )
            .where(_partitions.c.batch == batch, in_slices(slices, _partitions))
            .where(_partitions.c.stopped_at_us.is_not(None))
        )
        tries: dict[tuple[str, str], int] = {}
        for query in (begun, stopped):
            for row in rows_of(self._engine, query, lambda row: row):
                place = row["window"], row["fan_out"]
                tries[place] = max(tries.get(place, 0), int(row["at_us"]))
        return tries


# Sums of money for receipts. Synchronous, like `LedgerReader`.


class MoneyReader:
    """Queries about money."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def receipt(self, batch: str, slices: Iterable[Slice] | None = None) -> Receipt:
        """What these partitions have cost and may yet cost; all of the batch where none given."""
        where = [_intents.c.batch == batch]
        if slices is not None:
            where.append(in_slices(slices))
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
        groups = [group for q in queries for group in rows_of(self._engine, q, _group)]
        return sum(map(receipt_of, groups), NO_MONEY)


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


def _group(row: Any) -> MoneyGroup:
    names = ("n", "n_unpriced", "n_charged", "quoted", "held", "charged", "refunded")
    sums = {name: int(row[name] or 0) for name in names}
    state = IntentState(row["state"]) if row["state"] is not None else None
    return MoneyGroup(state, bool(row["is_known"]), **sums)
