"""Uploaded input images: judged by their bytes, kept in memory, served until forgotten."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mynth_dagster.limits import RevisionLimits
from mynth_dagster.simulator import invented
from mynth_dagster.simulator.ids import compose_id
from mynth_dagster.simulator.refusals import invalid

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file, its real media type, and when it came (UTC microseconds)."""

    content: bytes
    media_type: str
    added_us: int


class UploadStore:
    """Uploads by file name, the oldest forgotten beyond a total size in bytes."""

    def __init__(self, seed: int, max_bytes: int = invented.UPLOADS_KEPT_BYTES) -> None:
        self._seed = seed
        self._max_bytes = max_bytes
        self.n_added = 0
        self._n_bytes = 0
        self._uploads: OrderedDict[str, Upload] = OrderedDict()

    def add(self, content: bytes, media_type: str, at_us: int) -> str:
        """Keep a checked file; its path below the base URL."""
        self.n_added += 1
        name = f"inputs/{compose_id('inp_', self._seed, self.n_added)}.{_EXTENSIONS[media_type]}"
        self._uploads[name] = Upload(content, media_type, at_us)
        self._n_bytes += len(content)
        while self._n_bytes > self._max_bytes:
            _, forgotten = self._uploads.popitem(last=False)
            self._n_bytes -= len(forgotten.content)
        return f"/cdn/{name}"

    def find(self, name: str) -> Upload | None:
        """The upload of a file name such as ``inputs/inp_….png``."""
        return self._uploads.get(name)


def check_upload(content: bytes, at: str, limits: RevisionLimits) -> str:
    """
    The media type that a file's first bytes show.

    Raises:
        Refusal: The file is too small, too large, or of no accepted format.
    """
    smallest, largest = limits.upload_file_min_bytes, limits.upload_file_max_bytes
    if not smallest <= len(content) <= largest:
        raise invalid(at, f"must have {smallest} to {largest} bytes")
    media_type = sniff(content)
    if media_type not in limits.upload_formats:
        raise invalid(at, "must be a JPEG, PNG or WebP image")
    return media_type


def sniff(content: bytes) -> str | None:
    """The media type of JPEG, PNG or WebP bytes; None for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None
