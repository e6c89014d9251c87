"""
The whole error tree, split by what the caller does next.

```
MynthError                        everything this package raises on purpose
├── ConfigError                   a setting is wrong; nothing was read, sent or spent
│   ├── MissingExtraError         an optional part is not installed (`extra`)
│   ├── UnsupportedFeatureError   the API revision in use has no such thing
│   └── RevisionUnknownError      the server's responses prove no revision (`may_pass`)
├── TableError                    a prompt or result table is unusable; nothing was sent
├── ApiError                      an exchange with Mynth
│   ├── NotSentError              provably nothing left this machine: safe to repeat
│   ├── NoAnswerError             sent, but no complete answer: outcome unknown for a POST
│   ├── RefusedError              a response with an error status (`status`, `code`, `body`)
│   │   ├── UnauthorizedError     401, 403, 407: the key or token was refused
│   │   ├── InvalidRequestError   400, 415, 422 …: this request is at fault
│   │   ├── InsufficientBalanceError   the account cannot pay
│   │   ├── SpendingLimitError    the key's limit for the period is used up
│   │   ├── NotFoundError         404: unknown, or not visible to this key
│   │   ├── RateLimitedError      429: later (`retry_after_s`)
│   │   └── ServerFaultError      5xx: outcome unknown for a POST
│   └── UnexpectedPayloadError    a response that is not in the revision's shape
├── DownloadError                 one image cannot be downloaded (`code`, `may_pass`)
├── TaskError                     waiting for one task
│   ├── PollTimeoutError          not finished within the time allowed
│   ├── PollUnauthorizedError     the token, and the key if there is one, were refused
│   ├── PollFetchError            too many failed reads of the status in a row
│   ├── TaskFetchError            the finished task could not be read
│   └── TaskFailedError           the task ended `failed` (`faults`)
├── RunStoppedError               a run ended before all rows were sent; resumable
│   ├── PriceUnknownError         a budget is set, and a price is not known
│   └── ConfirmationNeededError   it would pay for rows again: a person has to confirm it
├── LedgerError
│   ├── LedgerUnavailableError    the database did not confirm: outcome of the write unknown
│   ├── AccountMismatchError      the key is another account's than the ledger's tasks
│   ├── LedgerMismatchError       another ledger, or an older copy, than the tables know
│   ├── SchemaVersionError        written by a newer release
│   └── IllegalTransitionError    a state may not move that way; nothing was written
└── WebhookRejectedError          missing, malformed, wrong or stale signature
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mynth_dagster.limits import EXCERPT_MAX_CHARS, ROWS_NAMED_MAX
from mynth_dagster.printable import printable


class MynthError(Exception):
    """Everything this package raises on purpose; its message may be shown on any terminal."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ConfigError(MynthError):
    """A setting is wrong; raised before anything was read, sent or spent."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


class MissingExtraError(ConfigError, ImportError):
    """An optional part of the package is needed and not installed; names the command for it."""

    def __init__(self, needed_by: str, extra: str, module: str) -> None:
        super().__init__(
            needed_by, f"{module} is not installed; run pip install 'mynth-dagster[{extra}]'"
        )
        self.extra = extra


class UnsupportedFeatureError(ConfigError):
    """The API revision in use has no such thing."""


class RevisionUnknownError(ConfigError):
    """The responses prove no revision; `may_pass`: the server is unreachable or has a fault."""

    def __init__(self, base_url: str, basis: str, *, may_pass: bool) -> None:
        super().__init__(
            "api_revision",
            f"{base_url} does not tell its revision ({basis}). "
            "Nothing was sent. Try again, or pin the revision.",
        )
        self.may_pass = may_pass


@dataclass(frozen=True)
class TableProblem:
    """One problem of a table: `row` is 0-based in reading order, or None for the whole."""

    reason: str
    row: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        where = [f"row {self.row}"] if self.row is not None else []
        where += [f"column {self.column!r}"] if self.column else []
        return f"{', '.join(where)}: {self.reason}" if where else self.reason


class TableError(MynthError):
    """A table cannot be used as it is; nothing was sent and nothing was charged."""

    def __init__(self, path: str, problems: Sequence[TableProblem] | str) -> None:
        if isinstance(problems, str):
            problems = [TableProblem(problems)]
        super().__init__(f"{path}: {name_some(problems)}")
        self.path = path
        self.problems = tuple(problems)


class ApiError(MynthError):
    """An exchange with Mynth that failed."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(f"{operation}: {reason}")
        self.operation = operation
        self.reason = reason


class NotSentError(ApiError):
    """Provably no connection was handed over: nothing left, nothing was charged."""


class WithheldRequestError(NotSentError):
    """Its time to be sent was over before a byte of it had left; nothing was sent."""


class NoAnswerError(ApiError):
    """The request may have arrived, and no complete response came back."""


class RefusedError(ApiError):
    """An answer with an error status."""

    def __init__(
        self,
        operation: str,
        *,
        status: int,
        code: str | None = None,
        message: str = "",
        field: str | None = None,
        body: Any = None,
        retry_after_s: float | None = None,
    ) -> None:
        text = f"{code}: {message}" if code and message else (code or message or "no details")
        super().__init__(operation, f"HTTP {status}, {text}")
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.body = body
        self.retry_after_s = retry_after_s


class UnauthorizedError(RefusedError):
    """The key or token is missing, wrong, expired, or may not do this."""


class InvalidRequestError(RefusedError):
    """Mynth does not accept this request as it stands."""


class InsufficientBalanceError(RefusedError):
    """The account's available balance does not cover the reservation."""


class SpendingLimitError(RefusedError):
    """The key's spending limit for its period is used up."""


class NotFoundError(RefusedError):
    """No such thing, or not visible to this key."""


class RateLimitedError(RefusedError):
    """Too many requests; `retry_after_s` if the response has it."""


class ServerFaultError(RefusedError):
    """The server failed; whether it acted before that is not known."""


class UnexpectedPayloadError(ApiError):
    """A response not in the revision's shape; `excerpt` is cut and has no secrets."""

    def __init__(self, operation: str, *, revision: str, path: str, excerpt: str = "") -> None:
        shown = f": {cut(excerpt)}" if excerpt else ""
        super().__init__(operation, f"no {path} in a {revision} answer{shown}")
        self.revision = revision
        self.path = path
        self.excerpt = cut(excerpt)


class DownloadError(MynthError):
    """
    An image that cannot be downloaded from its URL, or is not to be trusted.

    `code` is listed in `docs/tables.md`; with `may_pass` another try may end otherwise. The message
    does not contain the URL, which may be signed.
    """

    def __init__(
        self, code: str, reason: str, *, http_status: int | None = None, may_pass: bool = False
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.http_status = http_status
        self.may_pass = may_pass


class TaskError(MynthError):
    """Waiting for one task did not end in a result."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"task {task_id}: {reason}")
        self.task_id = task_id
        self.reason = reason


class PollTimeoutError(TaskError):
    """The task was still pending when the time allowed was over; it may yet finish."""


class PollUnauthorizedError(TaskError):
    """The token was refused, and so was the key where there is one."""


class PollFetchError(TaskError):
    """Too many reads of the status failed in a row; the task itself may be well."""


class TaskFetchError(TaskError):
    """The task is finished but its details could not be read."""


class TaskFailedError(TaskError):
    """The task ended `failed`; `faults` are its `(code, message)` pairs."""

    def __init__(self, task_id: str, faults: Sequence[tuple[str, str | None]] = ()) -> None:
        message = ", ".join(code if not text else f"{code}: {text}" for code, text in faults)
        super().__init__(task_id, f"failed ({message or 'no reason given'})")
        self.faults = tuple(faults)


class RunStoppedError(MynthError):
    """
    A run ended before all rows were sent; what was sent is recorded, the rest can be resumed.

    `code` names the reason (`unauthorized`, `insufficient_balance`, `rate_limited`, …).
    """

    def __init__(self, code: str, reason: str, *, money: str, next_step: str) -> None:
        super().__init__(f"{reason} Money: {money} Next: {next_step}")
        self.code = code
        self.reason = reason
        self.money = money
        self.next_step = next_step


class ConfirmationNeededError(RunStoppedError):
    """The run would pay again for rows that were paid before."""


class PriceUnknownError(RunStoppedError):
    """A budget is set and the price of some requests is not known; nothing was sent."""

    def __init__(self, models: Sequence[str], budget: str) -> None:
        super().__init__(
            "price_unknown",
            f"The budget ({budget}) cannot be kept: the price of {name_some(models)} is unknown.",
            money="nothing was sent and nothing was charged.",
            next_step="give the price per image in `prices_usd`, or take the budget away.",
        )
        self.models = tuple(models)


class LedgerError(MynthError):
    """The ledger could not do an operation."""


class LedgerUnavailableError(LedgerError):
    """The database did not confirm a write; whether it was committed is not known."""


class LedgerMismatchError(LedgerError):
    """The ledger is not the one that the tables at hand belong to, or an older copy of it."""


class AccountMismatchError(LedgerError):
    """The key belongs, or may belong, to another account than the one the ledger's tasks have."""

    def __init__(self, base_url: str, known: Sequence[str], doubt: str = "") -> None:
        users = ", ".join(sorted({user for user in known if user})) or "another account"
        message = (
            f"the account of this key could not be read ({doubt})"
            if doubt
            else "this key belongs to another account"
        )
        super().__init__(
            f"the ledger's tasks at {base_url} were paid for by {users}, and {message}. Nothing "
            "was sent, and none of them was read. Use that account's key or another ledger; if "
            "that is what you want: mynth-dagster account adopt"
        )
        self.base_url = base_url


class SchemaVersionError(LedgerError):
    """The ledger was written by a newer release of this package."""

    def __init__(self, found: str, supported: str) -> None:
        super().__init__(
            f"the ledger has schema {found}, this release knows up to {supported}: "
            "upgrade mynth-dagster, or point to another ledger"
        )
        self.found = found
        self.supported = supported


class IllegalTransitionError(LedgerError):
    """A state may not move that way; nothing was written."""

    def __init__(self, key: str, from_state: str, to_state: str) -> None:
        super().__init__(f"{key}: {from_state} may not become {to_state}")
        self.key = key
        self.from_state = from_state
        self.to_state = to_state


class WebhookRejectedError(MynthError):
    """A delivery without a valid, fresh signature; `reason` is for logs, never for the sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def name_some(items: Sequence[object], limit: int = ROWS_NAMED_MAX) -> str:
    """Name at most ``limit`` of the items, and how many more there are."""
    shown = "; ".join(str(item) for item in items[:limit])
    more = len(items) - limit
    return f"{shown}; and {more} more" if more > 0 else shown


def cut(text: str, limit: int = EXCERPT_MAX_CHARS) -> str:
    """Return the text on one line, cut to ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
