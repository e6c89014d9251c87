"""
The checks of `mynth-dagster doctor`: everything that a run needs, without sending or spending.

Each check gives findings: what was checked, how it is, and what to do about it. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from mynth_dagster.client.client import MynthClient, ask_revision
from mynth_dagster.client.http import Transport
from mynth_dagster.clock import US_PER_S, Clock, SystemClock, utc_from_us
from mynth_dagster.engine.session import (
    COLLECT_ELSEWHERE,
    GENERATE,
    MANAGE,
    SQLITE,
    EngineSettings,
    Session,
    fingerprint_of,
    my_account,
    reach_of,
    scopes_in_words,
    tasks_elsewhere,
)
from mynth_dagster.engine.webhook_health import WebhookHealth, read_webhook_health
from mynth_dagster.errors import (
    ApiError,
    ConfigError,
    InvalidRequestError,
    MynthError,
    NotFoundError,
    RefusedError,
    UnauthorizedError,
)
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import EventOutcome, WebhookEventCounts
from mynth_dagster.limits import BACKLOG_AGE_MAX_S, CLOCK_SKEW_MAX_S
from mynth_dagster.models.money import format_usd
from mynth_dagster.models.receiver import RECEIVER_META, ReceiverReport
from mynth_dagster.models.request import FOLLOW_UP_TASKS
from mynth_dagster.models.task import IMAGE_TASK, Account
from mynth_dagster.tables.parquet import open_file_system
from mynth_dagster.tables.prompts import named_destinations
from mynth_dagster.wire import AUTO_REVISION, profile_of
from mynth_dagster.wire.events import events_of
from mynth_dagster.wire.revision import RevisionProfile

# Registration of a webhook at Mynth, where the key may do so.


REGISTERED_META = "webhook:registered"
"""The ledger's fact that holds the id of the webhook that was registered with it."""


@dataclass(frozen=True)
class Registration:
    """What came of it; `note` says what a person has to do where the key may not."""

    webhook_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    note: str | None = None


async def register(session: Session, url: str, webhook_id: str | None = None) -> Registration:
    """
    Register an endpoint for the end of image tasks, or enable and move a registered one.

    An existing registration is replaced as a whole: the other settings of revision 2026-10
    (`api_key_ids`, `include_session_tasks`) go back to their defaults.

    Raises:
        ConfigError: It is not a URL, or Mynth refuses it.
        ApiError: No response came; a webhook may have been made, see the dashboard.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("URL", "an http or https URL is needed, such as https://hooks.…/")
    events = events_wanted(session.client.profile)
    try:
        made = await session.client.put_webhook(url, events, webhook_id)
    except (UnauthorizedError, NotFoundError) as error:
        return Registration(note=_by_hand(events, url, webhook_id, error))
    except InvalidRequestError as error:
        raise ConfigError("URL", f"Mynth refuses it: {error.reason}") from None
    await session.ledger.set_meta(REGISTERED_META, made.webhook_id)
    return Registration(made.webhook_id, made.secret)


def events_wanted(profile: RevisionProfile) -> list[str]:
    """The events that the revision has and that finish a task of ours; each by its own name."""
    follow_ups = FOLLOW_UP_TASKS if profile.HAS_FOLLOW_UPS else ()
    return events_of(IMAGE_TASK, *follow_ups)


def _by_hand(events: list[str], url: str, webhook_id: str | None, error: RefusedError) -> str:
    status = f"HTTP {error.status}"
    if webhook_id is not None:
        refused = f"Mynth does not let this key change webhook {webhook_id} ({status})"
        step = f"enable it and set its URL to {url}; its secret stays."
    else:
        refused = f"Mynth does not let this key manage webhooks ({status})"
        step = (
            f"add a webhook with the URL {url} and the events {', '.join(events)}, "
            "and set MYNTH_WEBHOOK_SECRET to the secret that is shown once."
        )
    if error.code == "insufficient_scope":
        refused += ": the key lacks the scope `manage`. Use a key that has it, or do it by hand"
    return f"{refused}. In Mynth's dashboard, {step}"


# Findings.


class Level(str, Enum):
    """How it is: a `note` is worth knowing, a `problem` stops something from working."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not well."""

    subject: str
    level: Level
    message: str
    next_step: str | None = None


def ok(subject: str, message: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, message)


def note(subject: str, message: str, next_step: str) -> Finding:
    """Worth knowing."""
    return Finding(subject, Level.NOTE, message, next_step)


def problem(subject: str, message: str, next_step: str) -> Finding:
    """Something does not work."""
    return Finding(subject, Level.PROBLEM, message, next_step)


# The state of webhooks, from what the ledger records of them; pure but for reading it.


REFUSED_LATELY_US = 86_400 * US_PER_S
SUBJECT = "webhooks"


def webhook_findings(ledger: Ledger, *, now_us: int) -> list[Finding]:
    """Receiver, events and deliveries; call it from a worker thread."""
    stored = ledger.read.meta(RECEIVER_META)
    receiver = ReceiverReport.from_json(stored) if stored else None
    counts = ledger.events.counts()
    if receiver is None and counts.last_received_at_us is None:
        return [ok(SUBJECT, "never used with this ledger; polling does everything")]
    found = [_deliveries(counts, now_us)]
    if receiver is not None:
        found += _refusals(receiver, now_us)
    found += _backlog(counts, now_us)
    webhook_id = ledger.read.meta(REGISTERED_META)
    for batch in ledger.read.batches():
        found += _silence(batch, read_webhook_health(ledger, batch), webhook_id)
    return found


def _deliveries(counts: WebhookEventCounts, now_us: int) -> Finding:
    if counts.last_received_at_us is None:
        message = "a receiver runs, and no event ever came"
        return note(SUBJECT, message, "register its URL at Mynth: mynth-dagster webhook-register")
    ago = _ago(counts.last_received_at_us, now_us)
    n_read = counts.n_by_outcome.get(EventOutcome.READ, 0)
    return ok(SUBJECT, f"last event {ago}; {n_read} tasks were announced by events")


def _refusals(receiver: ReceiverReport, now_us: int) -> list[Finding]:
    if receiver.refused_at_us is None or now_us - receiver.refused_at_us > REFUSED_LATELY_US:
        return []
    reasons = "; ".join(f"{n} × {reason}" for reason, n in receiver.n_refused.items())
    message = f"the receiver refused requests, the last {_ago(receiver.refused_at_us, now_us)}"
    step = "if they were Mynth's: compare MYNTH_WEBHOOK_SECRET with the dashboard, and the clock"
    return [note("refusals", f"{message}: {reasons}", step)]


def _backlog(counts: WebhookEventCounts, now_us: int) -> list[Finding]:
    found = []
    oldest_us = counts.oldest_open_at_us
    if oldest_us is not None and now_us - oldest_us > BACKLOG_AGE_MAX_S * US_PER_S:
        message = (
            f"{counts.n_open} events wait to be processed, the oldest of them came "
            f"{_ago(oldest_us, now_us)}"
        )
        found.append(note("events", message, "see that the completion sensor runs"))
    n_unmatched = counts.n_by_outcome.get(EventOutcome.UNMATCHED, 0)
    if n_unmatched:
        message = f"{n_unmatched} events name this ledger, but no row of it"
        step = "was the ledger restored from an older copy? Their bodies are kept in the ledger"
        found.append(problem("events", message, step))
    return found


def _silence(batch: str, health: WebhookHealth, webhook_id: str | None) -> list[Finding]:
    if health.problem is None:
        return []
    enable = f"mynth-dagster webhook-register URL --id {webhook_id}" if webhook_id else "dashboard"
    step = (
        "see that the receiver runs and can be reached from outside. Mynth may disable an "
        f"endpoint that keeps failing, and no API key can see that: enable it again ({enable})"
    )
    return [problem(f"webhooks of {batch}", health.problem, step)]


def _ago(at_us: int, now_us: int) -> str:
    minutes = max(0, now_us - at_us) / US_PER_S / 60
    words = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return f"{words} ago ({utc_from_us(at_us):%Y-%m-%d %H:%M:%S} UTC)"


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
    """Check tables, ledger, API, key, money, clock, webhooks; raises for nothing it finds."""
    clock = clock or SystemClock()
    findings = [_tables(settings.root)]
    findings += await asyncio.to_thread(_ledger_disk, settings.ledger_url)
    findings += await asyncio.to_thread(_ledger, settings, clock)
    findings += await _Server(settings, clock, transport).examine()
    return findings


def _tables(root: str) -> Finding:
    if "://" in root:
        try:
            open_file_system(root)
        except ConfigError as error:
            return problem("tables", str(error), "install it, or correct --root")
        return ok("tables", f"{root} is not on this machine; it is not checked")
    folder = Path(root).absolute()
    if not folder.is_dir():
        return problem("tables", f"{folder} is no folder", "make it, or correct --root")
    if not os.access(folder, os.W_OK | os.X_OK):
        return problem("tables", f"{folder} is not writable", "change its permissions")
    return ok("tables", f"{folder} is writable")


def _ledger_disk(url: str) -> list[Finding]:
    """Report a SQLite ledger on a network file system; nothing where the system does not tell."""
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
    message = f"{file} lies on a network file system ({kind}): SQLite's locks fail there"
    return [problem("ledger's disk", message, "use a local disk, or Postgres for several machines")]


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
        n_in_doubt = len(ledger.read.held())
        if n_in_doubt:
            message = f"{n_in_doubt} paid requests have an unknown outcome"
            found.append(note("in doubt", message, "mynth-dagster resolve lists them"))
        found += _elsewhere(ledger, settings)
        return found + webhook_findings(ledger, now_us=clock.now_us())
    except MynthError as error:
        return [problem("ledger", str(error), "look at its database")]
    finally:
        ledger.close()


def _elsewhere(ledger: Ledger, settings: EngineSettings) -> list[Finding]:
    """Report tasks that a session with these settings does not poll."""
    known = ledger.read.accounts()
    url, key = settings.client.normalised_base_url, settings.client.api_key
    reach = reach_of(my_account(known, url, fingerprint_of(ledger.salt, key)), known)
    n_awaited = ledger.read.n_awaited() if reach.elsewhere else {}
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
            message = f"{url} does not tell its revision ({basis})"
            return problem("API", message, "pin --api-revision"), None
        if found not in (None, revision):
            message = f"{url} speaks {found}, detected {basis}, but {revision} is pinned"
            return note("API", message, "leave --api-revision at auto"), revision
        how = f"detected {basis}" if verdict.is_certain else f"probably ({basis})"
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
        message = f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the server's"
        return note("clock", message, "set this machine's clock: webhooks may be refused for it")

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
            return ok("balance", f"not known ({reason}){limit}")
        return note("balance", f"unknown: {reason}", "look at the dashboard")

    async def _destinations(self, client: MynthClient) -> list[Finding]:
        """Check that the account has the storage that prompt tables of this root name."""
        root = self.settings.root
        if "://" in root:
            return []
        named = await asyncio.to_thread(named_destinations, root)
        if not named:
            return []
        try:
            known = await client.list_destinations()
        except ApiError as error:
            message = f"{', '.join(sorted(named))} cannot be checked: {error.reason}"
            return [note("destinations", message, "look at the dashboard")]
        missing = sorted(named - known)
        if not missing:
            return [ok("destinations", f"the account has {', '.join(sorted(named))}")]
        message = f"the account has no {', '.join(missing)}: Mynth refuses every row that names it"
        return [problem("destinations", message, "add it at Mynth, or correct the prompts")]


def _scopes(account: Account) -> Finding:
    message = f"may {scopes_in_words(account)}"
    if account.may(GENERATE):
        return ok("scopes", message)
    return problem("scopes", f"{message}; not {GENERATE}: no row can be sent", "use another key")


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
