"""The facts of one batch that its bodies, jobs and sensors need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import dagster as dg

from mynth_dagster.models.batch import Batch
from mynth_dagster.models.batch_settings import Checks, FollowUp
from mynth_dagster.plugin.partitions import BatchPartitions
from mynth_dagster.plugin.settings import Execution
from mynth_dagster.tables.source import PromptSource
from mynth_dagster.tables.store import IMAGES

TABLES = ("prompts", "tasks", "images", "failures")
FILES = "files"


@dataclass(frozen=True)
class BatchAssets:
    """
    The keys of a batch's assets, and the other facts that its bodies need.

    Args:
        open_window: From the key of a window to its prompts.
        checks: What the checks allow.
        origin: Where the batch is written down, for the UI's link to the code.
        upstream: The asset that the prompts come from, if they do.
        keys: Keys of tables that a translator moved.
    """

    batch: Batch
    partitions: BatchPartitions
    open_window: Callable[[str], PromptSource]
    checks: Checks
    execution: Execution
    origin: dg.CodeReferencesMetadataValue | None = None
    upstream: dg.AssetIn | None = None
    keys: Mapping[str, dg.AssetKey] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def names(self) -> tuple[str, ...]:
        """The last parts of the assets' keys: the tables, and `files` where they are kept."""
        files = () if self.batch.delivery.files is None else (FILES,)
        return (*TABLES, *files, *self.follow_up_tables)

    @property
    def follow_up_tables(self) -> tuple[str, ...]:
        """The tables of the follow-ups."""
        return tuple(one.table for one in self.batch.request.follow_ups)

    def follow_up(self, table: str) -> FollowUp | None:
        """What is asked about the images in this table; None where it is no such table."""
        return next((one for one in self.batch.request.follow_ups if one.table == table), None)

    def has_pictures(self, table: str) -> bool:
        """Whether the page of this table's asset begins with thumbnails."""
        return table == IMAGES and self.batch.delivery.previews > 0

    def key(self, table: str) -> dg.AssetKey:
        """`<batch>/<table>` or `<batch>/files`, unless a translator moved it."""
        return self.keys.get(table) or dg.AssetKey([self.batch.name, table])

    @property
    def job_names(self) -> Mapping[str, str]:
        """The names of the batch's jobs by what they do."""
        name = self.batch.name
        doings = ("submit", "collect", "all", "retry", "follow_up", "quote", "resolve", "stop")
        return {doing: f"{name}_{doing}" for doing in doings}
