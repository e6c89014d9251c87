"""How webhooks are, from what the ledger remembers of them; pure but for reading it."""

from __future__ import annotations

from mynth_dagster.clock import US_PER_S, utc_from_us
from mynth_dagster.engine.announced import Hearing, read_hearing
from mynth_dagster.engine.registration import REGISTERED_META
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import EventOutcome, InboxCounts
from mynth_dagster.limits import BACKLOG_AGE_MAX_S
from mynth_dagster.models.finding import Finding, note, ok, problem
from mynth_dagster.models.receiver import RECEIVER_META, ReceiverReport

REFUSED_LATELY_US = 86_400 * US_PER_S
SUBJECT = "webhooks"


def webhook_findings(ledger: Ledger, *, now_us: int) -> list[Finding]:
    """Receiver, inbox and deliveries; call it from a worker thread."""
    told = ledger.read.meta(RECEIVER_META)
    receiver = ReceiverReport.from_json(told) if told else None
    counts = ledger.inbox.counts()
    if receiver is None and counts.last_received_at_us is None:
        return [ok(SUBJECT, "never used with this ledger; polling does everything")]
    found = [_deliveries(counts, now_us)]
    if receiver is not None:
        found += _refusals(receiver, now_us)
    found += _backlog(counts, now_us)
    webhook_id = ledger.read.meta(REGISTERED_META)
    for batch in ledger.read.batches():
        found += _silence(batch, read_hearing(ledger, batch), webhook_id)
    return found


def _deliveries(counts: InboxCounts, now_us: int) -> Finding:
    if counts.last_received_at_us is None:
        said = "a receiver runs, and no event ever came"
        return note(SUBJECT, said, "register its URL at Mynth: mynth-dagster webhook-register")
    ago = _ago(counts.last_received_at_us, now_us)
    n_read = counts.n_by_outcome.get(EventOutcome.READ, 0)
    return ok(SUBJECT, f"last event {ago}; {n_read} tasks were told that way")


def _refusals(receiver: ReceiverReport, now_us: int) -> list[Finding]:
    if receiver.refused_at_us is None or now_us - receiver.refused_at_us > REFUSED_LATELY_US:
        return []
    reasons = "; ".join(f"{n} × {reason}" for reason, n in receiver.n_refused.items())
    said = f"the receiver refused requests, the last {_ago(receiver.refused_at_us, now_us)}"
    step = "if they were Mynth's: compare MYNTH_WEBHOOK_SECRET with the dashboard, and the clock"
    return [note("refusals", f"{said}: {reasons}", step)]


def _backlog(counts: InboxCounts, now_us: int) -> list[Finding]:
    found = []
    oldest_us = counts.oldest_open_at_us
    if oldest_us is not None and now_us - oldest_us > BACKLOG_AGE_MAX_S * US_PER_S:
        said = (
            f"{counts.n_open} events wait to be worked, the oldest came {_ago(oldest_us, now_us)}"
        )
        found.append(note("inbox", said, "see that the completion sensor runs"))
    n_unmatched = counts.n_by_outcome.get(EventOutcome.UNMATCHED, 0)
    if n_unmatched:
        said = f"{n_unmatched} events name this ledger, but no row of it"
        step = "was the ledger restored from an older copy? Their bodies are kept in the inbox"
        found.append(problem("inbox", said, step))
    return found


def _silence(batch: str, hearing: Hearing, webhook_id: str | None) -> list[Finding]:
    said = hearing.in_words()
    if said is None:
        return []
    enable = f"mynth-dagster webhook-register URL --id {webhook_id}" if webhook_id else "dashboard"
    step = (
        "see that the receiver runs and can be reached from outside. Mynth may disable an "
        f"endpoint that keeps failing, and tells no key so: enable it again ({enable})"
    )
    return [problem(f"webhooks of {batch}", said, step)]


def _ago(at_us: int, now_us: int) -> str:
    minutes = max(0, now_us - at_us) / US_PER_S / 60
    words = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return f"{words} ago ({utc_from_us(at_us):%Y-%m-%d %H:%M:%S} UTC)"
