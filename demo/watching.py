"""What the demo shows while it waits, and at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import dagster as dg
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from demo.services import Place
from mynth_dagster.ledger import Ledger
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import REJECTED_INPUT
from mynth_dagster.tables.audit import audit_slice
from mynth_dagster.tables.results import rows_in_words
from mynth_dagster.tables.store import TableStore

BATCH = "packaging"
_ENDS = {
    "completed": "delivered",
    "partial": "delivered in part",
    "rejected": "refused",
    "failed": "failed",
}


class Watch:
    """Looks at the ledger and at Dagster's runs, now and then."""

    def __init__(self, place: Place, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._ledger = Ledger.open(place.ledger_url)
        self._instance = dg.DagsterInstance.from_config(str(place.dagster_home))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.close()
        self._instance.dispose()

    def is_over(self) -> bool:
        """Every partition has its files and tables of all that is known, and no run is left."""
        rows = self._ledger.read.partitions(BATCH)
        done = [row for row in rows if 0 < row.version <= min(row.collected, row.downloaded)]
        return len(done) == len(self._slices) and not any(
            not run.is_finished for run in self._instance.get_runs()
        )

    def render(self) -> Table:
        """Rows by shard and state, and the runs."""
        table = Table("shard", "sent", "finished", *_ENDS.values())
        counts = self._ledger.read.counts(BATCH, self._slices)
        for slice_ in self._slices:
            seen: Counter[str] = Counter()
            for count in (c for c in counts if c.fan_out == slice_.fan_out):
                state = count.state.value
                seen["sent"] += count.n_intents
                seen["finished"] += count.n_intents * (count.finished_remotely)
                seen[state] += count.n_intents
            shown = (seen[name] for name in ("sent", "finished", *_ENDS))
            table.add_row(slice_.fan_out, *map(str, shown))
        runs = [f"{run.job_name}: {run.status.value}" for run in self._instance.get_runs()]
        table.caption = ", ".join(reversed(runs)) or "waiting for the daemon"
        return table


def show_summary(console: Console, place: Place, slices: Sequence[Slice], *, took_s: float) -> int:
    """Print what came out; 0 if every prompt is accounted for."""
    store = TableStore(str(place.tables), BATCH)
    audits = [audit_slice(store, slice_) for slice_ in slices]
    folder = place.tables / BATCH
    images = ds.dataset(folder / "images", partitioning="hive").to_table(["file_bytes"])
    failures = ds.dataset(folder / "failures", partitioning="hive").to_table(["error_code"])
    tasks = ds.dataset(folder / "tasks", partitioning="hive").to_table(
        ["quoted_usd", "charged_usd", "status", "current"]
    )
    codes = Counter(failures.column("error_code").to_pylist())
    n_rows = sum(audit.n_rows for audit in audits)
    passed = all(audit.passed for audit in audits)
    sent = Counter(tasks.filter(tasks["current"])["status"].to_pylist())
    statuses = {REJECTED_INPUT: n_rows - sent.total(), **sent}
    console.print(f"\n{rows_in_words(statuses)}")
    console.print(f"{images.num_rows} images, {failures.num_rows} failures:")
    for code, n_failures in codes.most_common():
        console.print(f"  {n_failures} {code}")
    quoted, charged = (pc.sum(tasks.column(name)).as_py() for name in ("quoted_usd", "charged_usd"))
    console.print(f"quoted ${quoted:.2f}, charged ${charged:.2f}")
    n_bytes = pc.sum(images["file_bytes"]).as_py() or 0
    n_kept = images.num_rows - images["file_bytes"].null_count
    console.print(f"{n_kept} files kept, {n_bytes / 1e6:.1f} MB")
    console.print(f"tables: {folder}", soft_wrap=True)
    console.print(f"every prompt accounted for: {'yes' if passed else 'NO'}; {took_s:.0f} s")
    console.print("`make ui` opens Dagster on this history")
    return 0 if passed else 1
