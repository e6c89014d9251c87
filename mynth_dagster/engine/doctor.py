"""
Looking at everything that a run needs, without sending, spending or changing anything.

Each look is a finding: what was looked at, how it is, and what to do about it.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from mynth_dagster.client.client import MynthClient, ask_revision
from mynth_dagster.client.http import Transport
from mynth_dagster.clock import US_PER_S, Clock, SystemClock
from mynth_dagster.engine.account import (
    COLLECT_ELSEWHERE,
    GENERATE,
    MANAGE,
    fingerprint_of,
    my_account,
    reach_of,
    scopes_in_words,
    tasks_elsewhere,
)
from mynth_dagster.engine.session import SQLITE, EngineSettings
from mynth_dagster.engine.webhook_health import webhook_findings
from mynth_dagster.errors import ApiError, MynthError, UnauthorizedError
from mynth_dagster.ledger import Ledger
from mynth_dagster.limits import CLOCK_SKEW_MAX_S
from mynth_dagster.models.finding import Finding, note, ok, problem
from mynth_dagster.models.money import format_usd
from mynth_dagster.models.task import Account
from mynth_dagster.tables.prompts import named_destinations
from mynth_dagster.wire import AUTO_REVISION, profile_of

MOUNTS = Path("/proc/self/mounts")
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p"),
        *("sshfs", "glusterfs", "ceph", "cephfs", "ceph-fuse", "lustre"),
        *("afs", "virtiofs", "vboxsf", "davfs", "davfs2", "s3fs"),
        *("gcsfuse", "rclone", "goofys", "mountpoint-s3", "blobfuse2", "beegfs"),
        *("gpfs", "ocfs2", "gfs2"),
    }
)
"""Where locks or shared memory do not reach other machines; also behind `fuse.`."""


async def examine(
    settings: EngineSettings, *, clock: Clock | None = None, transport: Transport | None = None
) -> list[Finding]:
    """Look at tables, ledger, API, key, money, clock, webhooks; raises for nothing it finds."""
    clock = clock or SystemClock()
    findings = [_tables(settings.root)]
    findings += await asyncio.to_thread(_ledger_disk, settings.ledger_url)
    findings += await asyncio.to_thread(_ledger, settings, clock)
    findings += await _Server(settings, clock, transport).examine()
    return findings


def _tables(root: str) -> Finding:
    if "://" in root:
        return ok("tables", f"{root} is not on this machine; it is not looked into")
    folder = Path(root).absolute()
    if not folder.is_dir():
        return problem("tables", f"{folder} is no folder", "make it, or correct --root")
    if not os.access(folder, os.W_OK | os.X_OK):
        return problem("tables", f"{folder} is not writable", "change its permissions")
    return ok("tables", f"{folder} is writable")


def _ledger_disk(url: str) -> list[Finding]:
    """Whether a SQLite ledger lies where SQLite cannot keep it; nothing where nobody tells."""
    if not url.startswith(SQLITE):
        return []
    file = Path(url.removeprefix(SQLITE).partition("?")[0]).absolute()
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape")
        kind = file_system_of(str(file.resolve()), mounts)
    except (OSError, RuntimeError):  # no such system, or links that go round
        return []
    if kind is None or kind.removeprefix("fuse.") not in NETWORK_FILE_SYSTEMS:
        return []
    said = f"{file} lies on a network file system ({kind}): SQLite's locks fail there"
    return [problem("ledger's disk", said, "use a local disk, or Postgres for several machines")]


def file_system_of(path: str, mounts: str) -> str | None:
    """The type of the file system that a path is on, by the lines of `/proc/self/mounts`."""
    found, longest = None, 0
    for line in mounts.splitlines():
        _, place, kind, *_ = [*line.split(" "), "", "", ""]
        for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            place = place.replace(code, char)
        # Of several at one place, the last hides the others.
        if f"{path}/".startswith(f"{place.rstrip('/')}/") and place and len(place) >= longest:
            found, longest = kind, len(place)
    return found


def _ledger(settings: EngineSettings, clock: Clock) -> list[Finding]:
    try:
        ledger = Ledger.open(settings.ledger_url)
    except MynthError as error:
        return [problem("ledger", str(error), "correct --ledger, or start its database")]
    try:
        n_batches = len(ledger.read.batches())
        found = [ok("ledger", f"{ledger.ledger_id} answers; {n_batches} batches")]
        n_in_doubt = len(ledger.doubts.held())
        if n_in_doubt:
            said = f"{n_in_doubt} paid requests have an unknown outcome"
            found.append(note("in doubt", said, "mynth-dagster resolve lists them"))
        found += _elsewhere(ledger, settings)
        return found + webhook_findings(ledger, now_us=clock.now_us())
    except MynthError as error:
        return [problem("ledger", str(error), "look at its database")]
    finally:
        ledger.close()


def _elsewhere(ledger: Ledger, settings: EngineSettings) -> list[Finding]:
    """Tasks that a session with these settings does not ask about."""
    known = ledger.accounts.all()
    url, key = settings.client.normalised_base_url, settings.client.api_key
    reach = reach_of(my_account(known, url, fingerprint_of(ledger.salt, key)), known)
    n_awaited = ledger.accounts.n_awaited() if reach.elsewhere else {}
    return [
        note("other servers", f"{n} tasks were made at {place}", COLLECT_ELSEWHERE)
        for place, n in tasks_elsewhere(reach, n_awaited).items()
    ]


@dataclass
class _Server:
    """Looks at Mynth; each needs the one before."""

    settings: EngineSettings
    clock: Clock
    transport: Transport | None

    async def examine(self) -> list[Finding]:
        finding, revision = await self._revision()
        if revision is None:
            return [finding]
        client = MynthClient(
            self.settings.client, profile_of(revision), self.clock, transport=self.transport
        )
        try:
            return [finding, *await self._account(client)]
        finally:
            await client.aclose()

    async def _revision(self) -> tuple[Finding, str | None]:
        url = self.settings.client.normalised_base_url
        pinned = self.settings.api_revision
        try:
            verdict = await ask_revision(self.settings.client, transport=self.transport)
        except ApiError as error:
            return problem("API", f"{url}: {error.reason}", "look at the network"), None
        found, basis = verdict.revision, verdict.basis
        revision = found if pinned == AUTO_REVISION else pinned
        if revision is None:
            said = f"{url} does not tell its revision ({basis})"
            return problem("API", said, "pin --api-revision"), None
        if found not in (None, revision):
            said = f"{url} speaks {found}, told {basis}, but {revision} is pinned"
            return note("API", said, "leave --api-revision at auto"), revision
        how = f"told {basis}" if verdict.is_certain else f"as far as can be told ({basis})"
        return ok("API", f"{url} speaks revision {revision}, {how}"), revision

    async def _account(self, client: MynthClient) -> list[Finding]:
        if not self.settings.client.api_key:
            return [problem("key", "there is none", "set MYNTH_API_KEY")]
        try:
            account = await client.check_key()
        except UnauthorizedError as error:
            return [problem("key", f"refused (HTTP {error.status})", "correct MYNTH_API_KEY")]
        except ApiError as error:
            return [problem("key", f"cannot be checked: {error.reason}", "try again")]
        whose = f"of account {account.user_id}" if account else "by the server"
        found = [ok("key", f"accepted, {whose}")]
        if account is not None and account.scopes is not None:
            found.append(_scopes(account))
        found.append(self._clock_skew(client))
        if client.profile.HAS_ACCOUNT:
            found.append(await self._money(client, account))
        if client.profile.HAS_DESTINATIONS:
            found += await self._destinations(client)
        return found

    def _clock_skew(self, client: MynthClient) -> Finding:
        server_us = client.server_now_us
        if server_us is None:
            return ok("clock", "the server does not tell its time")
        off_s = (self.clock.now_us() - server_us) / US_PER_S
        if abs(off_s) <= CLOCK_SKEW_MAX_S:
            return ok("clock", "agrees with the server's")
        said = f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the server's"
        return note("clock", said, "set this machine's clock: webhooks may be refused for it")

    async def _money(self, client: MynthClient, account: Account | None) -> Finding:
        """The balance where the key may see it, else what the key may still spend."""
        reason = f"the key lacks the scope {MANAGE!r}"
        if account is None or account.may(MANAGE):
            try:
                balance = await client.get_balance()
            except ApiError as error:
                reason = error.reason
            else:
                held = format_usd(balance.reserved_units)
                left = format_usd(balance.available_units)
                return ok("balance", f"{left} available, {held} reserved{_limit(account)}")
        limit = _limit(account)
        if limit:
            return ok("balance", f"not told ({reason}){limit}")
        return note("balance", f"unknown: {reason}", "look at the dashboard")

    async def _destinations(self, client: MynthClient) -> list[Finding]:
        """Whether the account has the storage that prompt tables of this root name."""
        root = self.settings.root
        if "://" in root:
            return []
        named = await asyncio.to_thread(named_destinations, root)
        if not named:
            return []
        try:
            known = await client.list_destinations()
        except ApiError as error:
            said = f"{', '.join(sorted(named))} cannot be checked: {error.reason}"
            return [note("destinations", said, "look at the dashboard")]
        missing = sorted(named - known)
        if not missing:
            return [ok("destinations", f"the account has {', '.join(sorted(named))}")]
        said = f"the account has no {', '.join(missing)}: Mynth refuses every row that names it"
        return [problem("destinations", said, "add it at Mynth, or correct the prompts")]


def _scopes(account: Account) -> Finding:
    said = f"may {scopes_in_words(account)}"
    if account.may(GENERATE):
        return ok("scopes", said)
    return problem("scopes", f"{said}; not {GENERATE}: no row can be sent", "use another key")


def _limit(account: Account | None) -> str:
    """What the key may spend, where it is told: a clause to be added."""
    spending = account.spending if account else None
    if spending is None:
        return ""
    if spending.limit_units is None:
        return "; the key has no spending limit"
    period = f" a {spending.period}" if spending.period else ""
    left = spending.remaining_units
    rest = f", {format_usd(left)} left" if left is not None else ""
    return f"; the key may spend {format_usd(spending.limit_units)}{period}{rest}"
