"""
The quick tests on each Python that is here: `make matrix`, or `python -m tests.matrix`.

Each Python gets an environment of its own under `.matrix`, with the versions of constraints.txt;
`--dagster 1.13.28` takes that release instead of the one that is pinned. A Python that is not on
this machine is named, and fails nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "duckdb", "markdown-it-py")
QUICK = (
    "tests/test_public_names.py",
    "tests/plugin/test_batch.py",
    "tests/plugin/test_component.py",
    "tests/cli",
    "tests/tables",
)


def find_python(version: str) -> str | None:
    """The interpreter of a version on the path, or the newest of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: path.stat().st_mtime)
    candidates = [shutil.which(f"python{version}"), *map(str, reversed(installed))]
    for candidate in filter(None, candidates):
        shown = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        found = subprocess.run(shown, capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            return candidate
    return None


def run_on(python: str, folder: Path, dagster: str | None) -> bool:
    """Install the package for a Python, and run the quick tests there."""
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if dagster:
        pins = [pin for pin in pins if not pin.startswith(("dagster", "create-dagster"))]
        pins.append(f"dagster=={dagster}")
    folder.mkdir(parents=True, exist_ok=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins), "utf-8")
    own = str(folder / "bin" / "python")
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [python, "-m", "venv", str(folder)],
        [*install, "-c", str(constraints), "-e", ".[all]", *TOOLS],
        [own, "-m", "pytest", "-q", "-n", "2", f"--basetemp={folder}/tests", *QUICK],
    ]
    return all(subprocess.run(step, cwd=ROOT, check=False).returncode == 0 for step in steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="*", metavar="3.13", default=PYTHONS)
    parser.add_argument("--dagster", help="a release of Dagster other than the pinned one")
    options = parser.parse_args()
    results = {}
    for version in options.pythons:
        python = find_python(version)
        if python is None:
            results[version] = "not on this machine: NOT TESTED"
            continue
        folder = ROOT / ".matrix" / f"{version}-dagster-{options.dagster or 'pinned'}"
        results[version] = "passed" if run_on(python, folder, options.dagster) else "FAILED"
    for version, result in results.items():
        print(f"Python {version}, Dagster {options.dagster or 'as pinned'}: {result}")
    return int("FAILED" in results.values())


if __name__ == "__main__":
    sys.exit(main())
