"""What importing costs: the package, the command and the simulator never load dagster."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "mynth_dagster",
        "mynth_dagster.cli",
        "mynth_dagster.simulator",
        "mynth_dagster.engine.run",
    ],
)
def test_importing_does_not_import_dagster(module):
    """Dagster takes seconds to load; only the plugin needs it."""
    code = f"import sys, {module}; sys.exit('dagster' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
