"""Everything under `defs/` is loaded; each folder there is one batch."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """The code location `mynth`."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
