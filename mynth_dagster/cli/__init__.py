"""The command line: parse, call, print."""

from mynth_dagster.cli.main import main as main
