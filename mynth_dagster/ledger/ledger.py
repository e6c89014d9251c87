"""The ledger: one writer thread, any number of readers, one id for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mynth_dagster.clock import Instant, block_s
from mynth_dagster.ledger import observations, partitions, schema
from mynth_dagster.ledger.claims import CLAIM, END, Claim, Claimed, Ending, Stops
from mynth_dagster.ledger.database import newest_seq, open_engines, opening, until_unlocked
from mynth_dagster.ledger.events import WebhookEvents
from mynth_dagster.ledger.group_commit import GroupCommit
from mynth_dagster.ledger.journal import Journal
from mynth_dagster.ledger.observations import (
    NOTE,
    READ,
    SIGHT,
    Attachment,
    Missing,
    Reading,
    Restored,
    Sighting,
    StatusNote,
    adopt_ledger_id,
    restore_intents,
)
from mynth_dagster.ledger.partitions import Stopped
from mynth_dagster.ledger.queries import (
    DoubtReader,
    LedgerReader,
    MoneyReader,
    OutcomeReader,
    RestingReader,
)
from mynth_dagster.ledger.statements import CALL, IN_MAX, insert_into, of_accounts, rows_of
from mynth_dagster.ledger.uploads import KEEP, Subjects, Tokens, Uploads, mark_downloaded
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import Intent, SurplusTask, UnresolvedIntent, Walk, new_ledger_id
from mynth_dagster.models.task import PublicAccessToken, Task
from mynth_dagster.models.transitions import IntentState

# The accounts and keys that sent for this ledger.


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


class AccountReader:
    """Queries about accounts; synchronous, like `LedgerReader`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[AccountRow]:
        """Every key that was ever used, oldest first."""
        table = schema.accounts
        columns = [
            table.c.account.label("number"),
            *(table.c.base_url, table.c.fingerprint, table.c.user_id, table.c.key_id),
        ]
        query = sa.select(*columns).order_by(table.c.account)
        return list(rows_of(self._engine, query, lambda row: AccountRow(**row)))

    def of_task(self, task_id: str) -> int | None:
        """Which account a task is known to be of; None where nobody noted it."""
        intents, tasks = schema.intents, schema.tasks
        further = sa.select(tasks.c.intent_id).where(tasks.c.task_id == task_id)
        is_of = sa.or_(intents.c.task_id == task_id, intents.c.intent_id.in_(further))
        query = sa.select(intents.c.account).where(is_of, intents.c.account.is_not(None))
        found = list(rows_of(self._engine, query.limit(1), lambda row: int(row["account"])))
        return found[0] if found else None

    def n_awaited(self) -> dict[int, int]:
        """Tasks that were accepted and not read yet, by account."""
        account, n = schema.intents.c.account, sa.func.count().label("n")
        is_awaited = schema.intents.c.state == IntentState.ACCEPTED.value
        query = sa.select(account, n).where(is_awaited, account.is_not(None)).group_by(account)
        return dict(rows_of(self._engine, query, lambda row: (int(row["account"]), int(row["n"]))))

    def newest_task(
        self, accounts: Collection[int] | None, except_for: Sequence[str] = ()
    ) -> str | None:
        """The newest task that one of these accounts paid for; None where there is none."""
        intents = schema.intents
        query = (
            sa.select(intents.c.task_id)
            .where(intents.c.task_id.is_not(None), intents.c.task_id.not_in(except_for))
            .where(intents.c.state != IntentState.LOST.value, of_accounts(accounts))
            .order_by(intents.c.claimed_seq.desc().nulls_last())
            .limit(1)
        )
        found = list(rows_of(self._engine, query, lambda row: str(row["task_id"])))
        return found[0] if found else None


def ensure_account(
    base_url: str, fingerprint: str, user_id: str, key_id: str, now_us: int
) -> Callable[[Connection], int]:
    """The number of a key, given at first sight."""

    def call(connection: Connection) -> int:
        table = schema.accounts
        statement = insert_into(connection, table).values(
            base_url=base_url,
            fingerprint=fingerprint,
            user_id=user_id,
            key_id=key_id,
            first_seen_at_us=now_us,
        )
        connection.execute(statement.on_conflict_do_nothing())
        query = sa.select(table.c.account).filter_by(base_url=base_url, fingerprint=fingerprint)
        return int(connection.execute(query).scalar_one())

    return call


def name_account(number: int, user_id: str) -> Callable[[Connection], None]:
    """Remember the vendor's name of an account that had none."""

    def call(connection: Connection) -> None:
        table = schema.accounts
        is_nameless = (table.c.account == number) & (table.c.user_id == "")
        connection.execute(sa.update(table).where(is_nameless).values(user_id=user_id))

    return call


class Ledger:
    """
    Durable memory of what was asked, what may have been asked, and what came back.

    Every coroutine returns only after COMMIT. Open with `Ledger.open`, close once.
    `read` is what it knows, `inbox` what webhooks told, `uploads` where input files lie,
    `tokens` what may be handed out, `subjects` what was looked at, `stops` what may not be sent.
    """

    def __init__(
        self, writer: Engine, reader: Engine, *, pause: Callable[[float], None] = block_s
    ) -> None:
        self._engines = (writer, reader)
        self.read = LedgerReader(reader)
        self.outcomes = OutcomeReader(reader)
        self.doubts = DoubtReader(reader)
        self.resting = RestingReader(reader)
        self.accounts = AccountReader(reader)
        self.money = MoneyReader(reader)
        self.ledger_id = _ensure(writer, "ledger_id", new_ledger_id(os.urandom(16)), pause)
        self.salt = _ensure(writer, "salt", os.urandom(16).hex(), pause)
        self._commits = GroupCommit(writer, pause=pause)
        self.events = WebhookEvents(self._commits, reader)
        self.uploads = Uploads(self._commits, reader)
        self.tokens = Tokens(self._commits, reader)
        self.subjects = Subjects(self._commits, reader)
        self.stops = Stops(self._commits, reader)

    @classmethod
    def open(cls, url: str, *, pause: Callable[[float], None] = block_s) -> Ledger:
        """
        Open the ledger at a SQLite or Postgres URL, made or migrated if need be.

        Args:
            pause: How its writer waits (seconds) for a database that is away.

        Raises:
            ConfigError: The URL is no such URL, or the file's folder does not exist.
            LedgerUnavailableError: The database does not answer.
            SchemaVersionError: A newer release wrote it.
        """
        writer, reader = open_engines(url, pause)
        try:
            with opening(url):
                return cls(writer, reader, pause=pause)
        except BaseException:
            writer.dispose()
            reader.dispose()
            raise

    def prepare_to_send(self, journal_folder: Path) -> None:
        """
        Set room aside for answers, in case the database cannot take them; do it before spending.

        Raises:
            LedgerUnavailableError: There is no room; nothing was sent.
        """
        if self._commits.journal is None:
            self._commits.journal = Journal(journal_folder)

    def close(self) -> None:
        """Commit what is queued and let go of the database."""
        self._commits.close()
        journal, self._commits.journal = self._commits.journal, None
        if journal is not None:
            journal.close()
        for engine in self._engines:
            engine.dispose()

    async def claim(self, claim: Claim) -> Claimed:
        """Commit an intent as `sending`, unless another run has the row or a cap is reached."""
        return await self._commits.submit(CLAIM, claim)

    async def record_sighting(self, sighting: Sighting) -> Attachment:
        """Keep a task id, whatever the state of its intent; nothing here can refuse it."""
        return await self._commits.submit(SIGHT, sighting)

    def begin_sighting(self, sighting: Sighting) -> asyncio.Future[Attachment]:
        """As `record_sighting`, for who claims the next row until its COMMIT."""
        return self._commits.enqueue(SIGHT, sighting)

    async def record_ending(self, ending: Ending) -> bool:
        """End a delivery without a task; False if evidence came first."""
        return await self._commits.submit(END, ending)

    async def note_status(self, note: StatusNote) -> None:
        """Remember what Mynth says of a pending task."""
        await self._commits.submit(NOTE, note)

    async def record_reading(self, reading: Reading) -> bool:
        """Keep a finished task; False if it was read before."""
        return await self._commits.submit(READ, reading)

    async def record_download(self, download: Download) -> bool:
        """Keep what became of an image's file; False where that was known."""
        return await self._commits.submit(KEEP, download)

    async def open_partitions(self, batch: str, slices: Sequence[Slice], submitter: str) -> None:
        """Make partitions known and say who sends into them."""
        await self._call(partitions.open_partitions(batch, slices, submitter))

    async def close_partitions(
        self, batch: str, slices: Sequence[Slice], stop: Stopped | None = None
    ) -> None:
        """Nobody sends any more; with the reason where the run ended early."""
        await self._call(partitions.close_partitions(batch, slices, stop))

    async def release_partitions(self, batch: str, slices: Sequence[Slice]) -> None:
        """Nobody sends any more, and nothing was sent."""
        await self._call(partitions.release_partitions(batch, slices))

    async def note_stop(self, batch: str, slices: Sequence[Slice], stop: Stopped) -> None:
        """Nothing could be sent into these partitions; known to whoever goes on later."""
        await self._call(partitions.note_stop(batch, slices, stop))

    async def bump_versions(self, batch: str, slices: Sequence[Slice]) -> None:
        """The prompt rows of these partitions changed, so their results have to be written anew."""
        await self._call(partitions.bump_versions(batch, slices))

    async def move_intents(self, moves: Sequence[tuple[str, str]]) -> None:
        """Follow rows into another partition of the fan-out, as (intent id, fan-out key)."""
        await self._call(partitions.move_intents(moves))

    async def mark_collected(
        self, batch: str, slice_: Slice, version: int, collector: str | None = None
    ) -> bool:
        """The tables show this version, by this run; False where they already show a newer one."""
        call = partitions.mark_collected(batch, slice_, version, collector)
        return bool(await self._call(call))

    async def mark_reported(self, batch: str, slices: Sequence[tuple[Slice, str]]) -> None:
        """The runs that wrote the tables of these partitions have told so."""
        await self._call(partitions.mark_reported(batch, slices))

    async def mark_downloaded(self, batch: str, slice_: Slice, version: int) -> bool:
        """Every image of this version was dealt with; False where one of a newer version was."""
        return bool(await self._call(mark_downloaded(batch, slice_, version)))

    async def newest_seq(self) -> int:
        """The greatest running number given so far; 0 in a new ledger."""
        return int(await self._call(newest_seq))

    async def now(self, ours: Instant) -> Instant:
        """Now, on the clock that waits are measured with: the database's, or this machine's."""
        found: Instant = await self._call(observations.database_now(ours))
        return found

    async def expire_sending(self, batch: str, window: str, grace_us: int, now: Instant) -> int:
        """Turn rows that a gone process left `sending` into `unresolved`; how many."""
        return int(await self._call(observations.expire_sending(batch, window, grace_us, now)))

    async def record_walk(self, walk: Walk) -> None:
        """Keep a complete walk over the task list."""
        await self._call(observations.record_walk(walk))

    async def record_dispute(self, intent_id: str, task_id: str, now: Instant) -> None:
        """Keep a task that was taken for an intent's, and asks for something else."""
        await self._call(observations.record_dispute(intent_id, task_id, now))

    async def mark_not_accepted(self, settled: Sequence[UnresolvedIntent], said: str) -> int:
        """These requests were not accepted and may be sent again; how many were in doubt still."""
        return int(await self._call(observations.mark_not_accepted(settled, said)))

    async def note_missing(self, found: Sequence[Missing], now: Instant) -> int:
        """Count tasks that Mynth does not know, or knows again; how many are lost now."""
        return int(await self._call(observations.note_missing(found, now)))

    async def abandon(self, intent: Intent, reason: str) -> bool:
        """Give an open delivery up by a person's word; False if it was settled meanwhile."""
        return bool(await self._call(observations.abandon(intent, reason)))

    async def ensure_account(
        self, base_url: str, fingerprint: str, *, user_id: str, key_id: str, now_us: int
    ) -> int:
        """The ledger's number of a key, given at first sight."""
        call = ensure_account(base_url, fingerprint, user_id, key_id, now_us)
        return int(await self._call(call))

    async def name_account(self, number: int, user_id: str) -> None:
        """Remember the vendor's name of an account that had none."""
        await self._call(name_account(number, user_id))

    async def restore(self, restored: Sequence[Restored], now: Instant) -> int:
        """Put intents back that an earlier ledger had; how many were not there yet."""
        if not restored:
            return 0
        return int(await self._call(restore_intents(restored, now)))

    async def adopt_id(self, ledger_id: str) -> bool:
        """Become the ledger that was lost; only an empty one can. Whether it did."""
        taken = bool(await self._call(adopt_ledger_id(ledger_id)))
        if taken:
            self.ledger_id = ledger_id
        return taken

    async def ensure_meta(self, key: str, value: str) -> str:
        """One fact as it is remembered; this value from now on where nothing was."""
        return str(await self._call(partitions.ensure_meta(key, value)))

    async def forget_moments(self, prefix: str, before_us: int, *, but: str) -> None:
        """Forget when something was first, under such keys, where that is longer ago."""
        await self._call(partitions.forget_moments(prefix, before_us, but=but))

    async def set_meta(self, key: str, value: str) -> None:
        """Remember one fact."""
        await self._call(partitions.set_meta(key, value))

    async def _call(self, call: Callable[[Connection], Any]) -> Any:
        return await self._commits.submit(CALL, call)


def _ensure(writer: Engine, key: str, value: str, pause: Callable[[float], None]) -> str:
    def ensure() -> str:
        with writer.begin() as connection:
            return partitions.ensure_meta(key, value)(connection)

    return until_unlocked(ensure, pause)


# The ledger as the result tables of one partition see it.


class SliceLookup:
    """What is known of one partition; tokens only where they are to be handed out."""

    def __init__(
        self, ledger: Ledger, batch: str, slice_: Slice, *, with_tokens: bool = False
    ) -> None:
        self._ledger, self._batch, self._slice = ledger, batch, slice_
        self._tokens = ledger.tokens if with_tokens else None

    def intents_for(self, request_keys: Sequence[str]) -> Mapping[str, Sequence[Intent]]:
        return self._ledger.read.intents_for(self._batch, self._slice.window, request_keys)

    def tasks_for(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        return self._ledger.outcomes.tasks_for(task_ids)

    def surplus_for(self, intent_ids: Sequence[str]) -> Mapping[str, Sequence[SurplusTask]]:
        return self._ledger.outcomes.surplus_for(intent_ids)

    def downloads_for(self, intent_ids: Sequence[str]) -> Mapping[str, Mapping[int, Download]]:
        return self._ledger.outcomes.downloads_for(intent_ids)

    def tokens_for(self, task_ids: Sequence[str]) -> Mapping[str, PublicAccessToken]:
        return self._tokens.of(task_ids) if self._tokens else {}

    def n_rows(self) -> int:
        return self._ledger.read.n_rows_of_slice(self._batch, self._slice)

    def removed(self, seen: Container[str]) -> Iterator[list[Intent]]:
        known = self._ledger.read.keys_of_slice(self._batch, self._slice)
        gone = (intent_id for key, intent_id in known if key not in seen)
        while ids := list(islice(gone, IN_MAX)):
            found = self._ledger.read.intents_by_id(ids)
            yield [found[intent_id] for intent_id in ids]
