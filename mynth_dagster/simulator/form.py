"""
Reading a request body to its end: every field that is wrong is told, not the first one only.

A form is one JSON object of the body. Each reader of it gives a usable value even where the field
is wrong, so that reading goes on; `finish` then refuses if anything was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from mynth_dagster.simulator import checks
from mynth_dagster.simulator.refusals import VALIDATION, Issue, Path, Refusal, as_sentence

Value = TypeVar("Value")

UNKNOWN = "Unknown field."
REQUIRED = "Required."


class Form:
    """
    One JSON object of a request body.

    Args:
        values: What was sent, by field.
        path: Where the object is within the body; empty for the body itself.
        issues: Where to note what is wrong; shared by all forms of one body.
    """

    def __init__(
        self, values: Mapping[str, Any], path: Path = (), issues: list[Issue] | None = None
    ) -> None:
        self.values = values
        self.path = path
        self.issues = [] if issues is None else issues

    def __contains__(self, field: str) -> bool:
        return field in self.values

    def take(
        self,
        field: str,
        check: Callable[..., Value],
        fallback: Value,
        *,
        required: bool = False,
        **bounds: Any,
    ) -> Value:
        """A field's checked value; ``fallback`` if it is absent or wrong."""
        if field not in self.values:
            if required:
                self.complain((field,), REQUIRED)
            return fallback
        return self._check((field,), self.values[field], check, fallback, **bounds)

    def inner(self, field: str, *, required: bool = False) -> Form | None:
        """The object in a field; None if it is absent or no object."""
        if field not in self.values:
            if required:
                self.complain((field,), REQUIRED)
            return None
        return self.form_at((field,), self.values[field])

    def form_at(self, steps: Path, value: object) -> Form | None:
        """A value as a form; None, and noted, if it is no object."""
        if not isinstance(value, dict):
            self.complain(steps, "must be an object")
            return None
        return Form(value, (*self.path, *steps), self.issues)

    def take_each(
        self, field: str, read: Callable[[Path, Any], Value], **bounds: int | None
    ) -> list[Value]:
        """The entries of an array, each read with its steps from here; empty if absent or wrong."""
        fallback: list[Any] = []
        entries = self.take(field, checks.as_list, fallback, required=False, **bounds)
        return [read((field, i), entry) for i, entry in enumerate(entries)]

    def check_at(
        self, steps: Path, value: object, check: Callable[..., Value], fallback: Value
    ) -> Value:
        """A checked value that is not simply a field, such as an entry of an array."""
        return self._check(steps, value, check, fallback)

    def complain(self, steps: Path, complaint: str) -> None:
        """Note what is wrong; the first complaint about a field is the one that is told."""
        path = (*self.path, *steps)
        if all(issue.path != path for issue in self.issues):
            self.issues.append(Issue(path, as_sentence(complaint)))

    def close(self, known: Collection[str]) -> None:
        """Note every field that is not known."""
        for field in self.values:
            if field not in known:
                self.complain((field,), UNKNOWN)

    def finish(self) -> None:
        """
        Refuse if anything was wrong.

        Raises:
            Refusal: With one issue for each field.
        """
        if self.issues:
            message = " ".join(map(_spell, self.issues))
            raise Refusal(VALIDATION, message, issues=self.issues)

    def _check(
        self,
        steps: Path,
        value: object,
        check: Callable[..., Value],
        fallback: Value,
        **bounds: Any,
    ) -> Value:
        try:
            return check(value, "", **bounds)
        except Refusal as refusal:
            self.complain(steps, refusal.message)
            return fallback


def _spell(issue: Issue) -> str:
    at = ".".join(map(str, issue.path))
    return f"{at}: {issue.message}" if at else issue.message
