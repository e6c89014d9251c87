"""Prompts that another asset hands over: frames and Arrow, for one window, several, or all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from mynth_dagster.errors import TableError
from mynth_dagster.plugin.batch_assets import BatchAssets
from mynth_dagster.tables.frames import as_arrow
from mynth_dagster.tables.source import PromptSource, source_from_arrow

INPUT = "upstream"
"""The name of the operation's input."""


def with_upstream(assets: BatchAssets, loaded: Any) -> BatchAssets:
    """
    The batch, with its windows opened from what an IO manager loaded.

    A mapping holds a value for each partition of the upstream asset; anything else is for every
    window of the run.
    """
    name = _name_of(assets)

    def open_window(window: str) -> PromptSource:
        value = _value_for(loaded, window, name)
        return source_from_arrow(as_arrow(value, name), f"{name} {window}".strip())

    return replace(assets, open_window=open_window)


def _name_of(assets: BatchAssets) -> str:
    assert assets.upstream is not None
    return dg.AssetKey.from_coercible(assets.upstream.key or []).to_user_string()


def _value_for(loaded: Any, window: str, name: str) -> Any:
    if not isinstance(loaded, Mapping):
        return loaded
    if window not in loaded:
        found = ", ".join(sorted(map(str, loaded))[:5]) or "none"
        raise TableError(name, f"there is no partition {window!r}; loaded were {found}")
    return loaded[window]
