"""
The services that all work needs, opened together: client, ledger, tables, clock.

Whoever composes the product (the command line, the Dagster resource) opens one session and
hands it down; nothing below reads settings or the environment.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mynth_dagster.client.client import MynthClient, RevisionVerdict, ask_revision
from mynth_dagster.client.http import Transport
from mynth_dagster.client.limiter import Throttle
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import Clock, SystemClock
from mynth_dagster.engine.account import PayingAccount
from mynth_dagster.engine.event_loop import lean_memory
from mynth_dagster.engine.spooled import take_in_spools
from mynth_dagster.errors import ApiError, ConfigError, RevisionUnknownError
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.journal import remove_if_empty
from mynth_dagster.limits import POLL_INTERVAL_MAX_S, POLL_INTERVAL_MIN_S, UPLOAD_LIFETIME_S
from mynth_dagster.printable import printable_logger
from mynth_dagster.wire import AUTO_REVISION, profile_of

_log = printable_logger(__name__)
REVISION_META = "revision:"
"""Before a base URL: the ledger's fact that holds the revision last seen there."""

LEDGER_FILE = "mynth-ledger.db"
SPOOL_FOLDER = "mynth-spool"
SQLITE = "sqlite:///"
_ELSEWHERE = "where it lies elsewhere, name it (--ledger)"


def ledger_url_in(root: str, *, must_exist: bool = False) -> str:
    """
    URL of the SQLite ledger in a local root.

    The folder is made unless the ledger `must_exist`: looking must not make one.

    Raises:
        ConfigError: The root is no local folder, cannot be made, or holds no ledger.
    """
    if "://" in root:
        said = f"the root {root} is no local folder: name the ledger (--ledger, ledger_url)"
        raise ConfigError("ledger_url", said)
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
    Everything that a session is made of.

    Args:
        client: How to reach Mynth.
        ledger_url: SQLAlchemy URL of the ledger, SQLite or Postgres.
        root: Where the tables lie, any fsspec path.
        api_revision: A revision's name, or `auto` to ask the server.
        spool_dir: Local folder for answers that the ledger cannot take; empty: beside a SQLite
            ledger, else in a local root, else in the system's folder for temporary files.
        upload_lifetime_s: How long the URL of an uploaded file is used again.
        poll_interval_min_s: Shortest pause between two rounds of polling.
        poll_interval_max_s: Longest pause between two rounds of polling.
    """

    client: ClientSettings
    ledger_url: str
    root: str
    api_revision: str = AUTO_REVISION
    spool_dir: str = ""
    upload_lifetime_s: float = UPLOAD_LIFETIME_S
    poll_interval_min_s: float = POLL_INTERVAL_MIN_S
    poll_interval_max_s: float = POLL_INTERVAL_MAX_S

    @property
    def spool_folder(self) -> Path:
        """Where answers go that the ledger cannot take."""
        if self.spool_dir:
            return Path(self.spool_dir)
        if self.ledger_url.startswith(SQLITE):
            return Path(self.ledger_url.removeprefix(SQLITE) + "-spool")
        if "://" not in self.root:
            return Path(self.root).absolute() / SPOOL_FOLDER
        return Path(tempfile.gettempdir()) / SPOOL_FOLDER

    def __post_init__(self) -> None:
        if not 0 < self.poll_interval_min_s <= self.poll_interval_max_s:
            raise ConfigError("poll_interval_min_s", "between 0 and poll_interval_max_s")
        if self.upload_lifetime_s < 0:
            raise ConfigError("upload_lifetime_s", "it is negative; 0 uploads files anew each time")
        if self.api_revision != AUTO_REVISION:
            profile_of(self.api_revision)


@dataclass(frozen=True)
class Session:
    """Open services, living on one event loop."""

    settings: EngineSettings
    client: MynthClient
    ledger: Ledger
    account: PayingAccount
    throttle: Throttle
    clock: Clock


@asynccontextmanager
async def open_session(
    settings: EngineSettings,
    *,
    clock: Clock | None = None,
    transport: Transport | None = None,
) -> AsyncIterator[Session]:
    """
    Open client and ledger, and close both whatever happens.

    Raises:
        ConfigError: The revision cannot be told, or a setting is wrong.
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
        await take_in_spools(ledger, settings.spool_folder)
        revision = await _revision(settings, ledger, transport)
        client = MynthClient(settings.client, profile_of(revision), clock, transport=transport)
        try:
            throttle = Throttle(settings.client.concurrency, clock)
            account = PayingAccount(client, ledger, clock)
            yield Session(settings, client, ledger, account, throttle, clock)
        finally:
            await client.aclose()
    finally:
        ledger.close()
        if not settings.spool_dir:  # a folder that somebody chose may have been there before us
            remove_if_empty(settings.spool_folder)


async def find_revision(settings: ClientSettings, transport: Transport | None = None) -> str:
    """
    The revision that the server speaks, by free requests.

    Raises:
        ConfigError: It does not tell.
    """
    return _require_told(await _ask_safely(settings, transport), settings)


async def _ask_safely(
    settings: ClientSettings, transport: Transport | None, seen: str | None = None
) -> RevisionVerdict:
    try:
        return await ask_revision(settings, seen=seen, transport=transport)
    except ApiError as error:
        return RevisionVerdict(None, error.reason, is_certain=False, may_pass=True)


def _require_told(verdict: RevisionVerdict, settings: ClientSettings) -> str:
    if verdict.revision is None:
        raise RevisionUnknownError(
            settings.normalised_base_url, verdict.basis, may_pass=verdict.may_pass
        )
    return verdict.revision


async def _revision(settings: EngineSettings, ledger: Ledger, transport: Transport | None) -> str:
    """The pinned revision, else the server's own, else the last one seen there."""
    url = settings.client.normalised_base_url
    if settings.api_revision != AUTO_REVISION:
        _log.info("API revision %s at %s, as pinned", settings.api_revision, url)
        return settings.api_revision
    remembered = ledger.read.meta(REVISION_META + url)
    verdict = await _ask_safely(settings.client, transport, remembered)
    if remembered is not None and not verdict.is_certain:
        _log.info("API revision %s at %s, as last seen (%s)", remembered, url, verdict.basis)
        return remembered
    found = _require_told(verdict, settings.client)
    _log.info("API revision %s at %s, told %s", found, url, verdict.basis)
    if remembered not in (None, found):
        _log.warning("%s has changed from API revision %s to %s", url, remembered, found)
    if remembered != found:
        await ledger.set_meta(REVISION_META + url, found)
    return found
