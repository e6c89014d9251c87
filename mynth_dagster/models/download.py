"""What became of an image's file: kept, or why not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mynth_dagster.models.failure import Failure
from mynth_dagster.models.failure_words import MoneyOutcome, Stage, shown
from mynth_dagster.models.intent import Intent

_AGAIN = "Materialize files again; downloading is free."
_PAID_ONCE = "It was paid for; for another image, submit again with force: true and its prompt id."
_NEXT_BY_CODE = {
    "url_expired": f"Mynth serves it no longer. {_PAID_ONCE}",
    "no_url": "It lies in your own storage, which tells no URL: fetch it from there.",
    "unsafe_url": "If you trust its host: add it to image_hosts, then materialize files again.",
    "too_many_redirects": "If you trust its host: ask there for a direct URL.",
    "wrong_type": f"Look at its URL: it serves no PNG, JPEG or WebP. {_PAID_ONCE}",
    "too_large": "Raise files.max_bytes, then materialize files again.",
    "too_many_pixels": "Raise files.max_pixels, then materialize files again.",
}
_FINAL_CODES = frozenset({"url_expired", "no_url", "wrong_type"})


class DownloadState(str, Enum):
    """`failed` is tried again by whoever materializes the files; `kept` never changes."""

    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True)
class KeptFile:
    """
    An image in the store, as it was verified.

    Args:
        uri: Where it is, as its readers spell it; a plain path in a local store.
        sha256: In hex, of the bytes as they came.
        format: `png`, `jpg` or `webp`, by its first bytes.
        width: Pixels, by its own header.
        height: Pixels, by its own header.
    """

    uri: str
    n_bytes: int
    sha256: str
    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Download:
    """
    What became of one image of an intent; exactly one of `file` and `code` is there.

    Args:
        image_index: 0-based within the request.
        code: Why there is no file, in lower snake case.
    """

    intent_id: str
    image_index: int
    at_us: int
    file: KeptFile | None = None
    code: str | None = None
    message: str | None = None
    http_status: int | None = None

    @property
    def state(self) -> DownloadState:
        return DownloadState.KEPT if self.file is not None else DownloadState.FAILED


def failure_of_download(intent: Intent, download: Download) -> Failure:
    """The failure row of an image that was paid for, delivered, and is not in the store."""
    code = download.code or "download_failed"
    return Failure(
        stage=Stage.DOWNLOAD,
        status=intent.state.value,
        error_code=code,
        error_message=shown(download.message or code),
        money=MoneyOutcome.CHARGED if intent.charged_units else MoneyOutcome.UNKNOWN,
        next_step=_NEXT_BY_CODE.get(code, _AGAIN),
        retryable=code not in _FINAL_CODES,
        attempts=intent.attempt,
        image_index=download.image_index,
        http_status=download.http_status,
        task_id=intent.task_id,
        intent_id=intent.intent_id,
    )
