"""The ledger: one writer thread, any number of readers, one id for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.engine import Engine

from mynth_dagster.clock import Instant, block_s
from mynth_dagster.ledger import claims, files, observations, partitions
from mynth_dagster.ledger.claims import CLAIM, END, Claim, Claimed, Ending
from mynth_dagster.ledger.database import (
    newest_seq,
    open_engines,
    opening,
    until_unlocked,
)
from mynth_dagster.ledger.events import WebhookEvents
from mynth_dagster.ledger.files import SAVE_DOWNLOAD, Upload
from mynth_dagster.ledger.group_commit import GroupCommit
from mynth_dagster.ledger.journal import Journal
from mynth_dagster.ledger.observations import OBSERVE, Observation, Observed
from mynth_dagster.ledger.partitions import Stopped
from mynth_dagster.ledger.queries import Queries
from mynth_dagster.ledger.stops import Stops
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import Intent, UnresolvedIntent, Walk, new_ledger_id
from mynth_dagster.models.task import PublicAccessToken


class Ledger:
    """
    The durable memory of what was sent, what may have been sent, and what came back.

    Every coroutine returns only after COMMIT. Open with `Ledger.open`, close once.
    `read` has the queries, `events` the webhooks, `stops` the stops and fences.
    """

    def __init__(
        self, writer: Engine, reader: Engine, *, pause: Callable[[float], None] = block_s
    ) -> None:
        self._engines = (writer, reader)
        self.read = Queries(reader)
        self.ledger_id = _ensure(writer, "ledger_id", new_ledger_id(os.urandom(16)), pause)
        self.salt = _ensure(writer, "salt", os.urandom(16).hex(), pause)
        self._commits = GroupCommit(writer, pause=pause)
        self.events = WebhookEvents(self._commits, reader)
        self.stops = Stops(self._commits, reader)

    @classmethod
    def open(cls, url: str, *, pause: Callable[[float], None] = block_s) -> Ledger:
        """
        Open the ledger at a SQLite or Postgres URL, and create or migrate it if needed.

        Args:
            pause: How its writer waits (seconds) for an unreachable database.

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
        Reserve disk space for responses that the database cannot take; call it before spending.

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

    # Requests and tasks

    async def claim(self, claim: Claim) -> Claimed:
        """Commit an intent as `sending`, unless another run has the row or a cap is reached."""
        return await self._commits.submit(CLAIM, claim)

    async def observe(self, observation: Observation) -> Observed:
        """Store what was learned about a task, in any state of its intent; it is never refused."""
        return await self._commits.submit(OBSERVE, observation)

    def enqueue(self, observation: Observation) -> asyncio.Future[Observed]:
        """Observe without waiting, so that the caller claims the next row until its COMMIT."""
        return self._commits.enqueue(OBSERVE, observation)

    async def record_ending(self, ending: Ending) -> bool:
        """End a request without a task; False if evidence came first."""
        return await self._commits.submit(END, ending)

    async def save_follow_up(self, intent_id: str, task_type: str, url: str) -> None:
        """Keep what a follow-up will be sent with; before it is sent."""
        await self._commits.call(claims.save_follow_up, intent_id, task_type, url)

    async def save_token(self, task_id: str, token: PublicAccessToken) -> None:
        """Keep the public access token of a task."""
        await self._commits.call(observations.save_token, task_id, token)

    async def save_uploads(self, account: int, uploads: Sequence[Upload]) -> None:
        """Save where input files lie now; a newer upload replaces an older one."""
        await self._commits.call(files.save_uploads, account, uploads)

    async def record_download(self, download: Download) -> bool:
        """Record the download of an image's file; False if it was known."""
        return await self._commits.submit(SAVE_DOWNLOAD, download)

    # Requests whose outcome is not known

    async def expire_sending(self, batch: str, window: str, grace_us: int, now: Instant) -> int:
        """Turn rows that a gone process left `sending` into `unresolved`; return how many."""
        return await self._commits.call(observations.expire_sending, batch, window, grace_us, now)

    async def record_walk(self, walk: Walk) -> None:
        """Record a complete walk over the task list."""
        await self._commits.call(observations.record_walk, walk)

    async def record_dispute(self, intent_id: str, task_id: str, now: Instant) -> None:
        """Record a task with an intent's id that asks for something else."""
        await self._commits.call(observations.record_dispute, intent_id, task_id, now)

    async def mark_not_accepted(self, unresolved: Sequence[UnresolvedIntent], message: str) -> int:
        """Mark requests as not accepted; return how many were still in doubt."""
        return await self._commits.call(observations.mark_not_accepted, unresolved, message)

    async def abandon(self, intent: Intent, reason: str) -> bool:
        """Give an open request up for a person; False if it was resolved meanwhile."""
        return await self._commits.call(observations.abandon, intent, reason)

    async def restore(self, intents: Sequence[Intent], account: int, now: Instant) -> int:
        """Restore intents that an earlier ledger had; return how many were not there yet."""
        return await self._commits.call(observations.restore_intents, intents, account, now)

    # Partitions

    async def open_partitions(self, batch: str, slices: Sequence[Slice], submitter: str) -> None:
        """Add partitions and record which run sends into them."""
        await self._commits.call(partitions.open_partitions, batch, slices, submitter)

    async def close_partitions(
        self, batch: str, slices: Sequence[Slice], stop: Stopped | None = None
    ) -> None:
        """Record that the run sends no more, with the reason if it ended early."""
        await self._commits.call(partitions.close_partitions, batch, slices, stop)

    async def release_partitions(self, batch: str, slices: Sequence[Slice]) -> None:
        """Record that the run sends no more, and has sent nothing."""
        await self._commits.call(partitions.release_partitions, batch, slices)

    async def note_stop(self, batch: str, slices: Sequence[Slice], stop: Stopped) -> None:
        """Record why nothing could be sent into these partitions, for a later run."""
        await self._commits.call(partitions.note_stop, batch, slices, stop)

    async def bump_versions(self, batch: str, slices: Sequence[Slice]) -> None:
        """Raise the versions of partitions whose prompt rows changed: results are written again."""
        await self._commits.call(partitions.bump_versions, batch, slices)

    async def move_intents(self, moves: Sequence[tuple[str, str]]) -> None:
        """Move intents with their rows to another partition of the fan-out."""
        await self._commits.call(partitions.move_intents, moves)

    async def mark_collected(
        self, batch: str, slice_: Slice, version: int, collector: str | None = None
    ) -> bool:
        """Record that the tables show this version; False if they already show a newer one."""
        return await self._commits.call(
            partitions.mark_collected, batch, slice_, version, collector
        )

    async def mark_reported(self, batch: str, slices: Sequence[tuple[Slice, str]]) -> None:
        """Record that the runs that wrote the tables of these partitions have reported it."""
        await self._commits.call(partitions.mark_reported, batch, slices)

    async def mark_downloaded(self, batch: str, slice_: Slice, version: int) -> bool:
        """Record that all images of this version were processed; False if a newer one was."""
        return await self._commits.call(files.mark_downloaded, batch, slice_, version)

    # Accounts, facts, and the ledger itself

    async def newest_seq(self) -> int:
        """Return the greatest running number so far; 0 in a new ledger."""
        return await self._commits.call(newest_seq)

    async def now(self, ours: Instant) -> Instant:
        """Return the time of the clock that waits are measured with: the database's, or ours."""
        return await asyncio.to_thread(self.read.now, ours)

    async def ensure_account(
        self, base_url: str, fingerprint: str, *, user_id: str, key_id: str, now_us: int
    ) -> int:
        """Return the ledger's number of a key, which gets one at its first use."""
        return await self._commits.call(
            partitions.ensure_account, base_url, fingerprint, user_id, key_id, now_us
        )

    async def name_account(self, number: int, user_id: str) -> None:
        """Record the vendor's name of an account that had none."""
        await self._commits.call(partitions.name_account, number, user_id)

    async def adopt_id(self, ledger_id: str) -> bool:
        """Take the id of a ledger that was lost; False if this one is not empty."""
        is_adopted = await self._commits.call(partitions.adopt_ledger_id, ledger_id)
        if is_adopted:
            self.ledger_id = ledger_id
        return is_adopted

    async def ensure_meta(self, key: str, value: str) -> str:
        """Return one fact; if there is none, store this value."""
        return await self._commits.call(partitions.ensure_meta, key, value)

    async def set_meta(self, key: str, value: str) -> None:
        """Store one fact."""
        await self._commits.call(partitions.set_meta, key, value)

    async def forget_moments(self, prefix: str, before_us: int, *, but: str) -> None:
        """Delete facts under keys with this beginning whose time is longer ago."""
        await self._commits.call(partitions.forget_moments, prefix, before_us, but=but)


def _ensure(writer: Engine, key: str, value: str, pause: Callable[[float], None]) -> str:
    def ensure() -> str:
        with writer.begin() as connection:
            return partitions.ensure_meta(connection, key, value)

    return until_unlocked(ensure, pause)
