"""
Turn tables of prompts into tables of images with Mynth, in Dagster, without paying twice.

Names are loaded on first use: importing this package does not import dagster.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mynth_dagster.errors import MynthError as MynthError
    from mynth_dagster.models.batch import Batch as Batch
    from mynth_dagster.models.batch import FileSettings as FileSettings
    from mynth_dagster.models.batch import RequestDefaults as RequestDefaults
    from mynth_dagster.models.request import Rating as Rating
    from mynth_dagster.models.request import RatingLevel as RatingLevel
    from mynth_dagster.plugin.assets import eager_any_date as eager_any_date
    from mynth_dagster.plugin.batch import build_image_batch as build_image_batch
    from mynth_dagster.plugin.checks import CheckLimits as CheckLimits
    from mynth_dagster.plugin.component import MynthImagesComponent as MynthImagesComponent
    from mynth_dagster.plugin.follow_ups import FollowUp as FollowUp
    from mynth_dagster.plugin.io_manager import MynthTables as MynthTables
    from mynth_dagster.plugin.resource import MynthResource as MynthResource

_OWNERS = {
    "Batch": "mynth_dagster.models.batch",
    "CheckLimits": "mynth_dagster.plugin.checks",
    "FileSettings": "mynth_dagster.models.batch",
    "FollowUp": "mynth_dagster.plugin.follow_ups",
    "MynthError": "mynth_dagster.errors",
    "MynthImagesComponent": "mynth_dagster.plugin.component",
    "MynthResource": "mynth_dagster.plugin.resource",
    "MynthTables": "mynth_dagster.plugin.io_manager",
    "Rating": "mynth_dagster.models.request",
    "RatingLevel": "mynth_dagster.models.request",
    "RequestDefaults": "mynth_dagster.models.batch",
    "build_image_batch": "mynth_dagster.plugin.batch",
    "eager_any_date": "mynth_dagster.plugin.assets",
}

__all__ = [
    "Batch",
    "CheckLimits",
    "FileSettings",
    "FollowUp",
    "MynthError",
    "MynthImagesComponent",
    "MynthResource",
    "MynthTables",
    "Rating",
    "RatingLevel",
    "RequestDefaults",
    "build_image_batch",
    "eager_any_date",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mynth-dagster")
    if name not in _OWNERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_OWNERS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
