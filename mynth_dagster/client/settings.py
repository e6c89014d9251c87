"""Connection settings: how to reach Mynth."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from mynth_dagster import limits
from mynth_dagster.errors import ConfigError

DEFAULT_BASE_URL = "https://api.mynth.io"


@dataclass(frozen=True)
class ClientSettings:
    """
    Connection settings; the key is never part of a repr.

    Args:
        base_url: Where the API is; one trailing slash is ignored.
        api_key: `mak_…`; None only for a client that uses public access tokens alone.
        concurrency: Requests in flight at most, and sockets plus one.
        connect_timeout_s: To reach the server and shake hands.
        request_timeout_s: In all, from the first attempt to connect to the last byte read.
        read_timeout_s: The same of a free read; None: as any request.
        read_attempts: How often a free read is tried before its error is raised.
        image_hosts: Hosts that images are fetched from, besides the API's own.
        any_public_host: Images are also fetched from any host with a public address.
    """

    base_url: str = DEFAULT_BASE_URL
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = limits.CONCURRENCY_DEFAULT
    connect_timeout_s: float = limits.CONNECT_TIMEOUT_S
    request_timeout_s: float = limits.REQUEST_TIMEOUT_S
    read_timeout_s: float | None = None
    read_attempts: int = 4
    image_hosts: tuple[str, ...] = limits.IMAGE_HOSTS
    any_public_host: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise ConfigError("base_url", "an http or https URL is needed, such as https://api.…")
        if parts.username or parts.password or parts.query:
            raise ConfigError("base_url", "no credentials and no query belong into it")
        if not 1 <= self.concurrency <= 2000:
            raise ConfigError("concurrency", f"{self.concurrency} is not between 1 and 2000")
        if self.api_key is not None and not _is_header_text(self.api_key):
            raise ConfigError("api_key", "it is empty or holds characters that no key has")

    @property
    def normalised_base_url(self) -> str:
        """Scheme and host in lower case, default port and trailing slash left out."""
        parts = urlsplit(self.base_url)
        default_port = {"http": 80, "https": 443}[parts.scheme]
        port = f":{parts.port}" if parts.port not in (None, default_port) else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _is_header_text(key: str) -> bool:
    return bool(key) and key.isascii() and all(" " < char < "\x7f" for char in key)
