"""Users' own storage: created, replaced, deleted, and where its images are reached."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field

from mynth_dagster.clock import utc_from_us
from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.rng import make_id, random_whole
from mynth_dagster.simulator.scenario import Destination, Scenario
from mynth_dagster.simulator.tasks import SimulatedTask
from mynth_dagster.simulator.validation import Body, Slug, Text, WebUrl, read_body


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    """What a user's own storage shall be: body of its creation and of its replacement."""

    name: str
    provider: Mapping[str, Any]
    path_template: str
    url_template: str | None


@dataclass(frozen=True, slots=True)
class StoredDestination:
    """One destination of an account; times are UTC microseconds."""

    destination_id: str
    user_id: str
    spec: DestinationSpec
    created_us: int
    updated_us: int
    is_removed: bool = False


class DestinationStore:
    """The destinations of all accounts; those removed are still known to tasks that used them."""

    def __init__(self, scenario: Scenario, at_us: int) -> None:
        self._seed = scenario.seed
        self._entries: dict[str, StoredDestination] = {}
        self._register(_listed_in(scenario), at_us)

    def change(self, scenario: Scenario, previous: Scenario, at_us: int) -> None:
        """Register what a changed scenario has and the one before had not."""
        known = _listed_in(previous)
        self._register((entry for entry in _listed_in(scenario) if entry not in known), at_us)

    def list_of(self, user_id: str) -> list[StoredDestination]:
        """An account's destinations in the order of their creation."""
        return [
            entry
            for entry in self._entries.values()
            if entry.user_id == user_id and not entry.is_removed
        ]

    def find(self, destination_id: str, user_id: str) -> StoredDestination | None:
        """A destination of the account by its id."""
        entries = self.list_of(user_id)
        return next((entry for entry in entries if entry.destination_id == destination_id), None)

    def has(self, user_id: str, name: str) -> bool:
        """Whether the account has a destination of this name."""
        return any(entry.spec.name == name for entry in self.list_of(user_id))

    def add(self, spec: DestinationSpec, user_id: str, at_us: int) -> StoredDestination:
        """Keep a new destination."""
        destination_id = make_id("dst_", self._seed, len(self._entries) + 1)
        entry = StoredDestination(destination_id, user_id, spec, at_us, at_us)
        self._entries[destination_id] = entry
        return entry

    def replace(
        self, entry: StoredDestination, spec: DestinationSpec, at_us: int
    ) -> StoredDestination:
        """Replace all but the name."""
        changed = replace(entry, spec=replace(spec, name=entry.spec.name), updated_us=at_us)
        self._entries[entry.destination_id] = changed
        return changed

    def remove(self, entry: StoredDestination) -> None:
        """Offer it no more."""
        self._entries[entry.destination_id] = replace(entry, is_removed=True)

    def url_of(self, task: SimulatedTask, name: str, image_id: str, extension: str) -> str | None:
        """
        Public URL of a task's image there; None if the destination has no URLs.

        Raises:
            KeyError: The account never had a destination of this name.
        """
        for entry in reversed(self._entries.values()):
            if (entry.user_id, entry.spec.name) == (task.key.user_id, name):
                break
        else:
            raise KeyError(name)
        if entry.spec.url_template is None:
            return None
        path = _fill(entry.spec.path_template, task, image_id)
        return entry.spec.url_template.replace("{path}", f"{path}.{extension}")

    def _register(self, listed: Iterable[Destination], at_us: int) -> None:
        for entry in listed:
            if not self.has(entry.user_id, entry.name):
                provider = {"id": entry.provider, **defaults.PROVIDERS[entry.provider]}
                templates = entry.path_template, entry.url_template
                self.add(DestinationSpec(entry.name, provider, *templates), entry.user_id, at_us)


def _listed_in(scenario: Scenario) -> list[Destination]:
    named = {entry.name for entry in scenario.destinations}
    only_named = (*scenario.private_destinations, *scenario.failing_destinations)
    return [
        *scenario.destinations,
        *(Destination(name) for name in dict.fromkeys(only_named) if name not in named),
    ]


def _fill(template: str, task: SimulatedTask, image_id: str) -> str:
    day = utc_from_us(task.updated_us)
    number = (random_whole(task.seed, "uuid", image_id) << 64) | random_whole(task.seed, image_id)
    tokens = {
        "id": image_id,
        "ulid": image_id.removeprefix("img_"),
        "YYYY": f"{day:%Y}",
        "MM": f"{day:%m}",
        "DD": f"{day:%d}",
        "uuid": str(UUID(int=number, version=4)),
        "uuidv4": str(UUID(int=number, version=4)),
        "uuidv7": str(UUID(int=number)),
    }
    metadata = orjson.loads(task.body).get("metadata") or {}
    tokens |= {f"meta.{key}": str(value) for key, value in metadata.items()}
    return re.sub(r"\{([^{}]+)\}", lambda match: tokens.get(match[1], match[0]), template)


# Bodies about destinations, which are the same in 2026-08 and 2026-10.


class _S3(Body):
    id: Literal["s3"]
    bucket: Text
    region: Text
    endpoint: WebUrl = ""
    force_path_style: bool = False


class _R2(Body):
    id: Literal["r2"]
    account_id: Text
    bucket: Text
    jurisdiction: Literal["default", "eu", "fedramp"] = "default"


class _Bunny(Body):
    id: Literal["bunny"]
    storage_zone: Text
    region: Literal["de", "uk", "ny", "la", "sg", "se", "br", "jh", "syd"] = "de"


class _AccessKey(Body):
    access_key_id: Text
    secret_access_key: Text


class _Password(Body):
    password: Text


def _check_url_template(template: str) -> str:
    if "{path}" not in template:
        raise ValueError("must contain {path}")
    return template


class _Config(Body):
    path_template: Text
    url_template: Annotated[Text, AfterValidator(_check_url_template)] = ""


Provider = TypeVar("Provider", bound=Body)
Secret = TypeVar("Secret", bound=Body)


class _Creation(Body, Generic[Provider, Secret]):
    name: Slug = Field(max_length=64)
    provider: Provider
    config: _Config
    secret: Secret


class _Change(Body, Generic[Provider, Secret]):
    provider: Provider
    config: _Config
    secret: Secret | None = None


_BODIES: Mapping[str, tuple[type[_Creation[Any, Any]], type[_Change[Any, Any]]]] = {
    "s3": (_Creation[_S3, _AccessKey], _Change[_S3, _AccessKey]),
    "r2": (_Creation[_R2, _AccessKey], _Change[_R2, _AccessKey]),
    "bunny": (_Creation[_Bunny, _Password], _Change[_Bunny, _Password]),
}


class DestinationTest(Body):
    """The body of ``POST /destinations/:id/test``."""

    path: Text


def read_destination(values: Mapping[str, Any], *, is_new: bool) -> DestinationSpec:
    """
    The destination in a body of its creation (which has a name and a secret) or replacement.

    Raises:
        Refusal: With an issue for each field that is wrong.
    """
    provider = values.get("provider")
    kind = provider.get("id") if isinstance(provider, dict) else None
    creation, change = _BODIES[kind if isinstance(kind, str) and kind in _BODIES else "s3"]
    model: type[_Creation[Any, Any] | _Change[Any, Any]] = creation if is_new else change
    body = read_body(model, values)
    return DestinationSpec(
        name=body.name if isinstance(body, _Creation) else "",
        provider=dict(values["provider"]),
        path_template=body.config.path_template,
        url_template=body.config.url_template or None,
    )
