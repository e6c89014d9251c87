"""
Whose money it is: the account behind the key, and that it is the one which the ledger knows.

The same key at the same address is the same account. Another key is taken in when it can be shown
to belong to the account that paid for the ledger's tasks; a foreign one stops before anything is
asked about those tasks or spent.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Sequence

from mynth_dagster.client.client import MynthClient
from mynth_dagster.clock import Clock
from mynth_dagster.errors import (
    AccountMismatchError,
    ApiError,
    ConfigError,
    NotFoundError,
    UnauthorizedError,
)
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.accounts import AccountRow
from mynth_dagster.models.task import Account

_log = logging.getLogger(__name__)
FINGERPRINT_CHARS = 32
ECHO_META = "echoes_tags:"
"""Before an account's number: the ledger's fact that its tasks come back with our tags."""

GENERATE, MANAGE = "generate", "manage"
"""Scopes of keys: to make tasks, and to see the account's money, webhooks and destinations."""


def require_may_generate(account: Account | None) -> None:
    """
    Stop before the first row where the key is known to be unable to create tasks.

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
    """The scopes of a key, for people."""
    return ", ".join(sorted(account.scopes or ())) or "none"


class PayingAccount:
    """The account of one session, found out when it is first needed."""

    def __init__(self, client: MynthClient, ledger: Ledger, clock: Clock) -> None:
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._number: int | None = None
        self._is_nameless = False
        self._echoes_tags: bool | None = None

    async def number(self) -> int:
        """
        The ledger's number of the account and key in use; asks Mynth only about a new key.

        Raises:
            AccountMismatchError: The key belongs, or may belong, to another account than the one
                that paid for the ledger's tasks.
            ApiError: Mynth could not be asked about a new key.
        """
        if self._number is None:
            self._number = await self._find()
        return self._number

    async def adopt(self) -> int:
        """Take in the key without asking whose it is, by a person's word."""
        return await self._remember(await self._client.check_key())

    async def note_owner(self, user_id: str | None) -> None:
        """Remember whose task was read, where the server would not tell whose the key is."""
        if self._is_nameless and user_id and self._number is not None:
            self._is_nameless = False
            await self._ledger.name_account(self._number, user_id)

    async def echoes_tags(self) -> bool:
        """Whether a task of this account was ever seen to carry the tag that it was sent with."""
        if self._echoes_tags is None:
            key = f"{ECHO_META}{await self.number()}"
            self._echoes_tags = bool(await asyncio.to_thread(self._ledger.read.meta, key))
        return self._echoes_tags

    async def note_echo(self) -> None:
        """Remember that tags come back."""
        if not await self.echoes_tags():
            self._echoes_tags = True
            await self._ledger.ensure_meta(f"{ECHO_META}{await self.number()}", "yes")

    async def _find(self) -> int:
        known = await asyncio.to_thread(self._ledger.accounts.all)
        base_url, fingerprint = self._base_url, self._fingerprint()
        for account in known:
            if (account.base_url, account.fingerprint) == (base_url, fingerprint):
                self._is_nameless = not account.user_id
                return account.number
        found = await self._client.check_key()
        if known and not await self._is_same(found, known):
            raise AccountMismatchError(base_url, [account.user_id for account in known])
        number = await self._remember(found)
        if known:
            _log.warning("a new key of the same account is used from now on at %s", base_url)
        return number

    async def _is_same(self, found: Account | None, known: Sequence[AccountRow]) -> bool:
        """By the vendor's user id, else by a task that only the account's own keys can read."""
        users = {account.user_id for account in known if account.user_id}
        if found is not None and users:
            return found.user_id in users
        task_id = await asyncio.to_thread(self._ledger.accounts.newest_task)
        if task_id is None:
            return True
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

    def _fingerprint(self) -> str:
        """The key under the ledger's salt: equal keys are recognised, and none can be read."""
        key = (self._client.settings.api_key or "").encode("ascii")
        digest = hmac.new(self._ledger.salt.encode("ascii"), key, hashlib.sha256)
        return digest.hexdigest()[:FINGERPRINT_CHARS]
