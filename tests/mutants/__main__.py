"""Apply each mutant to a copy of the project and expect its tests to turn red."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.mutants import MUTANTS, Mutant

PROJECT = Path(__file__).resolve().parents[2]
NEEDED = ("mynth_dagster", "tests", "pyproject.toml")


def survives(mutant: Mutant, copy: Path) -> bool:
    """Whether all of its tests pass, wrong as it is."""
    path = copy / mutant.file
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, "-n", "2", *mutant.tests],
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


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in NEEDED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy(source, copy / name)
        alive = []
        for mutant in MUTANTS:
            is_alive = survives(mutant, copy)
            print(f"{'SURVIVED' if is_alive else 'noticed '}  {mutant.name}", flush=True)
            alive += [mutant.name] * is_alive
    print(f"{len(MUTANTS) - len(alive)} of {len(MUTANTS)} mutants were noticed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
