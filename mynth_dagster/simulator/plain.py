"""
Frozen settings to and from plain JSON values, strictly.

A scenario is often typed by hand, so a misspelt key is refused with its nearest neighbour
instead of being ignored.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message names the key and what it may be."""


def build(cls: type[Settings], value: object, at: str = "") -> Settings:
    """
    An instance of a settings dataclass from plain values.

    A class with a ``short_form`` may be written as the single value that it stands for.

    Raises:
        ScenarioError: A key is unknown, or a value is of the wrong kind or out of range.
    """
    if isinstance(value, cls):
        return value
    short_form = getattr(cls, "short_form", None)
    if short_form is not None and not isinstance(value, Mapping):
        value = {short_form: value}
    if not isinstance(value, Mapping):
        raise ScenarioError(f"{at or cls.__name__} must be an object, not {value!r}")
    hints = _hints(cls)
    for key in value:
        if key not in hints:
            raise ScenarioError(_unknown(str(key), tuple(hints), at))
    read = {key: _read(hints[key], given, _join(at, key)) for key, given in value.items()}
    try:
        return cls(**read)
    except (TypeError, ValueError) as exc:
        raise exc if isinstance(exc, ScenarioError) else ScenarioError(_join(at, str(exc))) from exc


def dump(value: object) -> Any:
    """Plain JSON values of settings; the inverse of `build`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {spec.name: dump(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, tuple | list):
        return [dump(item) for item in value]
    if isinstance(value, Mapping):
        return {key: dump(item) for key, item in value.items()}
    return value


def _read(hint: Any, value: object, at: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _read(rest[0], value, at)
    if origin is Literal:
        return _one_of(arguments, value, at)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ScenarioError(f"{at} must be a list, not {value!r}")
        return tuple(_read(arguments[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is not None:
        if not isinstance(value, Mapping):
            raise ScenarioError(f"{at} must be an object, not {value!r}")
        return {key: _read(arguments[1], item, f"{at}.{key}") for key, item in value.items()}
    if is_dataclass(hint):
        return build(hint, value, at)  # type: ignore[arg-type]
    return _scalar(hint, value, at)


def _one_of(allowed: tuple[Any, ...], value: object, at: str) -> object:
    if value not in allowed:
        raise ScenarioError(f"{at} is {value!r}; it may be {', '.join(map(repr, allowed))}")
    return value


def _scalar(hint: type, value: object, at: str) -> object:
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ScenarioError(f"{at} must be of type {hint.__name__}, not {value!r}")
    return value


def _unknown(key: str, known: tuple[str, ...], at: str) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown key {_join(at, key)!r}; did you mean {near[0]!r}?"


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {spec.name: hints[spec.name] for spec in fields(cls)}
