"""The report of a webhook receiver, which other processes read in the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

RECEIVER_META = "webhook:receiver"
"""The key of the newest report in the ledger's facts."""


@dataclass(frozen=True)
class ReceiverReport:
    """
    Requests since a receiver started; times are UTC microseconds.

    Args:
        n_kept: Events that were new.
        n_repeated: Events that had been stored before.
        n_refused: Requests that were refused, by reason.
        refused_at_us: The newest refusal.
    """

    started_at_us: int
    seen_at_us: int
    n_kept: int = 0
    n_repeated: int = 0
    n_refused: Mapping[str, int] = field(default_factory=dict)
    refused_at_us: int | None = None

    def to_json(self) -> str:
        """Encode for the ledger."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ReceiverReport:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))
