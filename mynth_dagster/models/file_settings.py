"""Whether and how the files of images are kept."""

from __future__ import annotations

from dataclasses import dataclass

from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import (
    DOWNLOAD_CONCURRENCY,
    DOWNLOAD_CONCURRENCY_MAX,
    PICTURE_MAX_BYTES,
    PICTURE_MAX_PIXELS,
)


@dataclass(frozen=True)
class FileSettings:
    """
    What a batch does with the files of its images.

    Args:
        store: Folder or fsspec URL under which they are kept; empty: the root of the tables.
        concurrency: Downloads at once, 1 to 64; each holds about 7 MiB, 25 with an object store.
        max_bytes: A larger file is refused.
        max_pixels: A picture of more pixels is refused, by its header.
    """

    store: str = ""
    concurrency: int = DOWNLOAD_CONCURRENCY
    max_bytes: int = PICTURE_MAX_BYTES
    max_pixels: int = PICTURE_MAX_PIXELS

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= DOWNLOAD_CONCURRENCY_MAX:
            reason = f"{self.concurrency} is not between 1 and {DOWNLOAD_CONCURRENCY_MAX}"
            raise ConfigError("files.concurrency", reason)
        for name in ("max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"files.{name}", f"{getattr(self, name)} is not above 0")
