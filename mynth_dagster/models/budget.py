"""Caps on money, and whether one more request fits under them. Amounts in units of 10⁻⁸ USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from mynth_dagster.errors import ConfigError
from mynth_dagster.models.exposure import Exposure
from mynth_dagster.models.money import format_usd, units_from_usd


class Scope(str, Enum):
    """What a cap is about."""

    PARTITION = "partition"
    WINDOW = "window"
    BATCH = "batch"


@dataclass(frozen=True)
class Budget:
    """
    The most that may be spent, reserved and unknown together; None means no cap.

    Args:
        partition_units: In each partition.
        window_units: In each time window, over all its partitions.
        batch_units: In the whole batch, over all its windows.
    """

    partition_units: int | None = None
    window_units: int | None = None
    batch_units: int | None = None

    @property
    def is_set(self) -> bool:
        return any(cap is not None for cap in self._caps.values())

    @property
    def _caps(self) -> dict[Scope, int | None]:
        return {
            Scope.PARTITION: self.partition_units,
            Scope.WINDOW: self.window_units,
            Scope.BATCH: self.batch_units,
        }

    def cap(self, scope: Scope) -> int | None:
        """The cap of one scope; None where there is none."""
        return self._caps[scope]

    def exceeded(self, used: dict[Scope, Exposure], price_units: int) -> Scope | None:
        """The narrowest scope in which a request of this price does not fit any more."""
        for scope, cap in self._caps.items():
            if cap is not None and used[scope].total + price_units > cap:
                return scope
        return None

    def __str__(self) -> str:
        caps = [f"{format_usd(cap)} a {scope.value}" for scope, cap in self._caps.items() if cap]
        return ", ".join(caps) or "none"


NO_BUDGET = Budget()


def budget_from_usd(amounts: Mapping[str, Decimal | str]) -> Budget:
    """
    Caps in USD by what they are about: `partition`, `window`, `batch`.

    Raises:
        ConfigError: Another name, or no amount of money above zero.
    """
    scopes = [scope.value for scope in Scope]
    units: dict[str, int] = {}
    for name, amount in amounts.items():
        if name not in scopes:
            raise ConfigError("budget_usd", f"{name!r} is none of {', '.join(scopes)}")
        try:
            units[f"{name}_units"] = units_from_usd(amount)
        except ValueError as error:
            raise ConfigError(f"budget_usd.{name}", str(error)) from None
        if units[f"{name}_units"] <= 0:
            raise ConfigError(f"budget_usd.{name}", f"{amount} is not above zero")
    return Budget(**units)
