"""The extras of the package: what each of them installs, and what to do where one is missing."""

from __future__ import annotations

from importlib import import_module

from mynth_dagster.errors import MissingExtraError

MODULES = {
    "simulator": ("starlette", "uvicorn", "httptools", "python_multipart", "orjson", "PIL"),
    "webhook": ("starlette", "uvicorn", "httptools"),
    "files": ("PIL",),
    "postgres": ("psycopg",),
    "s3": ("s3fs",),
}
"""The modules that the package imports of each extra."""


def require_extra(extra: str, needed_by: str) -> None:
    """
    Check that an extra is installed; call it before anything is sent.

    Args:
        extra: One of `MODULES`.
        needed_by: The setting, URL or command that needs it, for the message.

    Raises:
        MissingExtraError: One of its modules cannot be imported.
    """
    for module in MODULES[extra]:
        try:
            import_module(module)
        except ImportError as error:  # noqa: PERF203 - a handful
            raise MissingExtraError(needed_by, extra, module) from error
