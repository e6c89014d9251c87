"""
Accounts and their keys: balance, reservation, spending limit, and public access tokens.

Amounts are units of 10⁻⁸ USD. Everything runs on one thread without a pause between check and
change, so a reservation is atomic. Laws: ``balance - reserved`` is what may be spent; what was
taken from a balance is the sum of final costs.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Final, Literal

import orjson

from mynth_dagster.clock import US_PER_S, utc_from_us
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.defaults import units_of
from mynth_dagster.simulator.scenario import ApiKey, Quirks, Scenario
from mynth_dagster.simulator.validation import BALANCE, SPENDING_LIMIT, Refusal

_DAYS_PER_WEEK = 7


class SimulatedAccount:
    """One user's money."""

    def __init__(self, user_id: str, balance: int) -> None:
        self.user_id = user_id
        self.balance = balance
        self.reserved = 0

    @property
    def available(self) -> int:
        """What is neither spent nor held."""
        return self.balance - self.reserved


class Key:
    """One API key, its limit, and the numbers of the tasks that it made, ascending."""

    def __init__(self, settings: ApiKey, key_id: str, account: SimulatedAccount) -> None:
        self.secret = settings.key
        self.key_id = key_id
        self.account = account
        self.task_numbers: list[int] = []
        self._period = 0
        self._used = 0
        self.change(settings)

    @property
    def user_id(self) -> str:
        """Account that the key spends from."""
        return self.account.user_id

    def change(self, settings: ApiKey) -> None:
        """Take over changed settings of the same key."""
        limit_usd = settings.spending_limit_usd
        self.name = settings.name
        self.is_revoked = settings.revoked
        self.limit = None if limit_usd is None else units_of(limit_usd)
        self.limit_period = settings.spending_limit_period
        self.scopes = settings.scopes

    def used(self, at_us: int) -> int:
        """Spent and reserved in the period of ``at_us``."""
        period = self._period_of(at_us)
        if period != self._period:
            self._period, self._used = period, 0
        return self._used

    def reserve(self, units: int, at_us: int, quirks: Quirks) -> None:
        """
        Hold an amount for a new task, or refuse and change nothing.

        Raises:
            Refusal: The available balance or the key's limit is too low.
        """
        if self.account.available < units:
            status = quirks.insufficient_balance_status
            raise Refusal(BALANCE, defaults.BALANCE_TEXT, status=status)
        if self.limit is not None:
            if self.used(at_us) + units > self.limit:
                status = quirks.spending_limit_status
                raise Refusal(SPENDING_LIMIT, defaults.LIMIT_TEXT, status=status)
            self._used += units
        self.account.reserved += units

    def charge(self, reserved: int, cost: int, reserved_us: int) -> None:
        """Release what was held at ``reserved_us`` and charge what it came to."""
        self.account.reserved -= reserved
        self.account.balance -= cost
        if self.limit is not None and self._period_of(reserved_us) == self._period:
            self._used -= reserved - cost

    def _period_of(self, at_us: int) -> int:
        day = utc_from_us(at_us).date()
        if self.limit_period == "month":
            return day.year * 12 + day.month
        days = day.toordinal()
        return days if self.limit_period == "day" else (days - 1) // _DAYS_PER_WEEK


class Accounts:
    """All accounts and keys of a simulated Mynth."""

    def __init__(self, scenario: Scenario) -> None:
        self._accounts: dict[str, SimulatedAccount] = {}
        self._keys: dict[str, Key] = {}
        self._open_keys(scenario)

    def __iter__(self) -> Iterator[SimulatedAccount]:
        return iter(self._accounts.values())

    def find(self, secret: str) -> Key | None:
        """The key with this secret, unless revoked or unknown."""
        key = self._keys.get(secret)
        return None if key is None or key.is_revoked else key

    def with_id(self, key_id: str) -> Key | None:
        """The key with this id, revoked or not."""
        return next((key for key in self._keys.values() if key.key_id == key_id), None)

    def change(self, scenario: Scenario, previous: Scenario) -> None:
        """Follow a changed scenario: new keys open, absent ones close, balances move if changed."""
        self._open_keys(scenario)
        for account in self:
            opening = scenario.opening_balance_usd(account.user_id)
            if opening != previous.opening_balance_usd(account.user_id):
                account.balance = units_of(opening)

    def _open_keys(self, scenario: Scenario) -> None:
        keys: dict[str, Key] = {}
        for position, settings in enumerate(scenario.api_keys):
            user_id = settings.user_id
            if user_id not in self._accounts:
                opening = units_of(scenario.opening_balance_usd(user_id))
                self._accounts[user_id] = SimulatedAccount(user_id, opening)
            key = self._keys.get(settings.key)
            if key is None or key.user_id != user_id:
                key_id = settings.key_id or f"key_simulator_{position}"
                key = Key(settings, key_id, self._accounts[user_id])
            key.change(settings)
            keys[settings.key] = key
        self._keys = keys


# Public access tokens: ``pat_`` and a signed JWT that opens one task for a while.
#
# Algorithm and claims are invented; scope and lifetime are documented.


TOKEN_PREFIX: Final = "pat_"  # noqa: S105 - how tokens begin


def issue_token(task_id: str, at_us: int, lifetime_s: int) -> str:
    """A token for one task, valid for ``lifetime_s`` seconds from ``at_us``."""
    issued_s = at_us // US_PER_S
    claims = f'{{"sub":"{task_id}","iat":{issued_s},"exp":{issued_s + lifetime_s}}}'
    signed = _HEADER + b"." + _encode(claims.encode())
    return (TOKEN_PREFIX.encode() + signed + b"." + _encode(_sign(signed))).decode()


def judge_token(token: str, task_id: str, at_us: int) -> Literal["opens", "expired", "wrong"]:
    """Whether a token is genuine and for this task, and if so, whether it expired by ``at_us``."""
    signed, _, signature = token.removeprefix(TOKEN_PREFIX).encode().rpartition(b".")
    if not hmac.compare_digest(_encode(_sign(signed)), signature):
        return "wrong"
    claims_text = signed.partition(b".")[2]
    claims = orjson.loads(urlsafe_b64decode(claims_text + b"=" * (-len(claims_text) % 4)))
    if claims["sub"] != task_id:
        return "wrong"
    return "opens" if at_us < claims["exp"] * US_PER_S else "expired"


def _sign(signed: bytes) -> bytes:
    return hmac.digest(defaults.TOKEN_SECRET, signed, "sha256")


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


_HEADER: Final = _encode(b'{"alg":"HS256","typ":"JWT"}')
