"""How long things take: a distribution of seconds, drawn from a uniform number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, Literal

_SMALLEST = 1e-12  # keeps the inverse of the normal distribution finite


@dataclass(frozen=True)
class Distribution:
    """
    Seconds, never negative.

    Args:
        kind: ``fixed`` uses ``value_s``; ``uniform`` uses ``low_s`` and ``high_s``;
            ``lognormal`` uses ``median_s``, ``sigma`` and, as its upper bound, ``high_s``.
        value_s: The one duration of ``fixed``, seconds. A bare number in JSON means this.
        low_s: Least duration of ``uniform``, seconds.
        high_s: Greatest duration of ``uniform`` and ``lognormal``, seconds.
        median_s: Half of all ``lognormal`` durations are shorter, seconds.
        sigma: Standard deviation of the logarithm, without unit.
    """

    short_form: ClassVar[str] = "value_s"

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    value_s: float = 0.0
    low_s: float = 0.0
    high_s: float = 0.0
    median_s: float = 1.0
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if min(self.value_s, self.low_s, self.high_s, self.sigma) < 0 or self.median_s <= 0:
            raise ValueError("durations must not be negative")
        if self.high_s < self.low_s:
            raise ValueError("low_s must not exceed high_s")

    @property
    def is_nothing(self) -> bool:
        """Whether every draw is zero."""
        return self.kind == "fixed" and not self.value_s

    def at(self, share: float) -> float:
        """The duration below which ``share`` of all draws lie; ``share`` is in ``[0, 1)``."""
        if self.kind == "fixed":
            return self.value_s
        if self.kind == "uniform":
            return self.low_s + share * (self.high_s - self.low_s)
        deviate = NormalDist().inv_cdf(max(share, _SMALLEST))
        duration_s = self.median_s * math.exp(self.sigma * deviate)
        return min(duration_s, self.high_s) if self.high_s else duration_s
