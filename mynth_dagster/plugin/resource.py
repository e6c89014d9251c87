"""`MynthResource`: connection, ledger and tables as one Dagster resource; the composition root."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field

from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.engine.session import EngineSettings, Session, ledger_url_in, open_session
from mynth_dagster.engine.stop import StopSwitch
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import (
    CONCURRENCY_DEFAULT,
    CONNECT_TIMEOUT_S,
    IMAGE_HOSTS,
    POLL_INTERVAL_MAX_S,
    POLL_INTERVAL_MIN_S,
    REQUEST_TIMEOUT_S,
    UPLOAD_LIFETIME_S,
)
from mynth_dagster.plugin.bridge import Notices, Watch, run_on_engine_thread
from mynth_dagster.plugin.partitions import follow_range
from mynth_dagster.wire import AUTO_REVISION

T = TypeVar("T")


class MynthResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """
    How to reach Mynth, and where tables and ledger lie.

    Give the key as `dg.EnvVar("MYNTH_API_KEY")`: a literal would be stored in Dagster's snapshot
    of the code location and shown in the UI. The variable is read when the key is needed, so that
    a sensor or a run without it says so in a sentence.
    """

    api_key: str = Field(
        default="", description="Mynth API key, as dg.EnvVar; never a literal.", repr=False
    )
    api_key_env: str = Field(
        default="",
        description="Environment variable that holds the key: the same as its dg.EnvVar.",
    )
    root: str = Field(description="Folder or fsspec URL under which the tables are written.")
    ledger_url: str = Field(
        default="",
        description="SQLAlchemy URL of the ledger, SQLite or Postgres. "
        "Empty: the file mynth-ledger.db in a local root.",
    )
    spool_dir: str = Field(
        default="",
        description="Local folder for paid answers while the ledger cannot be written. "
        "Empty: beside a SQLite ledger, else in a local root, else among temporary files.",
    )
    upload_lifetime_s: float = Field(
        default=UPLOAD_LIFETIME_S,
        description="Seconds for which the URL of an uploaded input file is used again. "
        "Mynth keeps it for a day.",
    )
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Where the API is.")
    api_revision: str = Field(
        default=AUTO_REVISION,
        description="2026-10, 2026-08 or 2026-04; auto asks the server, free of charge.",
    )
    concurrency: int = Field(
        default=CONCURRENCY_DEFAULT, description="Requests in flight at most, per run."
    )
    connect_timeout_s: float = Field(
        default=CONNECT_TIMEOUT_S, description="Seconds to connect and shake hands."
    )
    request_timeout_s: float = Field(
        default=REQUEST_TIMEOUT_S, description="Seconds for a whole request, in all."
    )
    image_hosts: list[str] = Field(
        default=list(IMAGE_HOSTS),
        description="Hosts that images are fetched from by https, without the key, besides the "
        "API's own.",
    )
    any_public_host: bool = Field(
        default=False,
        description="Fetch images from any other host too, by public addresses alone.",
    )
    poll_interval_min_s: float = Field(
        default=POLL_INTERVAL_MIN_S, description="Shortest pause between rounds of polling."
    )
    poll_interval_max_s: float = Field(
        default=POLL_INTERVAL_MAX_S, description="Longest pause between rounds of polling."
    )

    def __init__(self, **fields: Any) -> None:
        key = fields.get("api_key")
        if isinstance(key, dg.EnvVar):
            fields |= {"api_key": "", "api_key_env": key.env_var_name}
        super().__init__(**fields)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Let a run be for the partitions of its range, whatever else its tags say."""
        follow_range(context.run)

    def engine_settings(self) -> EngineSettings:
        """
        The settings of a session.

        Raises:
            ConfigError: A field is wrong, or the ledger's place cannot be derived.
        """
        client = ClientSettings(
            base_url=self.base_url,
            api_key=self.api_key or self._key_from_environment(),
            concurrency=self.concurrency,
            connect_timeout_s=self.connect_timeout_s,
            request_timeout_s=self.request_timeout_s,
            image_hosts=tuple(self.image_hosts),
            any_public_host=self.any_public_host,
        )
        return EngineSettings(
            client=client,
            ledger_url=self.ledger_url or ledger_url_in(self.root),
            root=self.root,
            spool_dir=self.spool_dir,
            upload_lifetime_s=self.upload_lifetime_s,
            api_revision=self.api_revision,
            poll_interval_min_s=self.poll_interval_min_s,
            poll_interval_max_s=self.poll_interval_max_s,
        )

    def _key_from_environment(self) -> str:
        key = os.environ.get(self.api_key_env, "")
        if not key:
            what = f"{self.api_key_env} is not set" if self.api_key_env else "none is given"
            said = f"{what} where Dagster runs; set it and restart the code location."
            raise ConfigError("api_key", said)
        return key

    def run(
        self,
        work: Callable[[Session], Awaitable[T]],
        *,
        stop: StopSwitch | None = None,
        notices: Notices | None = None,
        watch: Watch = lambda: "",
        settings: EngineSettings | None = None,
    ) -> T:
        """
        Open a session, do the work on the engine's thread, and wait for it here.

        Args:
            watch: Says why the work is to end, where that is so.
            settings: By default those of this resource.
        """
        settings = settings or self.engine_settings()

        async def in_session() -> T:
            async with open_session(settings) as session:
                return await work(session)

        return run_on_engine_thread(
            in_session, stop=stop or StopSwitch(), notices=notices, watch=watch
        )


@lru_cache
def shared_resource(**connection: Any) -> MynthResource:
    """
    One object for equal settings: Dagster refuses two different ones under one key.

    Args:
        connection: Fields by name; a list as a tuple, since settings are compared by hash.
    """
    return MynthResource(**connection)
