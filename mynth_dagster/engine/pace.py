"""
When to look for finished tasks again, and at how many of them. Pure.

A look at a page of tasks costs a request, and how fast tasks finish says when the next one is
worth it: most of what is left should be finished by then. As long as next to nothing is finished
only the oldest of them are looked at; from then on all that are old enough for some of their kind
to be finished. Where a look would come too soon to find much, because nobody is to wait longer
than the longest pause, it is at the oldest tasks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

PROBE_TASKS = 5
"""Where each task costs a request; else as many as one request tells of."""

PROBE_MIN_S = 1.0
PROBE_TRUSTED_SHARE = 0.1
"""So much of a probe has to be finished before anything is concluded from it."""

PROBE_GROWTH = 0.5
FIRST_REST = 0.6
"""Share of the time that is left, as long as tasks are known by their age alone: none is finished
in its first moments, and what is left looks longer than it is."""

REST = 0.75
"""Share of the time that is left, once all tasks were looked at."""

LAST_SHARE = 0.15
"""Of all tasks; so few are looked at when all of them should be finished."""

SHARE_WORTH_A_LOOK = 0.2
"""With a hundred tasks a request, twenty found: a twentieth of a request for each."""

YOUNG_SHARE = 0.2
"""Of the time that tasks take, by the first look that found some: few are finished as early."""

EMPTY_GROWTH = 1.5
EMPTY_WIDENING = 2


@dataclass(frozen=True)
class Look:
    """
    What one look showed.

    Args:
        at_s: When it was; any clock that only goes forward.
        n_tasks: Pending tasks that were looked at.
        n_finished: Those of them that were found finished.
        n_pending: All tasks that are pending now.
        exposure_s: How long they could have finished since anybody looked, on average.
    """

    at_s: float
    n_tasks: int
    n_finished: int
    n_pending: int
    exposure_s: float


class Pace:
    """
    The rhythm of one wait.

    Args:
        min_s: Shortest time between two looks.
        max_s: Longest time between two looks.
        tasks_a_request: Of how many tasks one request tells.
    """

    def __init__(self, min_s: float, max_s: float, tasks_a_request: int) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._began_s: float | None = None
        self._wait_s = 0.0
        self._n_most = 0
        self.is_probing = True
        self.counted_from_s: float | None = None
        self.min_age_s = 0.0
        self._n_probed = max(PROBE_TASKS, tasks_a_request)
        self.n_tasks: int | None = self._n_probed
        self.next_at_s = 0.0

    def begin(self, now_s: float) -> None:
        """The first task was sent."""
        if self._began_s is None:
            self._began_s = now_s
            self._wait(now_s, PROBE_MIN_S)

    def note(self, look: Look) -> None:
        """
        Take in a look.

        `next_at_s`, `n_tasks` (None: all) and `min_age_s` are those of the next one.
        """
        self.begin(look.at_s)
        self._n_most = max(self._n_most, look.n_pending + look.n_finished)
        trusted = PROBE_TRUSTED_SHARE * look.n_tasks if self.is_probing else 0
        if look.n_finished > trusted:
            self._pace(look)
        elif self.is_probing:
            self._wait(look.at_s, max(PROBE_MIN_S, PROBE_GROWTH * self._age_s(look)))
        else:
            self._wait(look.at_s, EMPTY_GROWTH * self._wait_s)
        if look.n_finished == 0 and self.n_tasks is not None and not self._is_too_soon:
            self.n_tasks *= EMPTY_WIDENING

    def look_at_all(self) -> None:
        """The next look is at every task."""
        self.n_tasks, self.min_age_s = None, 0.0

    def _pace(self, look: Look) -> None:
        share = look.n_finished / look.n_tasks
        left_s = look.exposure_s * (1 - share) / share
        is_last = look.n_pending <= LAST_SHARE * self._n_most
        is_known = self.counted_from_s is not None
        self._wait(look.at_s, left_s * (1.0 if is_last else REST if is_known else FIRST_REST))
        if self.is_probing:
            self.min_age_s = min(YOUNG_SHARE * look.exposure_s / share, self._max_s)
        else:
            self.counted_from_s = look.at_s
        self.is_probing, self.n_tasks = False, None
        if self._max_s < SHARE_WORTH_A_LOOK * left_s:
            worth = self._max_s / (SHARE_WORTH_A_LOOK * left_s)
            self.n_tasks = max(self._n_probed, round(worth * look.n_pending))

    def _wait(self, now_s: float, wanted_s: float) -> None:
        """Never longer than it took so far: what was seen of the past reaches no further."""
        assert self._began_s is not None
        known_s = max(PROBE_MIN_S, now_s - self._began_s)
        self._wait_s = min(max(min(wanted_s, known_s), self._min_s), self._max_s)
        self.next_at_s = now_s + self._wait_s

    @property
    def _is_too_soon(self) -> bool:
        """Tasks that take long are no reason to look at more of them."""
        return self.is_probing and self._wait_s < self._max_s

    def _age_s(self, look: Look) -> float:
        assert self._began_s is not None
        return look.at_s - self._began_s
