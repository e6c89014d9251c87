"""What a simulated Mynth is like: one frozen value, from Python or from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mynth_dagster.limits import REVISIONS
from mynth_dagster.simulator import invented, plain
from mynth_dagster.simulator.amounts import units_of
from mynth_dagster.simulator.deliveries import DeliveryRules, Endpoint
from mynth_dagster.simulator.destinations import Destination
from mynth_dagster.simulator.distribution import Distribution
from mynth_dagster.simulator.rules import FailureRule, FaultRule
from mynth_dagster.simulator.signatures import is_standard_secret
from mynth_dagster.simulator.switches import Switches

FileFormat = Literal["png", "jpg", "webp"]
KeyScope = Literal["generate", "manage", "keys"]

REVISION_DEFAULT = REVISIONS[-1]
STANDARD_WEBHOOKS = frozenset({"2026-10"})
"""Revisions whose registered webhooks have secrets of the new kind."""


@dataclass(frozen=True)
class ApiKey:
    """
    One API key and the account that it spends from.

    Args:
        key: The secret, ``mak_…``. A bare string in JSON means this.
        key_id: Public id of the key; None: derived from the key's position.
        user_id: Account of the key; keys with equal user ids share one balance.
        name: Name shown by ``/me``; may be None.
        spending_limit_usd: What the key may spend in one period, USD; None: no limit.
        spending_limit_period: Period of that limit; it starts at 00:00 UTC.
        revoked: Whether the key is answered 401.
        scopes: What the key may do, in 2026-10; earlier revisions know no scopes.
    """

    short_form: ClassVar[str] = "key"

    key: str = invented.API_KEY
    key_id: str | None = None
    user_id: str = invented.USER_ID
    name: str | None = "simulator"
    spending_limit_usd: str | None = None
    spending_limit_period: Literal["day", "week", "month"] = "day"
    revoked: bool = False
    scopes: tuple[KeyScope, ...] = ("generate", "manage", "keys")

    def __post_init__(self) -> None:
        if self.spending_limit_usd is not None:
            units_of(self.spending_limit_usd)


@dataclass(frozen=True)
class Scenario:
    """
    Everything that can be chosen about a simulated Mynth.

    Args:
        revision: API revision, ``2026-04``, ``2026-08`` or ``2026-10``.
        api_keys: Keys that are let in; default one, ``mak_simulator``.
        balance_usd: Balance of each account at the start, USD as a decimal string.
        balances_usd: Other balances by user id, USD.
        progress: When tasks finish: by ``clock`` after their latency, ``immediate``, or
            ``manual`` by a call of settle.
        latency: How long a task takes, seconds.
        response_delay_s: How long each answer of the API takes, seconds.
        seed: Of every draw; whole number.
        failures: Rules for tasks that fail; the first that applies decides.
        faults: Rules for answers that go astray; the first that applies decides.
        strict_fields: Refuse unknown request fields. The documentation is silent on them before
            2026-10; the default ignores them. Revision 2026-10 always refuses them.
        public_url: Base of image URLs; None: the Host header of the request.
        prices_usd: Other prices by model id: USD per image at base size.
        pixels: Other pixel sizes by size word: ``{"landscape": "1536x1024"}``.
        auto_ceiling_usd: Held per image of model ``auto``, USD.
        provider_formats: Other file formats by model id, where a request asks for none (2026-10).
        destinations: Users' own storage that is there from the start. Revision 2026-10 refuses a
            request that names another; earlier ones take any name.
        private_destinations: Destinations without a public URL: their images' ``url`` is null.
        failing_destinations: Destinations that take no image, though Mynth keeps its own copy.
        unratable: Images of prompts that contain this are made and cannot be rated (not in
            2026-04).
        webhooks: Registered endpoints that are there from the start.
        deliveries: How webhooks travel, and what goes wrong on the way.
        switches: Choices where the documentation disagrees with itself.
    """

    revision: str = REVISION_DEFAULT
    api_keys: tuple[ApiKey, ...] = (ApiKey(),)
    balance_usd: str = invented.BALANCE_USD
    balances_usd: Mapping[str, str] = field(default_factory=dict)
    progress: Literal["clock", "immediate", "manual"] = "clock"
    latency: Distribution = invented.LATENCY
    response_delay_s: Distribution = invented.NO_DELAY
    seed: int = 0
    failures: tuple[FailureRule, ...] = ()
    faults: tuple[FaultRule, ...] = ()
    strict_fields: bool = False
    public_url: str | None = None
    prices_usd: Mapping[str, str] = field(default_factory=dict)
    pixels: Mapping[str, str] = field(default_factory=dict)
    auto_ceiling_usd: str = invented.AUTO_CEILING_USD
    provider_formats: Mapping[str, FileFormat] = field(default_factory=dict)
    destinations: tuple[Destination, ...] = ()
    private_destinations: tuple[str, ...] = ()
    failing_destinations: tuple[str, ...] = ()
    unratable: str | None = None
    webhooks: tuple[Endpoint, ...] = ()
    deliveries: DeliveryRules = field(default_factory=DeliveryRules)
    switches: Switches = field(default_factory=Switches)

    def __post_init__(self) -> None:
        if self.revision not in REVISIONS:
            known = ", ".join(REVISIONS)
            raise plain.ScenarioError(f"revision is {self.revision!r}; it may be {known}")
        amounts = (self.balance_usd, self.auto_ceiling_usd)
        for amount in (*amounts, *self.balances_usd.values(), *self.prices_usd.values()):
            units_of(amount)
        if len({entry.key for entry in self.api_keys}) != len(self.api_keys):
            raise plain.ScenarioError("api_keys names one key twice")
        for size in self.pixels.values():
            invented.read_pixels(size)
        self.switches.check(self.revision)
        self._check_secrets()

    def _check_secrets(self) -> None:
        if self.revision not in STANDARD_WEBHOOKS:
            return
        for i, endpoint in enumerate(self.webhooks):
            if endpoint.secret is not None and not is_standard_secret(endpoint.secret):
                said = f"webhooks[{i}].secret must be whsec_ and base64 in {self.revision}"
                raise plain.ScenarioError(said)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scenario:
        """
        A scenario from JSON values; what is absent has its default.

        Raises:
            ScenarioError: A key is unknown (the nearest is named) or a value does not fit.
        """
        return plain.build(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """JSON values of every field; `from_dict` gives the same scenario back."""
        values: dict[str, Any] = plain.dump(self)
        return values

    def changed(self, changes: Mapping[str, Any]) -> Scenario:
        """The same scenario with some fields replaced; values may be plain or typed."""
        return self.from_dict({**self.to_dict(), **changes})

    @property
    def choices(self) -> Switches:
        """The switches, filled for this revision."""
        return self.switches.filled(self.revision)

    def opening_balance_usd(self, user_id: str) -> str:
        """What an account holds before its first task, USD."""
        return self.balances_usd.get(user_id, self.balance_usd)
