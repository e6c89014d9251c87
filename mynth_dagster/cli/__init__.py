"""The command line: parse, call, print."""

import os

# Before Arrow is imported: its usual pool keeps what it used, half of what a large run would take.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from mynth_dagster.cli.main import main as main
