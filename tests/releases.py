"""A made-up next release of the ledger's schema, which this one is migrated to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mynth_dagster.ledger import database

NEXT = f"{int(database.HEAD) + 1:04d}"

_MIGRATION = f'''
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{NEXT}", "{database.HEAD}"


def upgrade():
    op.add_column("partitions", sa.Column("made_up", sa.Integer))
'''


@contextmanager
def next_release(folder: Path) -> Iterator[None]:
    """This process runs the next release meanwhile; its migrations lie in the folder."""
    head, migrations = database.HEAD, database.MIGRATIONS
    if not folder.exists():
        shutil.copytree(migrations, folder)
        (folder / "versions" / f"{NEXT}_made_up.py").write_text(_MIGRATION)
    database.HEAD, database.MIGRATIONS = NEXT, folder
    try:
        yield
    finally:
        database.HEAD, database.MIGRATIONS = head, migrations
