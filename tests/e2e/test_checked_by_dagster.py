"""What Dagster's own commands say of our code location and of every example: nothing is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS, README, ROOT, blocks

EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())


def run_in(folder: Path, *command: str) -> None:
    """A command beside this interpreter, as a user would type it there."""
    bin_ = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(bin_), os.environ["PATH"]]),
        "MYNTH_API_KEY": "mak_simulator",
    }
    found = subprocess.run(
        [str(bin_ / command[0]), *command[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_sound(example, tmp_path):
    """A project by `dg check`, a file by `dagster definitions validate`."""
    folder = tmp_path / example.name
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if (folder / "pyproject.toml").exists():
        run_in(folder, "dg", "check", "yaml")
        run_in(folder, "dg", "check", "defs")
    else:
        run_in(folder, "dagster", "definitions", "validate", "-f", "definitions.py")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("page", "number"), [(README, 0), (DOCS / "tutorial.md", 1)], ids=["README", "tutorial"]
)
def test_a_page_s_definitions_load_as_a_file(page, number, tmp_path):
    """As `dagster dev -f definitions.py` loads them, which allows one `Definitions` in a file."""
    (tmp_path / "definitions.py").write_text(blocks(page, "python")[number], "utf-8")
    run_in(tmp_path, "dagster", "definitions", "validate", "-f", "definitions.py")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "command",
    [
        ("dg", "check", "yaml"),
        ("dg", "check", "defs"),
        ("dagster", "definitions", "validate", "-w", "workspace.yaml"),
    ],
    ids=" ".join,
)
def test_our_own_location_is_sound(command):
    """As `make locations` checks it, and its YAML."""
    run_in(ROOT, *command)
