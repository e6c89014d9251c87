"""What importing costs: the package, the command and the simulator never load dagster."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "mynth_dagster",
    "mynth_dagster.simulator",
    "mynth_dagster.engine.run",
    "mynth_dagster.cli",
)


def test_importing_does_not_import_dagster():
    """Dagster takes seconds to load; only the plugin needs it."""
    code = f"""
import importlib, sys
for module in {MODULES!r}:
    importlib.import_module(module)
    assert "dagster" not in sys.modules, module
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
