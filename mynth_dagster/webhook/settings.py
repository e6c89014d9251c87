"""What a receiver has to know: where the inbox is, and by what it recognises Mynth."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import WEBHOOK_TOKEN_MIN_CHARS

SECRETS_MAX = 2
"""The one in use, and the one that it replaces."""


@dataclass(frozen=True)
class WebhookSettings:
    """
    Settings of a receiver; secrets and tokens are never part of a repr.

    Args:
        ledger_url: SQLAlchemy URL of the ledger whose inbox is filled.
        secrets: Secrets of registered webhooks, the whole text as Mynth shows it; two while one
            is being replaced, of either form. None: signed events are refused.
        tokens: Secrets in the URLs of custom endpoints, two while one is being replaced.
            None: there are no custom endpoints.

    Raises:
        ConfigError: Neither is given, or one of them is unfit.
    """

    ledger_url: str
    secrets: Sequence[str] = field(default=(), repr=False)
    tokens: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.secrets and not self.tokens:
            raise ConfigError(
                "MYNTH_WEBHOOK_SECRET",
                "a receiver without a secret would believe anybody: set it to the secret of the "
                "registered webhook, or MYNTH_WEBHOOK_TOKEN for custom endpoints",
            )
        for name, values in (("secret", self.secrets), ("token", self.tokens)):
            if isinstance(values, str) or len(values) > SECRETS_MAX:
                raise ConfigError(f"webhook {name}s", f"a list of at most {SECRETS_MAX}")
            if not all(_is_plain(value) for value in values):
                raise ConfigError(f"webhook {name}", "empty, or with spaces or odd characters")
        if any(len(token) < WEBHOOK_TOKEN_MIN_CHARS or "/" in token for token in self.tokens):
            raise ConfigError(
                "webhook token",
                f"at least {WEBHOOK_TOKEN_MIN_CHARS} characters, none of them a slash",
            )

    def knows_token(self, given: str) -> bool:
        """Whether this is one of the tokens; takes as long for every wrong one."""
        raw = given.encode("utf-8", "replace")
        matches = [hmac.compare_digest(token.encode("utf-8"), raw) for token in self.tokens]
        return any(matches)


def _is_plain(value: object) -> bool:
    is_text = isinstance(value, str) and bool(value) and value.isascii()
    return is_text and all(" " < char < "\x7f" for char in str(value))
