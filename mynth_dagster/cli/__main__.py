"""`python -m mynth_dagster.cli`: the same as `mynth-dagster`."""

from mynth_dagster.cli.main import main

main()
