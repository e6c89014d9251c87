"""A file between its URL and its name: hashed as it comes, looked at when it is whole."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from mynth_dagster.errors import DownloadError
from mynth_dagster.models.failure import KeptFile
from mynth_dagster.tables.picture_facts import look_at_picture


class PassingFile:
    """A file on its way; on the local disk and under no name that anybody looks for."""

    def __init__(self, file: BinaryIO, path: str | None = None) -> None:
        self.file = file
        self.path = path
        self._digest = hashlib.sha256()
        self._n_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        self.file.write(chunk)
        self._digest.update(chunk)
        self._n_bytes += len(chunk)

    def restart(self) -> None:
        """Forget what was written."""
        self.file.seek(0)
        self.file.truncate()
        self._digest, self._n_bytes = hashlib.sha256(), 0

    def verified(self, uri: str, pixels_max: int) -> KeptFile:
        """
        What it is, to be known as `uri` with its format at the end.

        Raises:
            DownloadError: It is no picture that may be kept.
        """
        self.file.flush()
        facts = look_at_picture(self.file)
        if facts.n_pixels > pixels_max:
            said = f"{facts.width} by {facts.height} pixels are more than {pixels_max}"
            raise DownloadError("too_many_pixels", said)
        return KeptFile(
            uri=f"{uri}.{facts.format}",
            n_bytes=self._n_bytes,
            sha256=self._digest.hexdigest(),
            format=facts.format,
            width=facts.width,
            height=facts.height,
        )
