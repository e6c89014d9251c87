"""Prompt tables by the million: read and checked, and planned again when nothing changed."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pyarrow as pa

from benchmarks import ours
from benchmarks.measured import Measured, cores, measure
from benchmarks.ours import BATCH
from benchmarks.paid import ledger_bytes, pay_for_all
from benchmarks.report import Aim, Line, line
from benchmarks.server import Behaviour, Server, serving
from benchmarks.submitting import folder
from mynth_dagster.engine.plan import build_plan
from mynth_dagster.engine.session import open_session
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.tables.columns import find_columns, normalise
from mynth_dagster.tables.requests import RequestRows, completed, constant_columns, repeated
from mynth_dagster.tables.rules import Allowed, find_problems
from mynth_dagster.tables.source import open_source

N_READ = 10_000_000
N_PLANNED = 1_000_000
N_NEW = 10_000_000


def reading(*, n_rounds: int, scale: float) -> list[Line]:
    """Ten million rows read and checked by whole columns; a million identified one by one."""
    n_rows, n_named, (_, core) = round(N_READ * scale), round(N_PLANNED * scale), cores()
    with folder() as path:
        source = f"{path}/prompts.parquet"
        ours.write_prompts_file(Path(source), n_rows)
        checked = [_measured(core, check, source, n_rows) for _ in range(n_rounds)]
        ours.write_prompts_file(Path(source), n_named)
        named = [_measured(core, identify, source, n_named)]
    what = f"read and check {n_rows:,} rows"
    return [
        line(f"{what}, s", [m.wall_s for m in checked], "{:.2f}", Aim(at_most=2.0 * scale)),
        line(f"{what}, MiB", [m.over_base_mib for m in checked], "{:.0f}", Aim(at_most=120)),
        line(f"name and hash {n_named:,} rows, s", [m.wall_s for m in named], "{:.1f}"),
        line(f"name and hash {n_named:,} rows, MiB", [m.over_base_mib for m in named], "{:.0f}"),
    ]


def _measured(core: int, function: object, source: str, n_rows: int) -> Measured:
    measured = measure(core, function, source, before=partial(warm_up, source))
    assert measured.result == n_rows
    return measured


ALLOWED = Allowed(LIMITS_BY_REVISION["2026-08"])


def warm_up(path: str) -> None:
    """The first rows, so that everything which is imported on first use is there."""
    source = open_source(path)
    found = find_columns(source, BATCH.columns)
    next(RequestRows(source, BATCH, found, ALLOWED))


def check(path: str) -> int:
    """All rows, read and checked as `prepare` does before it names and hashes them."""
    source, n_rows = open_source(path), 0
    found = find_columns(source, BATCH.columns)
    for batch in source.batches():
        rows = normalise(batch, found)
        columns = completed(rows, BATCH)
        columns["model"] = repeated(BATCH.request.models[0], pa.string(), rows.n_rows)
        assert not find_problems(columns, ALLOWED, constant=constant_columns(rows, BATCH))
        n_rows += rows.n_rows
    return n_rows


def identify(path: str) -> int:
    """The same, with each row's name and hash."""
    source = open_source(path)
    found = find_columns(source, BATCH.columns)
    return sum(rows.num_rows for rows in RequestRows(source, BATCH, found, ALLOWED))


def planning(*, n_rounds: int, scale: float) -> list[Line]:
    """A table of a million rows that were all delivered is run again."""
    n_rows, (server_core, core) = round(N_PLANNED * scale), cores()
    with serving(server_core) as server, folder() as path:
        ours.write_prompts_file(Path(path) / "prompts.parquet", n_rows)
        prepared = measure(core, prepare_only, server.url, path)
        pay_for_all(path, f"sqlite:///{path}/ledger.db")
        found = [_planned_again(server, core, path) for _ in range(n_rounds)]
        n_bytes = ledger_bytes(path)
    return [
        line(f"check and write {n_rows:,} new rows, s", [prepared.wall_s], "{:.1f}"),
        line(
            f"plan {n_rows:,} unchanged rows, s",
            [m.wall_s for m in found],
            "{:.1f}",
            Aim(at_most=20 * scale),
        ),
        line("the same, MiB", [m.over_base_mib for m in found], "{:.0f}"),
        line("ledger, bytes a row", [n_bytes / n_rows]),
    ]


def new_rows(*, scale: float, **_: int) -> list[Line]:
    """Ten million rows that nobody asked for: checked, written and planned, and none is sent."""
    n_rows, (server_core, core) = round(N_NEW * scale), cores()
    with serving(server_core) as server, folder() as path:
        ours.write_prompts_file(Path(path) / "prompts.parquet", n_rows)
        prepared = measure(core, prepare_only, server.url, path)
        server.behave(Behaviour())
        planned = measure(core, plan_only, server.url, path)
        assert planned.result == n_rows
        assert not server.seen().requests["POST /image/generate"]
    return [
        line(f"check and write {n_rows:,} new rows, s", [prepared.wall_s], "{:.0f}"),
        line("the same, MiB", [prepared.over_base_mib], "{:.0f}"),
        line(f"plan {n_rows:,} new rows, s", [planned.wall_s], "{:.0f}"),
        line("the same, MiB", [planned.over_base_mib], "{:.0f}"),
    ]


def _planned_again(server: Server, core: int, path: str) -> Measured:
    server.behave(Behaviour())
    measured = measure(core, ours.submit_again, server.url, path)
    assert measured.result == 0
    assert not server.seen().requests["POST /image/generate"]
    return measured


def plan_only(url: str, path: str) -> int:
    """Read the written prompts against the ledger; how many would be sent."""

    async def work() -> int:
        async with open_session(ours.settings_for(url, path, None, 128)) as session:
            return (await build_plan(session, ImageWork(BATCH), BATCH.slices(""))).n_to_send

    return asyncio.run(work())


def prepare_only(url: str, path: str) -> None:
    """Check the prompts and write them."""
    asyncio.run(ours.prepare_table(url, path))
