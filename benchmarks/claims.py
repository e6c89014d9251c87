"""
Claims a second in a batch of many partitions, without a cap and with one; and one partition found.

``python benchmarks/claims.py [--partitions 8000] [--claims 4000] [--ledger URL]``
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.claims import Claim, Claimed
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.intent import Intent, RowKey, intent_id
from mynth_dagster.models.money import NO_BUDGET, Budget
from mynth_dagster.models.transitions import IntentState

PRICE_UNITS = 1_000_000
PLENTY_UNITS = 10**15
IN_FLIGHT = 128
BUDGETS = {
    "no cap": NO_BUDGET,
    "a partition's cap": Budget(partition_units=PLENTY_UNITS),
    "a window's cap": Budget(window_units=PLENTY_UNITS),
    "a batch's cap": Budget(batch_units=PLENTY_UNITS),
}


def intent_of(ledger: Ledger, batch: str, number: int, fan_out: str) -> Intent:
    """A new row of this partition."""
    row = RowKey(batch, "2026-11-28", f"p{number}")
    return Intent(
        intent_id=intent_id(ledger.ledger_id, row, 1),
        row=row,
        prompt_id=row.request_key,
        fan_out=fan_out,
        generation=1,
        attempt=1,
        state=IntentState.SENDING,
        request_hash="1:0",
        model="auto",
        n_asked=1,
        claimed_at_us=0,
        send_by_us=0,
        quoted_units=PRICE_UNITS,
    )


async def claims_per_s(
    ledger: Ledger, batch: str, fan_outs: list[str], n: int, cap: Budget
) -> float:
    """As a run claims: so many at a time, each when the one before it is committed."""
    numbers = iter(range(n))

    async def work() -> None:
        for number in numbers:
            intent = intent_of(ledger, batch, number, fan_outs[number % len(fan_outs)])
            assert await ledger.claim(Claim(intent, 1, budget=cap)) is Claimed.WON

    began_s = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return n / (time.perf_counter() - began_s)


def main() -> None:
    """Print one line for each kind of cap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=8_000)
    parser.add_argument("--claims", type=int, default=4_000)
    parser.add_argument("--ledger", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(args.ledger or f"sqlite:///{Path(folder) / 'ledger.db'}")
        fan_outs = [f"{n:05d}" for n in range(args.partitions)]
        for name, cap in BUDGETS.items():
            slices = [Slice("2026-11-28", fan_out) for fan_out in fan_outs]
            asyncio.run(ledger.open_partitions(name, slices, "benchmark"))
            some = fan_outs[:64]  # a run works on a few partitions of many
            speed = asyncio.run(claims_per_s(ledger, name, some, args.claims, cap))
            began_s = time.perf_counter()
            for slice_ in slices[:100]:
                ledger.read.partition(name, slice_)
            found_ms = (time.perf_counter() - began_s) * 10
            print(f"{name:18} {speed:8,.0f} claims/s   one partition found in {found_ms:.2f} ms")
        ledger.close()


if __name__ == "__main__":
    main()
