"""
Where the sources on Mynth disagree or are silent: one switch each.

A switch left at None has the value that its revision's documentation favours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal

from mynth_dagster.simulator.plain import ScenarioError


@dataclass(frozen=True)
class Switches:
    """
    Choices between readings of the documentation.

    A switch that stays None in a revision does not apply to it.

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
        token_failure: How a task without the token that was asked for is told, where a fault
            rule of kind ``token_failed`` strikes: ``error_with_task`` (500 with the task's id,
            2026-10) or ``silent`` (201 without a token).
        offers_review: Whether ``POST /image/review`` exists since 2026-08; True.
        catalogue_has_auto: Whether ``GET /models`` lists ``auto``; False.
        result_of_all_types: Whether the result endpoint also serves ratings, alt texts and
            reviews; True.
        image_size_as_object: Whether 2026-04 spells an image's size as an object; False.
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

    def filled(self, revision: str) -> Switches:
        """The same choices, with every None replaced by the revision's reading."""
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
        for name, allowed in _CHOICES_LEFT.get(revision, {}).items():
            chosen = getattr(self, name)
            if chosen is not None and chosen not in allowed:
                known = ", ".join(map(repr, allowed))
                said = f"switches.{name} is {chosen!r}; in {revision} it may be {known}"
                raise ScenarioError(said)


_2026_04 = Switches(
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
_CHOICES_LEFT = MappingProxyType(
    {
        "2026-10": {
            "all_failed": ("completed", "failed_without_result"),
            "error_body": ("nested",),
            "webhook_secret_prefix": ("whsec_",),
        }
    }
)
"""Where a revision's documentation is clear on some readings; it has these alone."""
