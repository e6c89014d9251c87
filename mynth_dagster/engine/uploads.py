"""
Uploads of input files: each once, in requests of ten, as long as its URL is valid.

Files were judged when the prompts were prepared. A file that is gone or has changed since then
withholds its own row and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mynth_dagster.chunks import chunks
from mynth_dagster.clock import US_PER_S
from mynth_dagster.crash_points import CrashPoint, reach
from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError, InvalidRequestError, UnauthorizedError
from mynth_dagster.ledger.files import Upload
from mynth_dagster.limits import UPLOADS_AT_ONCE
from mynth_dagster.models.request import InputImage, PaidRequest, RowRequest
from mynth_dagster.tables.image_header import media_type_of
from mynth_dagster.tables.inputs import BadInput, read_input


@dataclass
class UploadCounts:
    """What was uploaded so far."""

    n_files: int = 0
    n_requests: int = 0


class InputUploads:
    """
    Makes the files of requests readable for Mynth.

    Args:
        account: The ledger's number of the account that uploads.
    """

    def __init__(self, session: Session, account: int, counts: UploadCounts) -> None:
        self._session, self._account, self._counts = session, account, counts
        self._slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._urls: dict[str, str] = {}
        self._bad: dict[str, BadInput] = {}

    async def make_ready(self, inputs: Iterable[InputImage]) -> None:
        """
        Upload the files among these inputs that are not at Mynth; earlier inputs are forgotten.

        Raises:
            UnauthorizedError: The key is refused.
        """
        files = {image.content_hash: image.url for image in inputs if image.content_hash}
        self._urls, self._bad = {}, {}
        if not files:
            return
        session = self._session
        lifetime_us = round(session.settings.upload_lifetime_s * US_PER_S)
        self._urls = await asyncio.to_thread(
            session.ledger.read.uploads,
            self._account,
            list(files),
            since_us=session.clock.now_us() - lifetime_us,
        )
        missing = [(name, path) for name, path in files.items() if name not in self._urls]
        size = session.client.profile.LIMITS.upload_files_max
        work = [self._upload_group(group) for group in chunks(missing, size)]
        for failed in await asyncio.gather(*work, return_exceptions=True):
            if failed is not None:
                raise failed

    def resolve(self, request: PaidRequest) -> PaidRequest | BadInput:
        """Return the request with the URLs of its files, or why it has to wait."""
        if not any(image.content_hash for image in request.inputs):
            return request
        assert isinstance(request, RowRequest)
        for image in request.inputs:
            if image.content_hash in self._bad:
                return self._bad[image.content_hash]
        inputs = (
            replace(image, url=self._urls[image.content_hash]) if image.content_hash else image
            for image in request.inputs
        )
        return replace(request, inputs=tuple(inputs))

    async def _upload_group(self, group: Sequence[tuple[str, str]]) -> None:
        async with self._slots:
            limits = self._session.client.profile.LIMITS
            reads = (asyncio.to_thread(read_input, path, name, limits) for name, path in group)
            contents = await asyncio.gather(*reads)
            found = [(name, content) for (name, _), content in zip(group, contents, strict=True)]
            self._bad |= {name: bad for name, bad in found if isinstance(bad, BadInput)}
            good = [(name, content) for name, content in found if isinstance(content, bytes)]
            if good:
                await self._upload(good)

    async def _upload(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Upload some files; if they are refused together, each by itself."""
        session = self._session
        try:
            urls = await session.client.upload([(c, str(media_type_of(c))) for _, c in files])
        except UnauthorizedError:
            raise
        except InvalidRequestError as error:
            if len(files) == 1:
                self._bad[files[0][0]] = BadInput("input_refused", error.message or error.reason)
                return
            for file in files:
                await self._upload([file])
            return
        except ApiError as error:
            bad = BadInput("upload_failed", error.reason)
            self._bad |= dict.fromkeys((name for name, _ in files), bad)
            return
        reach(CrashPoint.UPLOADED)
        now_us = session.clock.now_us()
        made = [Upload(name, url, now_us) for (name, _), url in zip(files, urls, strict=True)]
        await session.ledger.save_uploads(self._account, made)
        self._urls |= {upload.content_hash: upload.url for upload in made}
        self._counts.n_files += len(files)
        self._counts.n_requests += 1
