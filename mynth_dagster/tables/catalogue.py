"""
The catalogue of models as it was last read, kept beside the tables.

Definitions load without a network: what they show of models and prices is from here.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fsspec.core import url_to_fs

from mynth_dagster.clock import utc_from_us
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.models.task import CatalogModel
from mynth_dagster.tables.parquet import FOREIGN_ERRORS, as_table_errors
from mynth_dagster.tables.store import write_atomically

NAME = "_catalogue.json"


@dataclass(frozen=True)
class Catalogue:
    """
    What Mynth listed at some moment.

    Args:
        read_at: UTC, ISO 8601.
        api_revision: Of the API that listed it.
        prices_usd: USD per image by model id; None where it is not known.
    """

    read_at: str
    api_revision: str
    prices_usd: Mapping[str, Decimal | None]


def write_catalogue(
    root: str, models: Mapping[str, CatalogModel], *, api_revision: str, now_us: int
) -> Catalogue:
    """
    Keep the catalogue in the root of the tables, in place of the one before.

    Raises:
        TableError: The root cannot be written.
    """
    prices = {
        name: None if model.base_units is None else usd_from_units(model.base_units)
        for name, model in sorted(models.items())
    }
    catalogue = Catalogue(utc_from_us(now_us).isoformat(), api_revision, prices)
    fs, folder = url_to_fs(root)
    content = {
        "read_at": catalogue.read_at,
        "api_revision": api_revision,
        "prices_usd": {name: price and str(price) for name, price in prices.items()},
    }
    path = posixpath.join(folder, NAME)
    with as_table_errors(path, "cannot be written"):
        write_atomically(fs, path, json.dumps(content, indent=1).encode())
    return catalogue


def read_catalogue(root: str) -> Catalogue | None:
    """Read the catalogue that is kept in the root; None if there is none that can be read."""
    with suppress(ArithmeticError, AttributeError, *FOREIGN_ERRORS):
        fs, folder = url_to_fs(root)
        found: Any = json.loads(fs.cat_file(posixpath.join(folder, NAME)))
        prices = {name: price and Decimal(price) for name, price in found["prices_usd"].items()}
        return Catalogue(found["read_at"], found["api_revision"], prices)
    return None
