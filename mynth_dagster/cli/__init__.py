"""The command line: parse, call, print."""

from mynth_dagster.cli.memory import keep_little

keep_little()

from mynth_dagster.cli.main import main as main  # noqa: E402 - reads the environment
