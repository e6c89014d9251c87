"""
The session: the services that all work needs, opened together: client, ledger, tables, clock.

The command line and the Dagster resource open one session and pass it down; nothing below reads
settings or the environment.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa

from mynth_dagster.client.client import MynthClient, RevisionVerdict, ask_revision
from mynth_dagster.client.http import Transport
from mynth_dagster.client.limiter import Limiter
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import Clock, Instant, SystemClock
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.errors import (
    AccountMismatchError,
    ApiError,
    ConfigError,
    NotFoundError,
    RevisionUnknownError,
    UnauthorizedError,
)
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.journal import read_left_behind, remove_if_empty
from mynth_dagster.ledger.observations import Observation, Source
from mynth_dagster.ledger.queries import AccountRow
from mynth_dagster.limits import POLL_INTERVAL_MAX_S, POLL_INTERVAL_MIN_S, UPLOAD_LIFETIME_S
from mynth_dagster.models.task import Account
from mynth_dagster.printable import printable_logger
from mynth_dagster.wire import AUTO_REVISION, profile_of

# The account behind the key, and the check that it is the one which paid for the ledger's tasks.
#
# The same key at the same address is the same account. Another key is accepted if it can be shown
# to belong to the account that paid for the ledger's tasks; a foreign one stops before anything is
# requested about those tasks or spent.


_log = printable_logger(__name__)
FINGERPRINT_CHARS = 32
ECHO_META = "echoes_tags:"
"""Prefix of the ledger's facts that the tasks of an account come back with our tags."""

COLLECT_ELSEWHERE = "point a session there, with its key, to collect them"

GENERATE, MANAGE = "generate", "manage"
"""Scopes of keys: to create tasks, and to read the account's money, webhooks and destinations."""


def require_may_generate(account: Account | None) -> None:
    """
    Stop before the first row if the key is known to be unable to create tasks.

    Raises:
        ConfigError: The key lacks the scope.
    """
    if account is not None and not account.may(GENERATE):
        raise ConfigError(
            "API key",
            f"it lacks the scope {GENERATE!r}; it has {scopes_in_words(account)}. Nothing was sent "
            "and nothing was charged. Use a key with that scope, then run again.",
        )


def scopes_in_words(account: Account) -> str:
    """Describe the scopes of a key."""
    return ", ".join(sorted(account.scopes or ())) or "none"


@dataclass(frozen=True)
class Reach:
    """
    The accounts whose tasks a session polls at its server, by their numbers in the ledger.

    Args:
        polled: Accounts whose tasks this server has, as far as is known.
        certain: Those of them that sent to this very base URL: only for their tasks does a response
            that there is no such task prove anything.
        elsewhere: The others: their tasks are collected by sessions with their URL and key.
    """

    polled: frozenset[int]
    certain: frozenset[int]
    elsewhere: tuple[AccountRow, ...] = ()


def reach_of(mine: AccountRow, known: Sequence[AccountRow]) -> Reach:
    """
    Return the accounts whose tasks the server at this base URL has.

    The same URL is the same server. Another path on the same host is, if both name the same
    account; another host never is, since a copy of a server names the same account and has other
    tasks. Tasks that another account paid for cannot be read with this key.
    """
    others = [account for account in known if account.number != mine.number]
    polled = [mine, *(account for account in others if _is_served_with(mine, account))]
    numbers = frozenset(account.number for account in polled)
    certain = frozenset(a.number for a in polled if a.base_url == mine.base_url)
    return Reach(numbers, certain, tuple(a for a in others if a.number not in numbers))


def _is_served_with(mine: AccountRow, other: AccountRow) -> bool:
    if mine.user_id and other.user_id:
        return mine.user_id == other.user_id and _host(mine.base_url) == _host(other.base_url)
    return mine.base_url == other.base_url


def _host(base_url: str) -> str:
    return urlsplit(base_url).netloc.lower()


def tasks_elsewhere(reach: Reach, n_awaited: Mapping[int, int]) -> dict[str, int]:
    """Count the awaited tasks that are not polled at this server, by the base URL of theirs."""
    n_of: dict[str, int] = {}
    for account in reach.elsewhere:
        place = account.base_url + (f" by account {account.user_id}" if account.user_id else "")
        n_of[place] = n_of.get(place, 0) + n_awaited.get(account.number, 0)
    return {place: n for place, n in n_of.items() if n}


def my_account(known: Sequence[AccountRow], base_url: str, fingerprint: str) -> AccountRow:
    """Return the row of a key at a URL; one with number 0 if the ledger does not know it."""
    mine = (a for a in known if (a.base_url, a.fingerprint) == (base_url, fingerprint))
    return next(mine, AccountRow(0, base_url, fingerprint, "", ""))


def fingerprint_of(salt: str, api_key: str | None) -> str:
    """Hash the key with the ledger's salt: equal keys are recognised, and none can be read."""
    key = (api_key or "").encode("ascii")
    digest = hmac.new(salt.encode("ascii"), key, hashlib.sha256)
    return digest.hexdigest()[:FINGERPRINT_CHARS]


class PayingAccount:
    """The account of one session, determined when it is first needed."""

    def __init__(self, client: MynthClient, ledger: Ledger, clock: Clock) -> None:
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._number: int | None = None
        self._is_nameless = False
        self._echoes_tags: bool | None = None

    async def number(self) -> int:
        """
        Return the ledger's number of the account and key; makes requests only for a new key.

        Raises:
            AccountMismatchError: The key belongs, or may belong, to another account than the one
                that paid for the ledger's tasks.
            ApiError: The look-up of a new key failed.
        """
        if self._number is None:
            self._number = await self._find()
            for place, n in (await asyncio.to_thread(self._elsewhere)).items():
                _log.warning("%d tasks were made at %s; %s", n, place, COLLECT_ELSEWHERE)
        return self._number

    async def reach(self) -> Reach:
        """Return the accounts whose tasks this session polls; determined as `number` is."""
        await self.number()
        return await asyncio.to_thread(self._reach)

    async def may_read(self, task_id: str) -> bool:
        """Whether a task is not known to be another server's or another account's."""
        reach = await self.reach()
        if not reach.elsewhere:
            return True
        account = await asyncio.to_thread(self._ledger.read.account_of, task_id)
        return account is None or account in reach.polled

    async def adopt(self) -> int:
        """Accept the key without a check whose it is, since a person confirmed it."""
        return await self._remember(await self._client.check_key())

    async def note_owner(self, user_id: str | None) -> None:
        """Record whose task was read, where the server does not return the owner of the key."""
        if self._is_nameless and user_id and self._number is not None:
            self._is_nameless = False
            await self._ledger.name_account(self._number, user_id)

    async def echoes_tags(self) -> bool:
        """Whether a task of this account ever came back with the tag that it was sent with."""
        if self._echoes_tags is None:
            key = f"{ECHO_META}{await self.number()}"
            self._echoes_tags = bool(await asyncio.to_thread(self._ledger.read.meta, key))
        return self._echoes_tags

    async def note_echo(self) -> None:
        """Record that tags come back."""
        if not await self.echoes_tags():
            self._echoes_tags = True
            await self._ledger.ensure_meta(f"{ECHO_META}{await self.number()}", "yes")

    async def _find(self) -> int:
        known = await asyncio.to_thread(self._ledger.read.accounts)
        base_url = self._base_url
        mine = my_account(known, base_url, self._fingerprint())
        if mine.number:
            self._is_nameless = not mine.user_id
            return mine.number
        found = await self._client.check_key()
        if known and not await self._is_same(found, known):
            raise AccountMismatchError(base_url, [account.user_id for account in known])
        number = await self._remember(found)
        if known:
            is_known = any(account.fingerprint == self._fingerprint() for account in known)
            what = "the same key" if is_known else "a new key of the same account"
            _log.warning("%s is used from now on at %s", what, base_url)
        return number

    async def _is_same(self, found: Account | None, known: Sequence[AccountRow]) -> bool:
        """
        Whether the account is the same, by the vendor's user id, else by a task only its keys read.

        The task is read where it was created: another host does not have it in any case.
        """
        users = {account.user_id for account in known if account.user_id}
        if found is not None and users:
            return found.user_id in users
        newest_task, here = self._ledger.read.newest_task, _host(self._base_url)
        if await asyncio.to_thread(newest_task, None) is None:
            return True
        local = [account.number for account in known if _host(account.base_url) == here]
        task_id = await asyncio.to_thread(newest_task, local)
        if task_id is None:
            unresolved = "this server does not tell, and none of their tasks was made there"
            raise AccountMismatchError(self._base_url, sorted(users), unresolved)
        try:
            task = await self._client.get_task(task_id)
        except (NotFoundError, UnauthorizedError):
            return False
        except ApiError as error:
            raise AccountMismatchError(self._base_url, sorted(users), error.reason) from error
        return not users or task.user_id is None or task.user_id in users

    async def _remember(self, found: Account | None) -> int:
        self._is_nameless = found is None
        return await self._ledger.ensure_account(
            self._base_url,
            self._fingerprint(),
            user_id=found.user_id if found else "",
            key_id=(found.key_id if found else None) or "",
            now_us=self._clock.now_us(),
        )

    @property
    def _base_url(self) -> str:
        return self._client.settings.normalised_base_url

    def _reach(self) -> Reach:
        known = self._ledger.read.accounts()
        return reach_of(my_account(known, self._base_url, self._fingerprint()), known)

    def _elsewhere(self) -> dict[str, int]:
        reach = self._reach()
        return tasks_elsewhere(reach, self._ledger.read.n_awaited()) if reach.elsewhere else {}

    def _fingerprint(self) -> str:
        return fingerprint_of(self._ledger.salt, self._client.settings.api_key)


# The loop that the engine runs on, and how the process keeps its memory meanwhile.


T = TypeVar("T")

COLLECT_AFTER_OBJECTS = 50_000
"""
New objects between two runs of the garbage collector; Python's default is 700.

Thousands of requests in flight are as many living objects, and next to nothing of ours is cyclic:
collecting so often costs a fifth of the time of a submission and finds nothing.
"""

_lock = threading.Lock()
_open: list[tuple[tuple[int, int, int], pa.MemoryPool]] = []


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


@contextmanager
def lean_memory() -> Iterator[None]:
    """
    Collect garbage rarely, and have Arrow give memory back at once.

    The last context of the process that ends restores the settings. Arrow's usual pool keeps freed
    pages for itself, in each thread: half of what a run with many tasks in flight would take.
    """
    with _lock:
        _open.append((gc.get_threshold(), pa.default_memory_pool()))
        gc.set_threshold(COLLECT_AFTER_OBJECTS, *_open[0][0][1:])
        pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        with _lock:
            thresholds, pool = _open.pop()  # the first one's stays below: what the process had
            if not _open:
                gc.set_threshold(*thresholds)
                pa.set_memory_pool(pool)


# Responses that an earlier process could not write into the ledger are observed now.


async def replay_journals(ledger: Ledger, folder: Path) -> int:
    """
    Replay the journals of gone processes into the ledger; return how many responses they held.

    A journal is deleted only when all of it is committed. A response to an intent that this ledger
    does not know is another ledger's: its journal is left alone.
    """
    n_taken = 0
    for path, entries in await asyncio.to_thread(lambda: list(read_left_behind(folder))):
        ids = [entry.intent_id for entry in entries]
        intents = await asyncio.to_thread(ledger.read.intents_by_id, ids)
        if set(ids) - set(intents):
            continue
        for entry in entries:
            observation = Observation(
                Source.JOURNAL,
                entry.task_id,
                Instant(entry.seen_at_us),
                intents[entry.intent_id],
                deadline_at_us=entry.deadline_at_us,
                reserved_units=entry.reserved_units,
            )
            await ledger.observe(observation)
            n_taken += 1
        reach(CrashPoint.SPOOL_TAKEN_IN)
        path.unlink(missing_ok=True)
    return n_taken


REVISION_META = "revision:"
"""Prefix of the ledger's facts that hold the revision last seen at a base URL."""

LEDGER_FILE = "mynth-ledger.db"
JOURNAL_FOLDER = "mynth-journal"
SQLITE = "sqlite:///"
_ELSEWHERE = "where it lies elsewhere, name it (--ledger)"


def ledger_url_in(root: str, *, must_exist: bool = False) -> str:
    """
    Return the URL of the SQLite ledger in a local root.

    The folder is made unless the ledger `must_exist`: commands that only read must not make one.

    Raises:
        ConfigError: The root is not a local folder, cannot be made, or holds no ledger.
    """
    if "://" in root:
        message = f"the root {root} is no local folder: name the ledger (--ledger, ledger_url)"
        raise ConfigError("ledger_url", message)
    folder = Path(root).absolute()
    if must_exist and not (folder / LEDGER_FILE).is_file():
        raise ConfigError("root", f"{folder} holds no ledger; {_ELSEWHERE}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("root", f"{folder} cannot be made: {error.strerror}") from None
    return f"sqlite:///{folder / LEDGER_FILE}"


@dataclass(frozen=True)
class EngineSettings:
    """
    The settings of a session.

    Args:
        client: How to reach Mynth.
        ledger_url: SQLAlchemy URL of the ledger, SQLite or Postgres.
        root: Where the tables lie, any fsspec path.
        api_revision: A revision's name, or `auto` to detect it.
        journal_dir: Local folder for responses that the ledger cannot take; empty: beside a SQLite
            ledger, else in a local root, else in the system's folder for temporary files.
        upload_lifetime_s: How long the URL of an uploaded file is used again.
        poll_interval_min_s: Shortest pause between two rounds of polling.
        poll_interval_max_s: Longest pause between two rounds of polling.
    """

    client: ClientSettings
    ledger_url: str
    root: str
    api_revision: str = AUTO_REVISION
    journal_dir: str = ""
    upload_lifetime_s: float = UPLOAD_LIFETIME_S
    poll_interval_min_s: float = POLL_INTERVAL_MIN_S
    poll_interval_max_s: float = POLL_INTERVAL_MAX_S

    @property
    def journal_folder(self) -> Path:
        """The folder for responses that the ledger cannot take."""
        if self.journal_dir:
            return Path(self.journal_dir)
        if self.ledger_url.startswith(SQLITE):
            # Not `-journal`: that name is SQLite's own.
            return Path(self.ledger_url.removeprefix(SQLITE) + "-responses")
        if "://" not in self.root:
            return Path(self.root).absolute() / JOURNAL_FOLDER
        return Path(tempfile.gettempdir()) / JOURNAL_FOLDER

    def __post_init__(self) -> None:
        if not 0 < self.poll_interval_min_s <= self.poll_interval_max_s:
            raise ConfigError("poll_interval_min_s", "between 0 and poll_interval_max_s")
        if self.upload_lifetime_s < 0:
            raise ConfigError(
                "upload_lifetime_s", "it is negative; 0 uploads files again each time"
            )
        if self.api_revision != AUTO_REVISION:
            profile_of(self.api_revision)


@dataclass(frozen=True)
class Session:
    """Open services, living on one event loop."""

    settings: EngineSettings
    client: MynthClient
    ledger: Ledger
    account: PayingAccount
    throttle: Limiter
    clock: Clock


@asynccontextmanager
async def open_session(
    settings: EngineSettings,
    *,
    clock: Clock | None = None,
    transport: Transport | None = None,
) -> AsyncIterator[Session]:
    """
    Open client and ledger, and close both at the end.

    Raises:
        ConfigError: The revision cannot be detected, or a setting is wrong.
        LedgerError: The ledger cannot be opened.
    """
    clock = clock or SystemClock()
    with lean_memory():
        async with _opened(settings, clock, transport) as session:
            yield session


@asynccontextmanager
async def _opened(
    settings: EngineSettings, clock: Clock, transport: Transport | None
) -> AsyncIterator[Session]:
    ledger = Ledger.open(settings.ledger_url)
    try:
        await replay_journals(ledger, settings.journal_folder)
        revision = await _revision(settings, ledger, transport)
        client = MynthClient(settings.client, profile_of(revision), clock, transport=transport)
        try:
            throttle = Limiter(settings.client.concurrency, clock)
            account = PayingAccount(client, ledger, clock)
            yield Session(settings, client, ledger, account, throttle, clock)
        finally:
            await client.aclose()
    finally:
        ledger.close()
        if not settings.journal_dir:  # a folder that somebody chose may have been there before us
            remove_if_empty(settings.journal_folder)


async def find_revision(settings: ClientSettings, transport: Transport | None = None) -> str:
    """
    Detect the revision that the server speaks, by free requests.

    Raises:
        ConfigError: The responses prove none.
    """
    return _require_revision(await _ask_safely(settings, transport), settings)


async def _ask_safely(
    settings: ClientSettings, transport: Transport | None, seen: str | None = None
) -> RevisionVerdict:
    try:
        return await ask_revision(settings, seen=seen, transport=transport)
    except ApiError as error:
        return RevisionVerdict(None, error.reason, is_certain=False, may_pass=True)


def _require_revision(verdict: RevisionVerdict, settings: ClientSettings) -> str:
    if verdict.revision is None:
        raise RevisionUnknownError(
            settings.normalised_base_url, verdict.basis, may_pass=verdict.may_pass
        )
    return verdict.revision


async def _revision(settings: EngineSettings, ledger: Ledger, transport: Transport | None) -> str:
    """Return the pinned revision, else the server's own, else the last one seen there."""
    url = settings.client.normalised_base_url
    if settings.api_revision != AUTO_REVISION:
        _log.info("API revision %s at %s, as pinned", settings.api_revision, url)
        return settings.api_revision
    remembered = ledger.read.meta(REVISION_META + url)
    verdict = await _ask_safely(settings.client, transport, remembered)
    if remembered is not None and not verdict.is_certain:
        _log.info("API revision %s at %s, as last seen (%s)", remembered, url, verdict.basis)
        return remembered
    found = _require_revision(verdict, settings.client)
    _log.info("API revision %s at %s, detected %s", found, url, verdict.basis)
    if remembered not in (None, found):
        _log.warning("%s has changed from API revision %s to %s", url, remembered, found)
    if remembered != found:
        await ledger.set_meta(REVISION_META + url, found)
    return found
