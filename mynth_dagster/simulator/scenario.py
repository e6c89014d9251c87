"""What a simulated Mynth is like: one frozen value, from Python or from JSON."""

from __future__ import annotations

import types
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mynth_dagster.limits import REVISIONS
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.defaults import Distribution, units_of

Settings = TypeVar("Settings")


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message names the key and what it may be."""


# What goes wrong, and when: rules for task failures and for faults on the wire.
#
# The first rule of a list that applies decides; later ones are not looked at.


TaskType = Literal[
    "image.generate",
    "image.rate",
    "image.alt",
    "image.review",
    "image.upscale",
    "image.remove_background",
]
FailureKind = Literal["task", "images", "moderation", "refused", "stuck"]
FaultKind = Literal[
    "lost_answer",
    "reset",
    "reset_after",
    "truncated",
    "server_error",
    "server_error_with_task",
    "html_error",
    "rate_limited",
    "slow",
    "bad_json",
    "status",
    "token_failed",
]


@dataclass(frozen=True)
class FailureRule:
    """
    A request that is understood and yet comes to nothing, wholly or in part.

    Args:
        kind: ``task`` fails the whole task with ``code``; ``images`` fails some images with
            ``code``, of generate requests only; ``moderation`` fails every image with
            ``RESTRICTED_CONTENT`` and keeps them in the result, a task of another type wholly;
            ``refused`` answers the POST with 400 and ``code``; ``stuck`` leaves the task pending
            until it is completed by its id.
        code: Error code, any case; None: ``RESTRICTED_CONTENT`` for ``refused`` and
            ``moderation``, else ``GENERATION_FAILED``, in 2026-10 ``provider_error``.
        type: Only tasks of this type, such as ``image.rate``; None: any.
        prompt_contains: Only prompts with this text; None: any request, also without a prompt.
        url_contains: Only requests that look at a URL with this text; None: any request.
        model: Only requests for this model id, as asked for; None: any request.
        share: Share of the matching requests, 0 to 1, picked by the seed, the prompt, the model
            and how often that pair was seen; where there is no prompt, the type and the URLs.
        first: Only the first so many requests of each such pair; None: all. A retry that shall
            succeed is ``first=1``.
        image_indexes: For ``images``: 0-based indexes; out of range ones are ignored.
            Empty: the first ``n_images``.
        n_images: For ``images``: how many fail, from the first on.
    """

    kind: FailureKind = "task"
    code: str | None = None
    type: TaskType | None = None
    prompt_contains: str | None = None
    url_contains: str | None = None
    model: str | None = None
    share: float = 1.0
    first: int | None = None
    image_indexes: tuple[int, ...] = ()
    n_images: int = 1

    def __post_init__(self) -> None:
        _check_share(self.share)

    def error_code(self, usual: str) -> str:
        """The code that the failure carries; ``usual`` is the revision's for failed work."""
        if self.code is not None:
            return self.code
        return "RESTRICTED_CONTENT" if self.kind in ("refused", "moderation") else usual

    @property
    def counts(self) -> bool:
        """Whether the rule must know how often a prompt was seen."""
        return self.first is not None or 0 < self.share < 1


@dataclass(frozen=True)
class FaultRule:
    """
    An answer that goes astray.

    "Matching" requests are those of the route with the prompt marker; they are counted from 1.

    Args:
        route: Route as in the log, ``POST /image/generate`` or ``GET /tasks/:id/status``;
            ``*``: any.
        kind: Without any effect on the API: ``reset`` (TCP RST), ``server_error`` (``status``),
            ``rate_limited`` (429), ``status`` (``status`` and ``code``). After the request was
            carried out: ``lost_answer`` (closed without a byte), ``reset_after`` (TCP RST),
            ``truncated`` (half the body, then closed), ``server_error_with_task`` (``status``),
            ``bad_json`` (the usual status, garbage), ``slow`` (the usual answer, ``delay_s``
            late), ``token_failed`` (where a token was asked for, the quirk ``token_failure``
            says how its lack shows; else the usual answer). ``html_error`` (``status``) goes by
            ``with_task``.
        share: Share of the matching requests, 0 to 1, picked by the seed, route and prompt.
        every: Only every n-th matching request (counted after ``after``); None: each.
        first: Only the first n matching requests; None: no such limit.
        after: Not before so many matching requests have passed.
        count: No more than so many times in all; None: no such limit.
        prompt_contains: Only requests whose prompt has this text; None: any.
        task_id: Only requests about this task; None: any.
        status: HTTP status; None: 500, for ``html_error`` 502, for ``status`` 503.
        code: Error code, any case; None: the status's usual one.
        with_task: Whether ``html_error`` and ``status`` carry the request out first.
        task_id_field: For ``server_error_with_task``: the error field that tells the task's id;
            None: the id is left out.
        retry_after_s: For ``rate_limited``: seconds; None: no header.
        retry_after_as_date: Spell ``Retry-After`` as an HTTP date.
        delay_s: For ``slow``: seconds.
    """

    route: str = "POST /image/generate"
    kind: FaultKind = "lost_answer"
    share: float = 1.0
    every: int | None = None
    first: int | None = None
    after: int = 0
    count: int | None = None
    prompt_contains: str | None = None
    task_id: str | None = None
    status: int | None = None
    code: str | None = None
    with_task: bool = False
    task_id_field: str | None = None
    retry_after_s: float | None = None
    retry_after_as_date: bool = False
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self.share)
        if self.every is not None and self.every < 1:
            raise ValueError("every must be at least 1")

    @property
    def carries_out(self) -> bool:
        """Whether the request takes effect before the fault."""
        if self.kind in ("html_error", "status"):
            return self.with_task
        return self.kind not in ("reset", "server_error", "rate_limited")

    @property
    def http_status(self) -> int:
        """The status of a fault that answers with one."""
        fallback = {"html_error": 502, "status": 503, "rate_limited": 429}.get(self.kind, 500)
        return fallback if self.status is None else self.status


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError("share must be between 0 and 1")


# Where the sources on Mynth disagree or are silent: one quirk each.
#
# A quirk left at None has the value that its revision's documentation favours.


@dataclass(frozen=True)
class Quirks:
    """
    Choices between readings of the documentation.

    A quirk that stays None in a revision does not apply to it.

    Args:
        all_failed: A task none of whose images succeeded: ``failed_without_result`` (until
            2026-08) has errors and no result, ``failed_with_images`` keeps the failed images and
            has no errors, ``completed`` (2026-10) completes at no cost.
        error_body: ``nested`` (an ``error`` object, 2026-04 and 2026-10), ``flat`` (``code`` and
            ``message``, 2026-08) or ``flat_error`` (``code`` and a string ``error``).
        insufficient_balance_status: 422 in 2026-08, else 402.
        spending_limit_status: 402, or 429.
        unsupported_inputs: Inputs for a model without them, in 2026-10 also more than it takes:
            ``refuse`` (400, until 2026-08) or ``fail_task`` (2026-10).
        unsupported_4k: 4k of a model without it: ``fall_back`` to the default size (until
            2026-08), or ``fail_task`` (2026-10).
        accepts_empty_prompt: False in 2026-04, then True.
        output_needs_both: Whether an ``output`` must have both format and quality; False in
            2026-04, True in 2026-08.
        request_echo: ``as_submitted`` (default), or ``with_defaults`` for model, size and count,
            until 2026-08 output.
        webhook_management: Who may manage webhooks and destinations: ``api_key`` or ``oauth``
            (2026-08), for which an API key is answered 401.
        webhook_secret_prefix: ``wbs_`` (until 2026-08) or ``whsec_`` (2026-10).
        webhook_delivery_header: Whether each delivery carries ``X-Mynth-Delivery``, the same on
            each attempt; False.
        custom_event_header: Whether unsigned deliveries carry ``X-Mynth-Event``; True.
        silence_covers_custom: Whether silencing registered webhooks in a request silences the
            endpoints that the request names, too; False.
        event_tells_cost: Whether ``task`` of an event of 2026-08 tells the cost; False.
        token_lifetime_s: Life of a public access token, seconds; 7200 in 2026-08, else 3600.
        token_failure: How a task without the token that was asked for is answered, where a fault
            rule of kind ``token_failed`` strikes: ``error_with_task`` (500 with the task's id,
            2026-10) or ``silent`` (201 without a token).
        offers_review: Whether ``POST /image/review`` exists since 2026-08; True.
        catalogue_has_auto: Whether ``GET /models`` lists ``auto``; False.
        result_of_all_types: Whether the result endpoint also serves ratings, alt texts and
            reviews; True.
        image_size_as_object: Whether an image's size is an object in 2026-04; False.
        image_cost_trimmed: Whether 2026-08 trims zeros of an image's cost; False.
        expired_file_status: What a file is answered that is past its life, HTTP status; 404. Files
            of earlier revisions do not expire.
        unknown_after: ``GET /tasks`` after an unknown id: ``refuse`` (400, default) or ``empty``.
        status_lag_s: How long the status route lags behind the task, seconds; 0.
        list_lag_s: How long a new task is missing from the list, seconds; 0.
    """

    all_failed: Literal["failed_without_result", "failed_with_images", "completed"] | None = None
    error_body: Literal["nested", "flat", "flat_error"] | None = None
    insufficient_balance_status: int | None = None
    spending_limit_status: int | None = None
    unsupported_inputs: Literal["refuse", "fail_task"] | None = None
    unsupported_4k: Literal["fall_back", "fail_task"] | None = None
    accepts_empty_prompt: bool | None = None
    output_needs_both: bool | None = None
    request_echo: Literal["as_submitted", "with_defaults"] | None = None
    webhook_management: Literal["api_key", "oauth"] | None = None
    webhook_secret_prefix: Literal["wbs_", "whsec_"] | None = None
    webhook_delivery_header: bool | None = None
    custom_event_header: bool | None = None
    silence_covers_custom: bool | None = None
    event_tells_cost: bool | None = None
    token_lifetime_s: int | None = None
    token_failure: Literal["error_with_task", "silent"] | None = None
    offers_review: bool | None = None
    catalogue_has_auto: bool | None = None
    result_of_all_types: bool | None = None
    image_size_as_object: bool | None = None
    image_cost_trimmed: bool | None = None
    expired_file_status: int | None = None
    unknown_after: Literal["refuse", "empty"] | None = None
    status_lag_s: float | None = None
    list_lag_s: float | None = None

    def filled(self, revision: str) -> Quirks:
        """The same quirks, with every None replaced by the revision's reading."""
        fallback = _BY_REVISION[revision]
        unset = {
            spec.name: getattr(fallback, spec.name)
            for spec in fields(self)
            if getattr(self, spec.name) is None
        }
        return replace(self, **unset)

    def check(self, revision: str) -> None:
        """
        Whether a revision can have what was chosen.

        Raises:
            ScenarioError: It cannot; the message names what it can have.
        """
        for name, allowed in _QUIRKS_LEFT.get(revision, {}).items():
            chosen = getattr(self, name)
            if chosen is not None and chosen not in allowed:
                known = ", ".join(map(repr, allowed))
                message = f"quirks.{name} is {chosen!r}; in {revision} it may be {known}"
                raise ScenarioError(message)


_2026_04 = Quirks(
    all_failed="failed_without_result",
    error_body="nested",
    insufficient_balance_status=402,
    spending_limit_status=402,
    unsupported_inputs="refuse",
    unsupported_4k="fall_back",
    accepts_empty_prompt=False,
    output_needs_both=False,
    request_echo="as_submitted",
    webhook_management="api_key",
    webhook_secret_prefix="wbs_",  # noqa: S106 - how secrets begin, not a secret
    webhook_delivery_header=False,
    custom_event_header=True,
    silence_covers_custom=False,
    event_tells_cost=False,
    token_lifetime_s=3600,
    token_failure="silent",  # noqa: S106 - a word for what happens
    offers_review=False,
    catalogue_has_auto=False,
    result_of_all_types=True,
    image_size_as_object=False,
    image_cost_trimmed=False,
    unknown_after="refuse",
    status_lag_s=0.0,
    list_lag_s=0.0,
)
_2026_08 = replace(
    _2026_04,
    error_body="flat",
    insufficient_balance_status=422,
    accepts_empty_prompt=True,
    output_needs_both=True,
    webhook_management="oauth",
    token_lifetime_s=7200,
    offers_review=True,
)
_2026_10 = replace(
    _2026_08,
    all_failed="completed",
    error_body="nested",
    insufficient_balance_status=402,
    unsupported_inputs="fail_task",
    unsupported_4k="fail_task",
    output_needs_both=None,
    webhook_management="api_key",
    webhook_secret_prefix="whsec_",  # noqa: S106 - how secrets begin, not a secret
    webhook_delivery_header=None,
    custom_event_header=None,
    event_tells_cost=None,
    token_lifetime_s=3600,
    token_failure="error_with_task",  # noqa: S106 - a word for what happens
    image_size_as_object=None,
    image_cost_trimmed=None,
    expired_file_status=404,
)
_BY_REVISION = {"2026-04": _2026_04, "2026-08": _2026_08, "2026-10": _2026_10}
_QUIRKS_LEFT = MappingProxyType(
    {
        "2026-10": {
            "all_failed": ("completed", "failed_without_result"),
            "error_body": ("nested",),
            "webhook_secret_prefix": ("whsec_",),
        }
    }
)
"""Where a revision's documentation is clear on some readings; it has these alone."""


# How webhooks are delivered: which endpoints are registered, and what goes wrong on the way.


STANDARD_PREFIX = "whsec_"
STANDARD_SECRET = defaults.STANDARD_WEBHOOK_SECRET
"""What signs for an `Endpoint` without a secret of its own in 2026-10."""

_RETRY_WINDOWS_S = {"2026-04": 9000.0, "2026-08": 9000.0, "2026-10": 72 * 3600.0}
_FAILURES_UNTIL_DISABLED = {"2026-04": 30, "2026-08": 30, "2026-10": None}


@dataclass(frozen=True)
class Endpoint:
    """
    A registered webhook that is there from the start, as one made in the dashboard.

    Args:
        url: Where events are delivered.
        secret: Signs them: the whole text is the key, in 2026-10 the base64 after ``whsec_``.
            None: ``wbs_simulator``, in 2026-10 `STANDARD_SECRET`.
        events: Names or wildcards (``all``, ``task.completed``, ``task.failed``).
        enabled: Whether anything is delivered.
        user_id: The account that it belongs to.
        api_key_ids: Only tasks of these keys; None: of every key.
        include_session_tasks: Shown by the API alone: simulated tasks all have a key.
    """

    url: str
    secret: str | None = None
    events: tuple[str, ...] = ("all",)
    enabled: bool = True
    user_id: str = defaults.USER_ID
    api_key_ids: tuple[str, ...] | None = None
    include_session_tasks: bool = False


@dataclass(frozen=True)
class DeliveryRules:
    """
    How events travel; times are in seconds of the simulator's clock.

    Args:
        delay: From the end of a task to the first attempt.
        duplicate_share: Share of events that are delivered twice although acknowledged, 0 to 1.
        lost_share: Share of events that are never delivered, 0 to 1.
        timeout_s: An answer later than this counts as a failure; real seconds.
        retry_first_s: From the first failure to the second attempt; doubled after each failure.
        retry_max_s: The longest pause between two attempts.
        retry_window_s: No attempt is made later than this after its end; None: 9000, in
            2026-10 259200 (72 hours).
        failures_until_disabled: So many failures in a row disable a registered webhook; None: 30,
            in 2026-10 none do.
    """

    delay: Distribution = defaults.NO_DELAY
    duplicate_share: float = 0.0
    lost_share: float = 0.0
    timeout_s: float = 30.0
    retry_first_s: float = defaults.RETRY_FIRST_S
    retry_max_s: float = defaults.RETRY_MAX_S
    retry_window_s: float | None = None
    failures_until_disabled: int | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.duplicate_share <= 1 and 0 <= self.lost_share <= 1):
            raise ValueError("shares must be between 0 and 1")
        if self.failures_until_disabled is not None and self.failures_until_disabled < 1:
            raise ValueError("failures_until_disabled must be at least 1")

    def pause_s(self, n_failures: int) -> float:
        """How long to wait after so many failures of one delivery."""
        return min(self.retry_first_s * 2.0 ** (n_failures - 1), self.retry_max_s)

    def window_s(self, revision: str) -> float:
        """How long after its end attempts are made."""
        chosen = self.retry_window_s
        return _RETRY_WINDOWS_S[revision] if chosen is None else chosen

    def disables_after(self, revision: str) -> int | None:
        """How many failures in a row disable a registered webhook; None: any number is borne."""
        chosen = self.failures_until_disabled
        return _FAILURES_UNTIL_DISABLED[revision] if chosen is None else chosen


def is_standard_secret(secret: str) -> bool:
    """Whether a secret can sign since 2026-10."""
    try:
        key = b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except ValueError:
        return False
    return secret.startswith(STANDARD_PREFIX) and bool(key)


# Accounts, their storage, and the whole.


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

    key: str = defaults.API_KEY
    key_id: str | None = None
    user_id: str = defaults.USER_ID
    name: str | None = "simulator"
    spending_limit_usd: str | None = None
    spending_limit_period: Literal["day", "week", "month"] = "day"
    revoked: bool = False
    scopes: tuple[KeyScope, ...] = ("generate", "manage", "keys")

    def __post_init__(self) -> None:
        if self.spending_limit_usd is not None:
            units_of(self.spending_limit_usd)


@dataclass(frozen=True)
class Destination:
    """
    A user's own storage that is there from the start.

    Args:
        name: Slug that requests name; a bare string in JSON means this.
        path_template: Where images go, without extension.
        url_template: Public URL of an image, with ``{path}``; None: its images have no URL.
        provider: Kind of storage.
        user_id: The account that it belongs to.
    """

    short_form: ClassVar[str] = "name"

    name: str
    path_template: str = "images/{id}"
    url_template: str | None = None
    provider: Literal["s3", "r2", "bunny"] = "s3"
    user_id: str = defaults.USER_ID

    def __post_init__(self) -> None:
        if self.url_template is not None and "{path}" not in self.url_template:
            raise ValueError("url_template must contain {path}")


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
            ``manual`` by a call of complete.
        latency: How long a task takes, seconds.
        response_delay_s: How long each answer of the API takes, seconds.
        seed: Of every random choice; whole number.
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
        quirks: Choices where the documentation disagrees with itself.
    """

    revision: str = REVISION_DEFAULT
    api_keys: tuple[ApiKey, ...] = (ApiKey(),)
    balance_usd: str = defaults.BALANCE_USD
    balances_usd: Mapping[str, str] = field(default_factory=dict)
    progress: Literal["clock", "immediate", "manual"] = "clock"
    latency: Distribution = defaults.LATENCY
    response_delay_s: Distribution = defaults.NO_DELAY
    seed: int = 0
    failures: tuple[FailureRule, ...] = ()
    faults: tuple[FaultRule, ...] = ()
    strict_fields: bool = False
    public_url: str | None = None
    prices_usd: Mapping[str, str] = field(default_factory=dict)
    pixels: Mapping[str, str] = field(default_factory=dict)
    auto_ceiling_usd: str = defaults.AUTO_CEILING_USD
    provider_formats: Mapping[str, FileFormat] = field(default_factory=dict)
    destinations: tuple[Destination, ...] = ()
    private_destinations: tuple[str, ...] = ()
    failing_destinations: tuple[str, ...] = ()
    unratable: str | None = None
    webhooks: tuple[Endpoint, ...] = ()
    deliveries: DeliveryRules = field(default_factory=DeliveryRules)
    quirks: Quirks = field(default_factory=Quirks)

    def __post_init__(self) -> None:
        if self.revision not in REVISIONS:
            known = ", ".join(REVISIONS)
            raise ScenarioError(f"revision is {self.revision!r}; it may be {known}")
        amounts = (self.balance_usd, self.auto_ceiling_usd)
        for amount in (*amounts, *self.balances_usd.values(), *self.prices_usd.values()):
            units_of(amount)
        if len({entry.key for entry in self.api_keys}) != len(self.api_keys):
            raise ScenarioError("api_keys names one key twice")
        for size in self.pixels.values():
            defaults.read_pixels(size)
        self.quirks.check(self.revision)
        for i, endpoint in enumerate(self.webhooks if self.revision in STANDARD_WEBHOOKS else ()):
            if endpoint.secret is not None and not is_standard_secret(endpoint.secret):
                message = f"webhooks[{i}].secret must be whsec_ and base64 in {self.revision}"
                raise ScenarioError(message)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scenario:
        """
        A scenario from JSON values; what is absent has its default.

        Raises:
            ScenarioError: A key is unknown (the nearest is named) or a value does not fit.
        """
        return _build(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """JSON values of every field; `from_dict` gives the same scenario back."""
        values: dict[str, Any] = _dump(self)
        return values

    def changed(self, changes: Mapping[str, Any]) -> Scenario:
        """The same scenario with some fields replaced; values may be plain or typed."""
        return self.from_dict({**self.to_dict(), **changes})

    @cached_property
    def effective_quirks(self) -> Quirks:
        """The quirks, each with the revision's reading where none was chosen."""
        return self.quirks.filled(self.revision)

    def opening_balance_usd(self, user_id: str) -> str:
        """What an account holds before its first task, USD."""
        return self.balances_usd.get(user_id, self.balance_usd)


# Settings from plain JSON values and back, strictly.
#
# A scenario is often typed by hand, so a misspelt key is refused with its nearest neighbour
# instead of being ignored.


def _build(cls: type[Settings], value: object, at: str = "") -> Settings:
    """
    An instance of a settings dataclass from plain values.

    A class with a ``short_form`` may be written as the single value that it stands for.

    Raises:
        ScenarioError: A key is unknown, or a value is of the wrong kind or out of range.
    """
    if isinstance(value, cls):
        return value
    short_form = getattr(cls, "short_form", None)
    if short_form is not None and not isinstance(value, Mapping):
        value = {short_form: value}
    if not isinstance(value, Mapping):
        raise ScenarioError(f"{at or cls.__name__} must be an object, not {value!r}")
    prefix = f"{at}." if at else ""
    hints = get_type_hints(cls)
    names = [spec.name for spec in fields(cls)]  # type: ignore[arg-type]
    settings: dict[str, Any] = {}
    for key, given in value.items():
        if key not in names:
            near = get_close_matches(str(key), names, n=1, cutoff=0.0)[0]
            raise ScenarioError(f"unknown key {prefix + str(key)!r}; did you mean {near!r}?")
        settings[key] = _read(hints[key], given, prefix + key)
    try:
        return cls(**settings)
    except ScenarioError:
        raise
    except (TypeError, ValueError) as exc:
        raise ScenarioError(f"{prefix}{exc}") from exc


def _read(hint: Any, value: object, at: str) -> object:  # noqa: C901, PLR0911 - a case a kind
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _read(inner, value, at)
    if origin is Literal:
        if value not in arguments:
            raise ScenarioError(f"{at} is {value!r}; it may be {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ScenarioError(f"{at} must be a list, not {value!r}")
        return tuple(_read(arguments[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is not None:
        if not isinstance(value, Mapping):
            raise ScenarioError(f"{at} must be an object, not {value!r}")
        return {key: _read(arguments[1], item, f"{at}.{key}") for key, item in value.items()}
    if is_dataclass(hint):
        return _build(hint, value, at)  # type: ignore[arg-type]
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ScenarioError(f"{at} must be of type {hint.__name__}, not {value!r}")
    return value


def _dump(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {spec.name: _dump(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, tuple | list):
        return [_dump(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _dump(item) for key, item in value.items()}
    return value
