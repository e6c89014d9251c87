"""
What a user of the distributions gets: `make dist`, or `python -m tests.dist dist`.

Each wheel and sdist of a folder is installed into an environment of its own, with nothing of the
checkout, and runs the first example of the README there, against the simulator.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.docs.markdown import README, ROOT, blocks

SIMULATOR_URL = "http://127.0.0.1:8787"
EXAMPLE = """
import sys

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

import mynth_dagster
from mynth_dagster.simulator import Scenario, SimulatorServer

assert mynth_dagster.__file__.startswith(sys.prefix), mynth_dagster.__file__
pq.write_table(pa.table({"prompt": ["a red kite", "a blue kite"]}), "prompts.parquet")
names = {}
with SimulatorServer(Scenario(progress="immediate")) as simulator:
    exec(open("example.py").read().replace("SIMULATOR_URL", simulator.url), names)
    job = names["defs"].resolve_job_def("packaging_all")
    day = job.partitions_def.primary_dimension.partitions_def.get_last_partition_key()
    tags = {
        "dagster/asset_partition_range_start": f"{day}|000",
        "dagster/asset_partition_range_end": f"{day}|003",
    }
    assert job.execute_in_process(tags=tags).success
    assert simulator.log()["totals"]["accepted"] == 2
print(f"mynth-dagster {mynth_dagster.__version__}: the first example made 2 images")
""".replace("SIMULATOR_URL", SIMULATOR_URL)


def try_out(distribution: Path) -> None:
    """Install a distribution with the simulator, and run the example; exits if anything fails."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "MYNTH_API_KEY": "mak_simulator",
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        own = home / "venv" / "bin"
        (home / "example.py").write_text(blocks(README, "python")[0], "utf-8")
        pip = [own / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        steps = [
            [*pip, "-c", ROOT / "constraints.txt", f"{distribution.resolve()}[simulator]"],
            [own / "python", "-c", EXAMPLE],
            [own / "mynth-dagster", "--version"],
        ]
        for step in steps:
            ran = subprocess.run(
                step, cwd=home, env=environment, capture_output=True, text=True, check=False
            )
            if ran.returncode:
                sys.exit(f"{ran.stdout}{ran.stderr}")
            print(ran.stdout, end="", flush=True)


def main(folder: str) -> None:
    """Try out the wheel and the sdist of a folder."""
    found = sorted([*Path(folder).glob("*.whl"), *Path(folder).glob("*.tar.gz")])
    if len(found) != 2:
        sys.exit(f"{folder} has {len(found)} distributions; one wheel and one sdist are needed")
    for distribution in found:
        print(f"{distribution.name}: installing it into an empty environment", flush=True)
        try_out(distribution)


if __name__ == "__main__":
    main(*sys.argv[1:])
