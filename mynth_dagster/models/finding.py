"""What a look at the installation found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How it is: a `note` is worth knowing, a `problem` stops something from working."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not well."""

    subject: str
    level: Level
    said: str
    next_step: str | None = None


def ok(subject: str, said: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, said)


def note(subject: str, said: str, next_step: str) -> Finding:
    """Worth knowing."""
    return Finding(subject, Level.NOTE, said, next_step)


def problem(subject: str, said: str, next_step: str) -> Finding:
    """Something does not work."""
    return Finding(subject, Level.PROBLEM, said, next_step)
