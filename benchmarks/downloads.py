"""
Downloading the files of a table, to a folder and to a real S3 server. Loopback only, bounded.

    python benchmarks/downloads.py --rows 1632
    python benchmarks/downloads.py --rows 1632 --store s3
    python benchmarks/downloads.py --rows 10000 --store folder --no-kill
    python benchmarks/downloads.py --rows 40 --file-mib 40 --no-kill

Rows are submitted and collected first; what is measured is the download alone, in a process of
its own. It is killed (SIGKILL) when half of the files were asked for, and run again to its end.
Printed are files, requests for files as the simulator counted them (more than files: repeated),
bytes, seconds, peak memory over the process before it began to download, the objects or files
whose SHA-256 is their row's, and what else lies in the store. `--prompts` takes a Parquet file.
S3 is served by moto in a process of its own; it is Python, and slower than any real one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.engine.download import keep_files
from mynth_dagster.engine.run import RunProgress, run_table
from mynth_dagster.engine.session import EngineSettings, open_session
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import Delivery, Files, ImageRequest
from mynth_dagster.simulator import SimulatorServer
from mynth_dagster.simulator.scenario import Scenario
from mynth_dagster.tables.source import source_from_arrow
from tests.faults.front import Answer, Front, Visit
from tests.faults.s3 import BUCKET, running_s3, unfinished_in

CDN = "GET /cdn/:file"
MODEL = "black-forest-labs/flux.2-dev"
KIB = 1024


def main() -> None:
    arguments = _parse()
    if arguments.child:
        asyncio.run(_download(arguments))
        return
    stores = ["folder", "s3"] if arguments.store == "both" else [arguments.store]
    for store in stores:
        with running_s3() if store == "s3" else nullcontext({}) as environment:
            os.environ.update(environment)
            found = _measure(arguments, store, environment)
        print(json.dumps(found, indent=2), flush=True)


def _measure(arguments: argparse.Namespace, store: str, environment: dict[str, str]) -> Any:
    scenario = Scenario(progress="immediate", balance_usd="100000")
    answer = _big(arguments.file_mib) if arguments.file_mib else Visit.pass_through
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatorServer(scenario) as simulator,
        Front(simulator, answer) as front,
    ):
        root, url = Path(folder), front.url if arguments.file_mib else simulator.url
        place = f"s3://{BUCKET}/pictures" if store == "s3" else str(root / "pictures")
        asyncio.run(_submit(arguments, url, root))
        told = []
        if not arguments.no_kill:
            process = _start(arguments, url, root, place)
            while simulator.log()["requests"].get(CDN, 0) < arguments.rows // 2:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            told.append({"killed_at_requests": simulator.log()["requests"][CDN]})
        process = _start(arguments, url, root, place)
        output, _ = process.communicate(timeout=1800)
        told.append(json.loads(output))
        n_asked = simulator.log()["requests"].get(CDN, 0) + len(front.asked)
        return {
            "store": store,
            "runs": told,
            "requests_for_files": n_asked,
            **_judged(root, place, environment),
        }


def _judged(root: Path, place: str, environment: dict[str, str]) -> dict[str, Any]:
    rows = ds.dataset(root / "tables" / "b" / "images").to_table().to_pylist()
    fs, path = fsspec.core.url_to_fs(place)
    whole = sum(
        row["file_path"] is not None
        and hashlib.sha256(fs.cat_file(row["file_path"])).hexdigest() == row["file_sha256"]
        for row in rows
    )
    lying = len(fs.find(path))
    unfinished = unfinished_in(environment) if environment else 0
    return {
        "images": len(rows),
        "whole_files": whole,
        "files_in_store": lying,
        "unfinished_uploads": unfinished,
        "duplicate_paths": len(rows) - len({row["file_path"] for row in rows}),
    }


async def _submit(arguments: argparse.Namespace, url: str, root: Path) -> None:
    source = source_from_arrow(_prompts(arguments), "prompts")
    async with open_session(_settings(url, root)) as session:
        await run_table(
            session,
            Batch("b", request=ImageRequest(models=[MODEL])),
            source,
            window="",
            stop=CancelToken(),
            progress=RunProgress(),
        )


def _prompts(arguments: argparse.Namespace) -> pa.Table:
    if arguments.prompts:
        table = pq.read_table(arguments.prompts).slice(0, arguments.rows)
        names = {"Prompt": "prompt"}
        return table.rename_columns([names.get(name, name) for name in table.column_names])
    return pa.table({"prompt": [f"a kite over {n} hills" for n in range(arguments.rows)]})


def _settings(url: str, root: Path) -> EngineSettings:
    client = ClientSettings(base_url=url, api_key="mak_simulator")
    return EngineSettings(client, f"sqlite:///{root / 'ledger.db'}", str(root / "tables"))


def _start(
    arguments: argparse.Namespace, url: str, root: Path, place: str
) -> subprocess.Popen[str]:
    settings = {"url": url, "root": str(root), "store": place, "files": arguments.concurrency}
    command = [sys.executable, __file__, "--child", json.dumps(settings)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def _download(arguments: argparse.Namespace) -> None:
    """In the process that is measured."""
    child = json.loads(arguments.child)
    batch = Batch(
        "b",
        request=ImageRequest(models=[MODEL]),
        delivery=Delivery(files=Files(store=child["store"], concurrency=child["files"])),
    )
    async with open_session(_settings(child["url"], Path(child["root"]))) as session:
        fsspec.core.url_to_fs(child["store"])  # its libraries are no memory of a download
        before_kib = _memory_kib("VmRSS")
        _forget_peak()
        began_s = time.perf_counter()
        report = await keep_files(session, batch, Slice(), stop=CancelToken())
        seconds = time.perf_counter() - began_s
    peak_kib = _memory_kib("VmHWM")
    told = {
        "fetched": report.counts.n_fetched,
        "taken_in": report.counts.n_taken_in,
        "failed": report.counts.n_failed,
        "files": report.summary.n_files,
        "mib": round(report.summary.n_bytes / KIB / KIB, 1),
        "seconds": round(seconds, 1),
        "files_per_s": round(report.counts.n_fetched / seconds, 1),
        "peak_memory_mib": round(peak_kib / KIB, 1),
        "peak_over_base_mib": round((peak_kib - before_kib) / KIB, 1),
    }
    print(json.dumps(told))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def _big(n_mib: int) -> Answer:
    """Every file is a PNG of so many MiB, as far as its beginning and its end tell."""
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x04\0\x08\x02\0\0\0"
    parts = [head, *[bytes(KIB * KIB)] * n_mib, b"IEND\xaeB`\x82"]
    length = sum(map(len, parts))
    return lambda visit: visit.say(f"200 OK\r\nContent-Length: {length}", *parts)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1632)
    parser.add_argument("--prompts", help="Parquet file with a column prompt or Prompt")
    parser.add_argument("--store", choices=["folder", "s3", "both"], default="both")
    parser.add_argument("--concurrency", type=int, default=Files().concurrency)
    parser.add_argument("--file-mib", type=int, help="files of this size instead of real ones")
    parser.add_argument("--no-kill", action="store_true", help="one run to its end")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
