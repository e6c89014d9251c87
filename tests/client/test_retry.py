"""When a free read is repeated: pure tables."""

from __future__ import annotations

import pytest

from mynth_dagster import errors
from mynth_dagster.client.limiter import backoff_s, decide_retry_s, may_pass_by_itself

REFUSALS = {
    errors.UnauthorizedError: False,
    errors.InvalidRequestError: False,
    errors.InsufficientBalanceError: False,
    errors.SpendingLimitError: False,
    errors.NotFoundError: False,
    errors.RateLimitedError: True,
    errors.ServerFaultError: True,
}


def refusal(kind, retry_after_s=None):
    """An error with a status."""
    return kind("read", status=400, retry_after_s=retry_after_s)


@pytest.mark.parametrize(("kind", "passes"), REFUSALS.items())
def test_only_what_may_pass_is_tried_again(kind, passes):
    """A wrong key stays wrong; a server's fault may be over in a second."""
    error = refusal(kind)

    assert may_pass_by_itself(error) is passes
    assert (decide_retry_s(error, attempt=1, attempts_max=4) is not None) is passes


@pytest.mark.parametrize(
    "error",
    [
        errors.NoAnswerError("read", "reset"),
        errors.NotSentError("read", "refused"),
        errors.UnexpectedPayloadError("read", revision="2026-08", path="status"),
    ],
)
def test_a_read_without_a_good_answer_is_tried_again(error):
    """Reads are free: that an answer was lost costs nothing."""
    assert decide_retry_s(error, attempt=1, attempts_max=4) == 0.5


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "delay_s"),
    [
        (1, None, 0.5),
        (2, None, 1.0),
        (3, None, 2.0),
        (4, None, None),
        (1, 7.0, 7.0),
        (1, 0.0, 0.5),
        (3, 0.1, 2.0),
        (1, 300.0, 300.0),
        (1, 300.1, None),
        (4, 7.0, None),
    ],
)
def test_how_long_to_wait(attempt, retry_after_s, delay_s):
    """At least as long as asked, never longer than the clamp, doubling otherwise."""
    error = refusal(errors.RateLimitedError, retry_after_s)

    assert decide_retry_s(error, attempt=attempt, attempts_max=4) == delay_s


def test_the_backoff_doubles_up_to_its_ceiling():
    """Eight rounds take about a minute and a half."""
    delays = [backoff_s(attempt) for attempt in range(1, 9)]

    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff_s(10_000) == 30
