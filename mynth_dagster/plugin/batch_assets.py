"""The facts of one batch that its bodies, jobs and sensors need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import dagster as dg

from mynth_dagster.models.batch import Batch
from mynth_dagster.plugin.checks import DEFAULT_LIMITS, CheckLimits
from mynth_dagster.plugin.follow_ups import FollowUp, tables_of
from mynth_dagster.plugin.partitions import BatchPartitions
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
        n_previews: Thumbnails made of each partition while collecting.
        freshness: How old `images` may be.
        pools: Concurrency pools by phase: `prepare`, `submit`, `collect`, `download`.
        origin: Where the batch is written down, for the UI's link to the code.
        follow_ups: What is asked of Mynth about the images.
        auto_resubmit: Whether the sensor may ask for runs that send rows again.
        keys: Keys of tables that an override moved.
    """

    batch: Batch
    partitions: BatchPartitions
    open_window: Callable[[str], PromptSource]
    checks: CheckLimits = DEFAULT_LIMITS
    n_previews: int = 0
    freshness: dg.FreshnessPolicy | None = None
    pools: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    origin: dg.CodeReferencesMetadataValue | None = None
    upstream: dg.AssetIn | None = None
    follow_ups: tuple[FollowUp, ...] = ()
    auto_resubmit: bool = True
    keys: Mapping[str, dg.AssetKey] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def names(self) -> tuple[str, ...]:
        """The last parts of the assets' keys: the tables, and `files` where they are kept."""
        files = () if self.batch.files is None else (FILES,)
        return (*TABLES, *files, *tables_of(self.follow_ups))

    def follow_up(self, table: str) -> FollowUp | None:
        """What is asked about the images in this table; None where it is no such table."""
        return next((asked for asked in self.follow_ups if asked.table == table), None)

    def has_pictures(self, table: str) -> bool:
        """Whether the page of this table's asset begins with thumbnails."""
        return table == IMAGES and self.n_previews > 0

    def key(self, table: str) -> dg.AssetKey:
        """`<batch>/<table>` or `<batch>/files`, unless an override moved it."""
        return self.keys.get(table) or dg.AssetKey([self.batch.name, table])

    @property
    def job_names(self) -> Mapping[str, str]:
        """The names of the batch's jobs by what they do."""
        name = self.batch.name
        doings = ("submit", "collect", "all", "retry", "follow_up", "quote", "resolve", "stop")
        return {doing: f"{name}_{doing}" for doing in doings}
