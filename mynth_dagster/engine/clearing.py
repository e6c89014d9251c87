"""
When a search proves that a lost request was not accepted, and when the next one is due. Pure.

Absence proves something only if the list was read to the end with the key that sent the request,
late enough for every answer and cache, while showing that it is fresh; and twice, with pages of
different sizes, since entries of equal time may hide at the border of one size.
"""

from __future__ import annotations

from collections.abc import Sequence

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.limits import (
    CLEAR_AFTER_S,
    CLEAR_AGAIN_AFTER_S,
    CLEAR_WITHOUT_WITNESS_AFTER_S,
    WALK_MARGIN_S,
    WALK_PAGES,
)
from mynth_dagster.models.doubt import Doubt, Walk

_PATIENCE = 4
"""A search that proved nothing is repeated after a fourth of the time that the row waited."""


def is_conclusive(walk: Walk, doubt: Doubt) -> bool:
    """Whether this walk would have shown the task of this request, had there been one."""
    if doubt.since is None or walk.account != doubt.account:
        return False
    waited_us = doubt.since.surely_elapsed_us(walk.began)
    if waited_us < CLEAR_AFTER_S * US_PER_S or not _reaches(walk, doubt):
        return False
    has_witness = walk.witness_no > doubt.since_no
    return has_witness or waited_us >= CLEAR_WITHOUT_WITNESS_AFTER_S * US_PER_S


def is_cleared(doubt: Doubt, walks: Sequence[Walk]) -> bool:
    """Whether these walks together prove that the request was not accepted; oldest first."""
    if doubt.is_disputed:
        return False
    conclusive = [walk for walk in walks if is_conclusive(walk, doubt)]
    return any(
        _agree(first, second)
        for place, first in enumerate(conclusive)
        for second in conclusive[place + 1 :]
    )


def is_walk_due(doubt: Doubt, walks: Sequence[Walk], now: Instant, *, may_clear: bool) -> bool:
    """Whether to search for this request's task now; oldest walk first."""
    since = doubt.since
    if since is None:
        return True
    later = [walk for walk in walks if since.surely_elapsed_us(walk.ended) > 0]
    if not later:
        return True
    waited_us = since.surely_elapsed_us(now)
    if not may_clear or doubt.is_disputed or waited_us < CLEAR_AFTER_S * US_PER_S:
        return False
    pause_us = CLEAR_AGAIN_AFTER_S * US_PER_S
    if not any(is_conclusive(walk, doubt) for walk in walks):
        pause_us = max(pause_us, waited_us / _PATIENCE)
    return later[-1].ended.surely_elapsed_us(now) >= pause_us


def next_page_size(walks: Sequence[Walk]) -> int:
    """Another size than that of the last walk."""
    if not walks:
        return WALK_PAGES[0]
    return next(size for size in WALK_PAGES if size != walks[-1].page_size)


def oldest_wanted_us(doubts: Sequence[Doubt]) -> int:
    """
    How old a task has to be, on the server's clock, for a walk to stop there.

    0 where the server's time of one of the requests is not known: the walk goes to the end.
    """
    times = [doubt.claimed_server_us for doubt in doubts]
    known = [time_us for time_us in times if time_us is not None]
    if len(known) < len(times):
        return 0
    return round(min(known) - WALK_MARGIN_S * US_PER_S)


def _reaches(walk: Walk, doubt: Doubt) -> bool:
    if walk.reached_us is None:
        return True
    return walk.reached_us <= oldest_wanted_us([doubt])


def _agree(first: Walk, second: Walk) -> bool:
    pause_us = first.ended.surely_elapsed_us(second.began)
    return first.page_size != second.page_size and pause_us >= CLEAR_AGAIN_AFTER_S * US_PER_S
