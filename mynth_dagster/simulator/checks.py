"""
Checks of single request values; each refuses with the path of the field.

They know JSON types and bounds only; which field has which bound is a revision's business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from mynth_dagster.simulator.refusals import invalid


def as_object(value: object, at: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise invalid(at, "must be an object")
    return value


def as_list(value: object, at: str, *, fewest: int = 0, most: int | None = None) -> list[Any]:
    """A JSON array with a bounded number of items."""
    if not isinstance(value, list):
        raise invalid(at, "must be an array")
    if len(value) < fewest or (most is not None and len(value) > most):
        bounds = f"at least {fewest}" if most is None else f"{fewest} to {most}"
        raise invalid(at, f"must have {bounds} items")
    return value


def as_text(value: object, at: str, *, shortest: int = 0, longest: int | None = None) -> str:
    """A string with a bounded number of characters (Unicode code points)."""
    if type(value) is not str:
        raise invalid(at, "must be a string")
    n_chars = len(value)
    if n_chars < shortest or (longest is not None and n_chars > longest):
        bounds = f"at least {shortest}" if longest is None else f"{shortest} to {longest}"
        raise invalid(at, f"must have {bounds} characters")
    return value


def as_whole(value: object, at: str, *, low: int, high: int) -> int:
    """A whole number within bounds; JSON's ``2.0`` is one."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise invalid(at, "must be a whole number")
    if not low <= value <= high:
        raise invalid(at, f"must be {low} to {high}")
    return value


def as_flag(value: object, at: str) -> bool:
    """A JSON boolean."""
    if not isinstance(value, bool):
        raise invalid(at, "must be true or false")
    return value


def as_choice(value: object, at: str, allowed: Collection[str]) -> str:
    """One of some words."""
    if type(value) is not str or value not in allowed:
        raise invalid(at, f"must be one of {', '.join(allowed)}")
    return value


def as_url(value: object, at: str, *, longest: int | None = None) -> str:
    """A web address, or a data URI."""
    text = as_text(value, at, shortest=1, longest=longest)
    if not text.startswith(("http://", "https://", "data:")):
        raise invalid(at, "must be a URL")
    return text


def as_metadata(value: object, at: str, *, max_bytes: int) -> dict[str, Any]:
    """A JSON object whose compact UTF-8 form fits."""
    metadata = as_object(value, at)
    if len(orjson.dumps(metadata)) > max_bytes:
        raise invalid(at, f"must not exceed {max_bytes} bytes as compact JSON")
    return metadata


def refuse_unknown(values: Mapping[str, Any], known: Collection[str], at: str = "") -> None:
    """Refuse any key that is not known; only called when the scenario is strict about fields."""
    for key in values:
        if key not in known:
            raise invalid(f"{at}.{key}" if at else key, "is not a known field")


def as_web_url(value: object, at: str, *, longest: int | None = None) -> str:
    """An address that the API can fetch, or send to."""
    text = as_text(value, at, shortest=1, longest=longest)
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or not text.isprintable():
        raise invalid(at, "must be an http or https URL")
    return text


def as_slug(value: object, at: str, *, longest: int | None = None) -> str:
    """A name of lower-case letters, digits and dashes."""
    slug = as_text(value, at, shortest=1, longest=longest)
    if not all("0" <= letter <= "9" or "a" <= letter <= "z" or letter == "-" for letter in slug):
        raise invalid(at, "must consist of a-z, 0-9 and -")
    return slug


def as_number(value: object, at: str, *, allowed: Collection[int]) -> int:
    """One of some whole numbers."""
    if type(value) is not int or value not in allowed:
        raise invalid(at, f"must be one of {', '.join(map(str, allowed))}")
    return value
