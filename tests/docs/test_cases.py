"""Pages that are made from the code say what it says."""

from __future__ import annotations

from pathlib import Path

from mynth_dagster.crash_points import CrashPoint
from tests.faults.cases import PAGE, compose


def test_the_page_of_cases_is_up_to_date():
    """`python -m tests.faults.cases` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == compose()


def test_every_crash_point_is_in_the_guarantees():
    """By its own words, so that nobody is left to guess what a crash there leaves."""
    page = (Path(PAGE).parent / "guarantees.md").read_text(encoding="utf-8")

    assert [point.name for point in CrashPoint if f"| {point.value} |" not in page] == []
