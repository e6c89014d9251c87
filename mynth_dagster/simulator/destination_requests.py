"""Bodies about destinations, which are the same in 2026-08 and 2026-10."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mynth_dagster.simulator import checks
from mynth_dagster.simulator.destinations import DestinationWish
from mynth_dagster.simulator.form import Form

NAME_MAX_CHARS = 64
PROVIDER_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "s3": (("bucket", "region"), ("endpoint", "force_path_style")),
    "r2": (("account_id", "bucket"), ("jurisdiction",)),
    "bunny": (("storage_zone",), ("region",)),
}
"""Required and optional fields of each kind of storage."""
SECRET_FIELDS: Mapping[str, tuple[str, ...]] = {
    "s3": ("access_key_id", "secret_access_key"),
    "r2": ("access_key_id", "secret_access_key"),
    "bunny": ("password",),
}
BUNNY_REGIONS = ("de", "uk", "ny", "la", "sg", "se", "br", "jh", "syd")
JURISDICTIONS = ("default", "eu", "fedramp")


def read_destination(body: Mapping[str, Any], *, is_new: bool) -> DestinationWish:
    """
    The destination in a body of its creation (which has a name and a secret) or replacement.

    Raises:
        Refusal: With an issue for each field that is wrong.
    """
    form = Form(body)
    form.close(
        ("name", "provider", "config", "secret") if is_new else ("provider", "config", "secret")
    )
    name = ""
    if is_new:
        longest = NAME_MAX_CHARS
        name = form.take("name", checks.as_slug, "", required=True, longest=longest)
    provider = _read_provider(form, is_new=is_new)
    path, url = _read_config(form)
    form.finish()
    return DestinationWish(name, provider, path, url)


def read_test(body: Mapping[str, Any]) -> str:
    """
    The path that ``POST /destinations/:id/test`` writes to.

    Raises:
        Refusal: As in `read_destination`.
    """
    form = Form(body)
    form.close(("path",))
    path = form.take("path", checks.as_text, "", required=True, shortest=1)
    form.finish()
    return path


def _read_provider(form: Form, *, is_new: bool) -> dict[str, Any]:
    provider = form.inner("provider", required=True)
    if provider is None:
        return {}
    kinds = tuple(PROVIDER_FIELDS)
    kind = provider.take("id", checks.as_choice, "s3", required=True, allowed=kinds)
    needed, optional = PROVIDER_FIELDS[kind]
    provider.close(("id", *needed, *optional))
    for field in needed:
        provider.take(field, checks.as_text, "", required=True, shortest=1)
    provider.take("force_path_style", checks.as_flag, fallback=False)
    provider.take("endpoint", checks.as_web_url, "")
    provider.take("jurisdiction", checks.as_choice, "", allowed=JURISDICTIONS)
    if kind == "bunny":
        provider.take("region", checks.as_choice, "", allowed=BUNNY_REGIONS)
    _check_secret(form, kind, is_new=is_new)
    return dict(provider.values)


def _check_secret(form: Form, kind: str, *, is_new: bool) -> None:
    secret = form.inner("secret", required=is_new)
    if secret is None:
        return
    secret.close(SECRET_FIELDS[kind])
    for field in SECRET_FIELDS[kind]:
        secret.take(field, checks.as_text, "", required=True, shortest=1)


def _read_config(form: Form) -> tuple[str, str | None]:
    config = form.inner("config", required=True)
    if config is None:
        return "", None
    config.close(("path_template", "url_template"))
    path = config.take("path_template", checks.as_text, "", required=True, shortest=1)
    url = None
    if "url_template" in config:
        url = config.take("url_template", checks.as_text, "{path}", shortest=1)
        if "{path}" not in url:
            config.complain(("url_template",), "must contain {path}")
    return path, url
