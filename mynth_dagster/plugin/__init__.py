"""Dagster's side of the house: everything that imports dagster lives here."""

from importlib.metadata import version

# The one private import: libraries register here to be listed in the UI.
from dagster_shared.libraries import DagsterLibraryRegistry

DagsterLibraryRegistry.register("mynth-dagster", version("mynth-dagster"), is_dagster_package=False)
