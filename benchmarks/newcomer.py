"""
How long a newcomer takes from `pip install` to the first images in Dagster's UI.

    python benchmarks/newcomer.py

Does what the README says and nothing else, in an empty folder with an environment of its own:
installs the checkout with its UI, writes the quick start's `definitions.py` and a small
`prompts.parquet`, starts the simulator and `dagster dev`, launches `packaging_submit` for a day
as the UI does, and waits until the sensor has collected. Prints the seconds of each stage.
Needs the ports 8787 and 3000, and a package index for the installation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.docs.markdown import README, ROOT, blocks, commands

DEADLINE_S = 300.0
DAY = "2026-11-20"
UI = "http://127.0.0.1:3000/graphql"
PROMPTS = """
import pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({"prompt": [f"a tin of tea, number {n}" for n in range(12)]}),
               "prompts.parquet")
"""
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on PythonError { message } }
}
"""
LANDED = """
query { assetOrError(assetKey: {path: ["packaging", "images"]}) {
  ... on Asset { assetMaterializations(limit: 20) { partition } } } }
"""


def ask(query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """One GraphQL request, as the UI makes them."""
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    request = urllib.request.Request(UI, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer)["data"])


def wait_for(done: Any, what: str) -> None:
    """Look twice a second."""
    until_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            if done():
                return
        except OSError:
            pass
        if time.monotonic() > until_s:
            raise SystemExit(f"{what}: not within {DEADLINE_S:.0f} s")
        threading.Event().wait(0.5)


def launch() -> bool:
    """Launch the job over the four shards of a day; whether it was taken."""
    tags = {
        "dagster/asset_partition_range_start": f"{DAY}|000",
        "dagster/asset_partition_range_end": f"{DAY}|003",
    }
    selector = {
        "repositoryLocationName": "definitions.py",
        "repositoryName": "__repository__",
        "jobName": "packaging_submit",
    }
    metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
    params = {"selector": selector, "executionMetadata": metadata}
    found = ask(LAUNCH, {"params": params})["launchRun"]
    return found["__typename"] == "LaunchRunSuccess"


def has_images() -> bool:
    """Whether every shard of the day has landed."""
    landed = ask(LANDED)["assetOrError"].get("assetMaterializations", [])
    return len({event["partition"] for event in landed}) == 4


def main() -> None:
    stages: list[tuple[str, float]] = []
    began_s = last_s = time.monotonic()

    def stage(name: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        stages.append((name, now_s - last_s))
        last_s = now_s

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bin_ = Path(folder, "venv", "bin")
        subprocess.run([sys.executable, "-m", "venv", Path(folder, "venv")], check=True)
        install = [bin_ / "pip", "install", "--quiet", f"{ROOT}[ui,simulator]"]
        subprocess.run([*install, "-c", ROOT / "constraints.txt"], check=True)
        stage("install")
        (quick_start,) = [b for b in blocks(README, "python") if '"packaging"' in b][:1]
        Path(folder, "definitions.py").write_text(quick_start, "utf-8")
        subprocess.run([bin_ / "python", "-c", PROMPTS], cwd=folder, check=True)
        stage("files")
        servers = [c for c in commands(README) if c.endswith(("simulate", "definitions.py"))]
        environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "DAGSTER_HOME": ""}
        running = [
            subprocess.Popen(
                command,
                shell=True,
                cwd=folder,
                env=environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in servers
        ]
        try:
            wait_for(launch, "the UI")
            stage("until a run is launched")
            wait_for(has_images, "the images")
            stage("until the images are there")
        finally:
            for process in running:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)
    for name, seconds in [*stages, ("in all", last_s - began_s)]:
        print(f"{name:>28}  {seconds:6.1f} s")


if __name__ == "__main__":
    main()
