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
    from mynth_dagster.models.batch_settings import Checks as Checks
    from mynth_dagster.models.batch_settings import Delivery as Delivery
    from mynth_dagster.models.batch_settings import Files as Files
    from mynth_dagster.models.batch_settings import FollowUp as FollowUp
    from mynth_dagster.models.batch_settings import Freshness as Freshness
    from mynth_dagster.models.batch_settings import ImageRequest as ImageRequest
    from mynth_dagster.models.batch_settings import Prompts as Prompts
    from mynth_dagster.models.batch_settings import Spending as Spending
    from mynth_dagster.models.request import Rating as Rating
    from mynth_dagster.models.request import RatingLevel as RatingLevel
    from mynth_dagster.plugin.component import MynthImagesComponent as MynthImagesComponent
    from mynth_dagster.plugin.definitions import MynthAssets as MynthAssets
    from mynth_dagster.plugin.definitions import build_image_batch as build_image_batch
    from mynth_dagster.plugin.definitions import mynth_assets as mynth_assets
    from mynth_dagster.plugin.io_manager import MynthTables as MynthTables
    from mynth_dagster.plugin.resource import BatchQuote as BatchQuote
    from mynth_dagster.plugin.resource import BatchResults as BatchResults
    from mynth_dagster.plugin.resource import BatchStatus as BatchStatus
    from mynth_dagster.plugin.resource import MynthResource as MynthResource
    from mynth_dagster.plugin.settings import Execution as Execution
    from mynth_dagster.plugin.translator import MynthTableProps as MynthTableProps
    from mynth_dagster.plugin.translator import MynthTranslator as MynthTranslator
    from mynth_dagster.plugin.translator import eager_any_date as eager_any_date

_OWNERS = {
    "Batch": "mynth_dagster.models.batch",
    "BatchQuote": "mynth_dagster.plugin.resource",
    "BatchResults": "mynth_dagster.plugin.resource",
    "BatchStatus": "mynth_dagster.plugin.resource",
    "Checks": "mynth_dagster.models.batch_settings",
    "Delivery": "mynth_dagster.models.batch_settings",
    "Execution": "mynth_dagster.plugin.settings",
    "Files": "mynth_dagster.models.batch_settings",
    "FollowUp": "mynth_dagster.models.batch_settings",
    "Freshness": "mynth_dagster.models.batch_settings",
    "ImageRequest": "mynth_dagster.models.batch_settings",
    "MynthAssets": "mynth_dagster.plugin.definitions",
    "MynthError": "mynth_dagster.errors",
    "MynthImagesComponent": "mynth_dagster.plugin.component",
    "MynthResource": "mynth_dagster.plugin.resource",
    "MynthTableProps": "mynth_dagster.plugin.translator",
    "MynthTables": "mynth_dagster.plugin.io_manager",
    "MynthTranslator": "mynth_dagster.plugin.translator",
    "Prompts": "mynth_dagster.models.batch_settings",
    "Rating": "mynth_dagster.models.request",
    "RatingLevel": "mynth_dagster.models.request",
    "Spending": "mynth_dagster.models.batch_settings",
    "build_image_batch": "mynth_dagster.plugin.definitions",
    "eager_any_date": "mynth_dagster.plugin.translator",
    "mynth_assets": "mynth_dagster.plugin.definitions",
}

__all__ = [
    "Batch",
    "BatchQuote",
    "BatchResults",
    "BatchStatus",
    "Checks",
    "Delivery",
    "Execution",
    "Files",
    "FollowUp",
    "Freshness",
    "ImageRequest",
    "MynthAssets",
    "MynthError",
    "MynthImagesComponent",
    "MynthResource",
    "MynthTableProps",
    "MynthTables",
    "MynthTranslator",
    "Prompts",
    "Rating",
    "RatingLevel",
    "Spending",
    "build_image_batch",
    "eager_any_date",
    "mynth_assets",
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
