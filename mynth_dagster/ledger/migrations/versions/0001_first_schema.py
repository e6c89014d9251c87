"""
The first schema, which `ledger.schema` creates: there is no older ledger to change.

A later migration takes the number 0002 and `down_revision = "0001"`; `database.HEAD` follows.
"""

from __future__ import annotations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: no ledger has an older schema."""
