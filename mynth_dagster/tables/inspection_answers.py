"""
What Mynth says of an image, shaped to the columns that hold it. Pure.

An answer is paid for: whatever is odd in it is left out, and never stands in the way of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from mynth_dagster.models.request import InspectionKind

_FINDING = ("finding", "category", "severity", "where", "confidence")
_STRENGTH = ("strength", "confidence")


def _entries(names: tuple[str, ...]) -> pa.DataType:
    return pa.list_(pa.struct([(name, pa.string()) for name in names]))


ANSWERS: dict[InspectionKind, list[tuple[str, pa.DataType]]] = {
    InspectionKind.RATE: [("level", pa.string())],
    InspectionKind.ALT: [("alt", pa.string())],
    InspectionKind.REVIEW: [
        ("score", pa.float64()),
        ("summary", pa.string()),
        ("findings", _entries(_FINDING)),
        ("strengths", _entries(_STRENGTH)),
    ],
}
"""The columns of the answer, by what was asked; the first is indispensable."""


def shaped_answer(kind: InspectionKind, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """The cells of an answer; None where it does not tell what was asked for."""
    answer = {name: _READERS[name](told.get(name)) for name, _ in ANSWERS[kind]}
    indispensable, _ = ANSWERS[kind][0]
    return None if answer[indispensable] is None else answer


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if isinstance(value, (list, Mapping)) or value is None else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _reader(names: tuple[str, ...]) -> Callable[[Any], list[dict[str, str | None]] | None]:
    def read(value: Any) -> list[dict[str, str | None]] | None:
        if not isinstance(value, list):
            return None
        entries = (v if isinstance(v, Mapping) else {names[0]: v} for v in value)
        return [{name: _text(entry.get(name)) for name in names} for entry in entries]

    return read


_READERS: dict[str, Callable[[Any], Any]] = {
    "level": _text,
    "alt": _text,
    "score": _number,
    "summary": _text,
    "findings": _reader(_FINDING),
    "strengths": _reader(_STRENGTH),
}
