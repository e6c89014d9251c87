"""When a run stops sending: the breaker as a table, and the switch."""

from __future__ import annotations

import itertools

import pytest

from mynth_dagster.client.outcome import Cause, Refused, Unknown
from mynth_dagster.engine.stop import CANCELLED, CancelToken, CircuitBreaker, StopReason
from mynth_dagster.errors import InvalidRequestError, NoAnswerError


def refused(cause: Cause = Cause.ROW, code: str = "validation_error") -> Refused:
    """A refusal with this cause."""
    return Refused(InvalidRequestError("create task", status=400, code=code), cause)


LOST = Unknown(NoAnswerError("create task", "reset"))


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (Cause.KEY, "unauthorized"),
        (Cause.BALANCE, "insufficient_balance"),
        (Cause.LIMIT, "spending_limit_exceeded"),
        (Cause.CONFIG, "configuration"),
        (Cause.GATEWAY, "gateway"),
    ],
)
def test_what_is_no_rows_fault_stops_at_once(cause, code):
    """One dead key must not burn ten thousand rows."""
    reason = CircuitBreaker(16).note_refusal(refused(cause))

    assert isinstance(reason, StopReason)
    assert reason.code == code
    assert reason.next_step.endswith("run it again: only what is still missing is sent.")
    assert ".." not in reason.message


def test_ten_equal_refusals_in_a_row_stop():
    """Nine do not; another code or an accepted task starts the count again."""
    breaker = CircuitBreaker(16)

    assert [breaker.note_refusal(refused()) for _ in range(9)] == [None] * 9
    assert breaker.note_refusal(refused(code="restricted_content")) is None
    assert [breaker.note_refusal(refused()) for _ in range(9)] == [None] * 9
    breaker.note_accepted()
    assert [breaker.note_refusal(refused()) for _ in range(9)] == [None] * 9
    assert breaker.note_refusal(refused()).code == "refused_repeatedly"


@pytest.mark.parametrize("n_between", [0, 1, 2])
def test_refusals_of_several_kinds_and_between_successes_stop_too(n_between):
    """Thirty of the newest hundred answers: most of a large table is not burnt for one mistake."""
    breaker, codes = CircuitBreaker(max_unresolved=100), itertools.cycle(["a", "b", "c"])

    n_rows = 0
    while (stop := breaker.note_refusal(refused(Cause.ROW, next(codes)))) is None:
        n_rows += 1 + n_between
        for _ in range(n_between):
            breaker.note_accepted()

    assert stop.code == "refused_repeatedly"
    assert n_rows == 29 * (1 + n_between)


def test_some_refused_rows_among_many_good_ones_do_not_stop():
    """A table may hold bad rows: one in four is told, and the others are sent."""
    breaker = CircuitBreaker(max_unresolved=100)
    for _ in range(500):
        assert breaker.note_refusal(refused(Cause.ROW, "validation_error")) is None
        for _ in range(3):
            breaker.note_accepted()


def test_ten_lost_answers_in_a_row_stop():
    """An accepted task in between starts the count again."""
    breaker = CircuitBreaker(1000)

    assert [breaker.note_unknown(LOST) for _ in range(9)] == [None] * 9
    breaker.note_accepted()
    assert [breaker.note_unknown(LOST) for _ in range(9)] == [None] * 9
    stopped = breaker.note_unknown(LOST)
    assert stopped.code == "outcomes_unknown"
    assert "settled by themselves, else by a webhook" in stopped.next_step
    assert stopped.next_step.endswith("then run it again: only what is still missing is sent.")


def test_as_many_open_outcomes_as_slots_stop():
    """Even with successes in between, exposure is bounded."""
    breaker, stops = CircuitBreaker(4), []

    for _ in range(4):
        stops.append(breaker.note_unknown(LOST))
        breaker.note_accepted()

    assert [stop is None for stop in stops] == [True, True, True, False]


def test_failures_within_one_pause_are_one_round():
    """A hundred refused connections at once wait half a second, together."""
    breaker = CircuitBreaker(128)

    assert [breaker.note_silence(100.0, None) for _ in range(100)] == [0.5] * 100
    assert breaker.note_silence(100.5, None) == 1.0


def test_nobody_there_for_a_minute_and_a_half_ends_the_run():
    """Eight rounds of doubling pauses, then the run ends, resumable."""
    breaker, now_s, pauses = CircuitBreaker(16), 0.0, []

    while not isinstance(pause := breaker.note_silence(now_s, None), StopReason):
        pauses.append(pause)
        now_s += pause

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pause.code == "unreachable"


@pytest.mark.parametrize(("retry_after_s", "rounds"), [(None, 8), (7.0, 32)])
def test_429_for_ever_is_bounded_and_called_by_its_name(retry_after_s, rounds):
    """With and without Retry-After: it is the rate, not the network."""
    breaker, now_s, n_rounds = CircuitBreaker(16), 0.0, 0

    while not isinstance(
        pause := breaker.note_silence(now_s, retry_after_s, code="rate_limited"), StopReason
    ):
        assert pause >= (retry_after_s or 0)
        now_s += pause
        n_rounds += 1

    assert (pause.code, n_rounds) == ("rate_limited", rounds)


def test_a_longer_retry_after_prolongs_the_pause():
    """The longest that was asked for holds for all."""
    breaker = CircuitBreaker(16)

    assert breaker.note_silence(0.0, 2.0) == 2.0
    assert breaker.note_silence(1.0, 7.0) == 7.0
    assert breaker.note_silence(1.0, 1.0) == 7.0


def test_a_retry_after_beyond_the_clamp_ends_the_run_and_says_when_to_come_back():
    """Nobody holds a worker for an hour."""
    reason = CircuitBreaker(16).note_silence(0.0, 3600.0, code="rate_limited")

    assert reason.code == "rate_limited"
    assert "3600 s" in reason.next_step


def test_the_first_reason_stays_and_a_cancel_is_remembered():
    """A run that stopped for its balance and is then cancelled knows both."""
    stop = CancelToken()
    stop.set(StopReason("insufficient_balance", "m"))
    assert not stop.is_cancelled

    stop.set(CANCELLED)

    assert stop.reason.code == "insufficient_balance"
    assert stop.is_cancelled
