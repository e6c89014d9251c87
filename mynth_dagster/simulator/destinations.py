"""Users' own storage: created, replaced, deleted, and where its images are reached."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from uuid import UUID

import orjson

from mynth_dagster.clock import utc_from_us
from mynth_dagster.simulator import defaults, validation
from mynth_dagster.simulator.tasks import compose_id, draw_whole
from mynth_dagster.simulator.validation import Form

if TYPE_CHECKING:
    from mynth_dagster.simulator.scenario import Scenario
    from mynth_dagster.simulator.tasks import Task


@dataclass(frozen=True)
class Destination:
    """
    A user's own storage that is there from the start.

    Args:
        name: Slug that requests name; a bare string in JSON means this.
        path_template: Where images go, without extension.
        url_template: Public URL of an image, with ``{path}``; None: its images have no URL.
        provider: Kind of storage.
        user_id: The account that it belongs to.
    """

    short_form: ClassVar[str] = "name"

    name: str
    path_template: str = "images/{id}"
    url_template: str | None = None
    provider: Literal["s3", "r2", "bunny"] = "s3"
    user_id: str = defaults.USER_ID

    def __post_init__(self) -> None:
        if self.url_template is not None and "{path}" not in self.url_template:
            raise ValueError("url_template must contain {path}")


@dataclass(frozen=True, slots=True)
class DestinationWish:
    """What a user's own storage shall be: body of its creation and of its replacement."""

    name: str
    provider: Mapping[str, Any]
    path_template: str
    url_template: str | None


@dataclass(frozen=True, slots=True)
class OwnStorage:
    """One destination of an account; times are UTC microseconds."""

    destination_id: str
    user_id: str
    wish: DestinationWish
    created_us: int
    updated_us: int
    is_removed: bool = field(default=False)


class DestinationStore:
    """The destinations of all accounts; those removed are still known to tasks that used them."""

    def __init__(self, scenario: Scenario, at_us: int) -> None:
        self._seed = scenario.seed
        self._n_added = 0
        self._kept: dict[str, OwnStorage] = {}
        self._register(_listed(scenario), at_us)

    def adopt(self, scenario: Scenario, before: Scenario, at_us: int) -> None:
        """Register what a changed scenario has and the one before had not."""
        known = _listed(before)
        self._register((entry for entry in _listed(scenario) if entry not in known), at_us)

    def of(self, user_id: str) -> list[OwnStorage]:
        """An account's destinations in the order of their creation."""
        return [
            entry
            for entry in self._kept.values()
            if entry.user_id == user_id and not entry.is_removed
        ]

    def find(self, destination_id: str, user_id: str) -> OwnStorage | None:
        """A destination of the account by its id."""
        entry = self._kept.get(destination_id)
        is_there = entry is not None and entry.user_id == user_id and not entry.is_removed
        return entry if is_there else None

    def owns(self, user_id: str, name: str) -> bool:
        """Whether the account has a destination of this name."""
        return any(entry.wish.name == name for entry in self.of(user_id))

    def add(self, wish: DestinationWish, user_id: str, at_us: int) -> OwnStorage:
        """Keep a new destination."""
        self._n_added += 1
        destination_id = compose_id("dst_", self._seed, self._n_added)
        self._kept[destination_id] = OwnStorage(destination_id, user_id, wish, at_us, at_us)
        return self._kept[destination_id]

    def replace(self, entry: OwnStorage, wish: DestinationWish, at_us: int) -> OwnStorage:
        """Replace all but the name."""
        changed = replace(entry, wish=replace(wish, name=entry.wish.name), updated_us=at_us)
        self._kept[entry.destination_id] = changed
        return changed

    def remove(self, entry: OwnStorage) -> None:
        """Offer it no more."""
        self._kept[entry.destination_id] = replace(entry, is_removed=True)

    def url_of(self, task: Task, name: str, image_id: str, extension: str) -> str | None:
        """Public URL of a task's image there; None without one. An unknown name is a KeyError."""
        wish = self._latest(task.key.user_id, name).wish
        if wish.url_template is None:
            return None
        path = _fill(wish.path_template, task, image_id)
        return wish.url_template.replace("{path}", f"{path}.{extension}")

    def _latest(self, user_id: str, name: str) -> OwnStorage:
        for entry in reversed(self._kept.values()):
            if (entry.user_id, entry.wish.name) == (user_id, name):
                return entry
        raise KeyError(name)

    def _register(self, listed: Iterable[Destination], at_us: int) -> None:
        for entry in listed:
            if not self.owns(entry.user_id, entry.name):
                self.add(_wish_of(entry), entry.user_id, at_us)


def _listed(scenario: Scenario) -> list[Destination]:
    named = {entry.name for entry in scenario.destinations}
    only_named = (*scenario.private_destinations, *scenario.failing_destinations)
    return [
        *scenario.destinations,
        *(Destination(name) for name in dict.fromkeys(only_named) if name not in named),
    ]


def _wish_of(entry: Destination) -> DestinationWish:
    provider = {"id": entry.provider, **defaults.PROVIDERS[entry.provider]}
    return DestinationWish(entry.name, provider, entry.path_template, entry.url_template)


def _fill(template: str, task: Task, image_id: str) -> str:
    moment = utc_from_us(task.updated_us)
    toss = (draw_whole(task.seed, "uuid", image_id) << 64) | draw_whole(task.seed, image_id)
    tokens = {
        "id": image_id,
        "ulid": image_id.removeprefix("img_"),
        "YYYY": f"{moment:%Y}",
        "MM": f"{moment:%m}",
        "DD": f"{moment:%d}",
        "uuid": str(UUID(int=toss, version=4)),
        "uuidv4": str(UUID(int=toss, version=4)),
        "uuidv7": str(UUID(int=toss)),
    }
    metadata = orjson.loads(task.body).get("metadata") or {}
    tokens |= {f"meta.{key}": str(value) for key, value in metadata.items()}
    return re.sub(r"\{([^{}]+)\}", lambda found: tokens.get(found[1], found[0]), template)


# Bodies about destinations, which are the same in 2026-08 and 2026-10.


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
        name = form.take("name", validation.as_slug, "", required=True, longest=longest)
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
    path = form.take("path", validation.as_text, "", required=True, shortest=1)
    form.finish()
    return path


def _read_provider(form: Form, *, is_new: bool) -> dict[str, Any]:
    provider = form.inner("provider", required=True)
    if provider is None:
        return {}
    kinds = tuple(PROVIDER_FIELDS)
    kind = provider.take("id", validation.as_choice, "s3", required=True, allowed=kinds)
    needed, optional = PROVIDER_FIELDS[kind]
    provider.close(("id", *needed, *optional))
    for name in needed:
        provider.take(name, validation.as_text, "", required=True, shortest=1)
    provider.take("force_path_style", validation.as_flag, fallback=False)
    provider.take("endpoint", validation.as_web_url, "")
    provider.take("jurisdiction", validation.as_choice, "", allowed=JURISDICTIONS)
    if kind == "bunny":
        provider.take("region", validation.as_choice, "", allowed=BUNNY_REGIONS)
    _check_secret(form, kind, is_new=is_new)
    return dict(provider.values)


def _check_secret(form: Form, kind: str, *, is_new: bool) -> None:
    secret = form.inner("secret", required=is_new)
    if secret is None:
        return
    secret.close(SECRET_FIELDS[kind])
    for name in SECRET_FIELDS[kind]:
        secret.take(name, validation.as_text, "", required=True, shortest=1)


def _read_config(form: Form) -> tuple[str, str | None]:
    config = form.inner("config", required=True)
    if config is None:
        return "", None
    config.close(("path_template", "url_template"))
    path = config.take("path_template", validation.as_text, "", required=True, shortest=1)
    url = None
    if "url_template" in config:
        url = config.take("url_template", validation.as_text, "{path}", shortest=1)
        if "{path}" not in url:
            config.complain(("url_template",), "must contain {path}")
    return path, url
