"""Apply each mutant to a copy of the project and expect its tests to turn red."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.mutants import MUTANTS, Mutant

PROJECT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
NEEDED = ("mynth_dagster", "tests", "pyproject.toml")


def survives(mutant: Mutant, copy: Path) -> bool:
    """Whether all of its tests pass, wrong as it is."""
    path = copy / mutant.file
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *mutant.tests],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.write_text(right, encoding="utf-8")
    if done.returncode and " failed" not in done.stdout:
        raise SystemExit(f"{mutant.name}: the tests did not run\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def copies(folder: Path) -> Iterator[Path]:
    """As many copies of the project as mutants are tried at a time."""
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for number in range(AT_ONCE):
        copy = folder / str(number)
        copy.mkdir()
        for name in NEEDED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy(source, copy / name)
        yield copy


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        free: SimpleQueue[Path] = SimpleQueue()
        for copy in copies(Path(folder)):
            free.put(copy)

        def is_alive(mutant: Mutant) -> bool:
            copy = free.get()
            try:
                found = survives(mutant, copy)
            finally:
                free.put(copy)
            print(f"{'SURVIVED' if found else 'noticed '}  {mutant.name}", flush=True)
            return found

        with ThreadPoolExecutor(AT_ONCE) as pool:
            n_alive = sum(pool.map(is_alive, MUTANTS))
    print(f"{len(MUTANTS) - n_alive} of {len(MUTANTS)} mutants were noticed")
    return 1 if n_alive else 0


if __name__ == "__main__":
    sys.exit(main())
