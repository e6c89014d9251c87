"""Time that has passed for a ledger: for what a daemon or a tick would have to wait for."""

from __future__ import annotations

import sqlalchemy as sa

from mynth_dagster.clock import US_PER_S
from mynth_dagster.ledger import schema


def make_older(ledger_url: str, minutes: float) -> None:
    """As if every delivery had been begun, and every run had stopped, so much earlier."""
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        for moment in (schema.intents.c.claimed_at_us, schema.partitions.c.stopped_at_us):
            earlier = {moment.name: moment - round(minutes * 60 * US_PER_S)}
            connection.execute(sa.update(moment.table).values(earlier))
    engine.dispose()
