"""
What a walk over the task list proves of a request whose answer was lost. Pure.

That a request came to nothing is shown by a bracket, and by nothing that a clock says, Mynth's or
an edge's. Our own tasks are the rulers, for the ledger's running numbers say which of them are
older and which younger than the request. A walk proves that the request has no task if

- the list shows a task of ours from before the request, and everything above it was read; or the
  list was read to its end and showed every task of ours that the ledger knows,
- it shows a task of ours from after the request: it is not a stale copy,
- it shows our tasks in the order in which they were made, and misses none of them in between,
- tasks of ours that were read on the way carry our tag, so that a missing tag means something,
- nothing in the bracket can be the task that is searched for: neither one that could not be read,
  nor one without a tag that asks for the same.

Two such walks with pages of different sizes, some time apart, clear the row: entries of equal
time may hide at the border of one size.
"""

from __future__ import annotations

from collections.abc import Sequence

from mynth_dagster.clock import US_PER_S, Instant
from mynth_dagster.limits import CLEAR_AFTER_S, CLEAR_AGAIN_AFTER_S, WALK_PAGES
from mynth_dagster.models.intent import TOO_EARLY, Doubt, StrangeTask, Trail, Walk
from mynth_dagster.models.request import task_type_of
from mynth_dagster.models.task import IMAGE_TASK, MYNTH_TASKS

_PATIENCE = 4
"""A search that proved nothing is repeated after a fourth of the time that the row waited."""


def why_not_absent(
    doubt: Doubt, trail: Trail, *, began: Instant, account: int, asked: str | None
) -> str:
    """
    Why the walk does not prove that this request has no task; an empty text: it does.

    Args:
        began: When the walk began.
        account: Whose list it was.
        asked: The prompt of the request, or the image that it looks at; None where that is not
            known any more.
    """
    if doubt.account != account:
        return "only the key that sent it lists its task"
    if doubt.is_disputed:
        return "a task carries its id and asks for something else"
    if doubt.since is None or doubt.since.surely_elapsed_us(began) < CLEAR_AFTER_S * US_PER_S:
        return TOO_EARLY
    return trail.flaw or _why_not_bracketed(doubt, trail) or _in_the_way(doubt, trail, asked)


def _why_not_bracketed(doubt: Doubt, trail: Trail) -> str:
    if not any(task.claimed_no > doubt.since_no for _, task in trail.known):
        return (
            "the list shows no task of this key that was sent after it, so that it may be out of "
            "date; any row sent later with this key shows that it is not"
        )
    if place_below(doubt.claimed_no, trail) is None:
        return "the list shows no task of this key from before it"
    if task_type_of(doubt.intent.model) == IMAGE_TASK:
        return trail.tag_flaw
    return ""


def place_below(claimed_no: int, trail: Trail) -> int | None:
    """
    Where the bracket of a request ends; None: not seen.

    What lies there, and all below, is older than what was claimed under this number.
    """
    for place, task in trail.known:
        if task.accepted_no is not None and task.accepted_no < claimed_no:
            return place
    return trail.n_places if trail.is_at_end else None


def _in_the_way(doubt: Doubt, trail: Trail, asked: str | None) -> str:
    below, above = place_below(doubt.claimed_no, trail), _place_above(doubt, trail)
    for place, strange in trail.strange:
        is_in_bracket = (below is None or place < below) and place > above
        if is_in_bracket and _may_be(strange, doubt, asked):
            return f"{strange.task_id} {strange.said}"
    return ""


def _place_above(doubt: Doubt, trail: Trail) -> int:
    """
    Where the bracket begins: what lies above is younger than any request that was lost then.

    A request reaches Mynth within `CLEAR_AFTER_S` or never. Tasks of ours that were claimed so
    much later, by the clock of whoever claimed them, lie above its task.
    """
    assert doubt.since is not None
    late_us = doubt.since.wall_us + CLEAR_AFTER_S * US_PER_S
    late = [
        place
        for place, task in trail.known
        if task.claimed_no > doubt.since_no and task.intent.claimed_at_us >= late_us
    ]
    return max(late, default=-1)


def _may_be(strange: StrangeTask, doubt: Doubt, asked: str | None) -> bool:
    if strange.type in MYNTH_TASKS and strange.type != task_type_of(doubt.intent.model):
        return False
    return None in (strange.asked, asked) or strange.asked == asked


def is_cleared(doubt: Doubt, walks: Sequence[Walk]) -> bool:
    """Whether these walks together prove that the request was not accepted; oldest first."""
    if doubt.is_disputed:
        return False
    conclusive = [walk for walk in walks if _proves(walk, doubt)]
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
    later = [
        walk
        for walk in walks
        if doubt.intent.intent_id in walk.said and since.surely_elapsed_us(walk.ended) > 0
    ]
    if not later:
        return True
    waited_us = since.surely_elapsed_us(now)
    if not may_clear or doubt.is_disputed or waited_us < CLEAR_AFTER_S * US_PER_S:
        return False
    pause_us = CLEAR_AGAIN_AFTER_S * US_PER_S
    if not any(_proves(walk, doubt) for walk in later):
        pause_us = max(pause_us, waited_us / _PATIENCE)
    return later[-1].ended.surely_elapsed_us(now) >= pause_us


def next_page_size(walks: Sequence[Walk]) -> int:
    """Another size than that of the last walk."""
    if not walks:
        return WALK_PAGES[0]
    return next(size for size in WALK_PAGES if size != walks[-1].page_size)


def _proves(walk: Walk, doubt: Doubt) -> bool:
    """Whether it did, of this delivery: an intent may have been in doubt before."""
    if doubt.since is None or walk.account != doubt.account:
        return False
    waited_us = doubt.since.surely_elapsed_us(walk.began)
    is_absent = walk.said.get(doubt.intent.intent_id) == ""
    return is_absent and waited_us >= CLEAR_AFTER_S * US_PER_S


def _agree(first: Walk, second: Walk) -> bool:
    pause_us = first.ended.surely_elapsed_us(second.began)
    return first.page_size != second.page_size and pause_us >= CLEAR_AGAIN_AFTER_S * US_PER_S
