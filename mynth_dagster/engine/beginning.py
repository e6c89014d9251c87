"""When a wish was uttered first, by the ledger's own clock, so that it can be taken up again."""

from __future__ import annotations

from dataclasses import replace

from mynth_dagster.clock import US_PER_S
from mynth_dagster.engine.asking import Asking
from mynth_dagster.engine.session import Session
from mynth_dagster.models.batch import Batch

ASKED = "asked:"
"""Before a batch and a wish: the ledger's fact when it was uttered first."""

KEPT_US = 30 * 86_400 * US_PER_S
"""Nobody takes up a run again after so long; a wish that is uttered then is a new one."""


async def asking_since(session: Session, batch: Batch, asking: Asking, wish: str) -> Asking:
    """
    The same wishes, leaving alone what was asked for since they were uttered first.

    The moment is kept in the ledger and read off the clock that dates its intents: clocks of other
    machines have no part in it. It is taken before anything is sent.

    Args:
        wish: What tells these wishes from others; the same in each try to fulfil them.
    """
    if not asking.pays_again:
        return asking
    now = await session.ledger.moment(session.clock.instant())
    key = f"{ASKED}{batch.ledger_name}:{wish}"
    kept = await session.ledger.ensure_meta(key, str(now.wall_us))
    await session.ledger.forget_moments(ASKED, now.wall_us - KEPT_US, but=key)
    return replace(asking, begun_at_us=int(kept))
