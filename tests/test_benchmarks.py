"""Benchmarks are run by hand, so that the suite sees at least that they fit the package."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest

from tests.docs.markdown import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", [n for n in SCRIPTS if n != "__main__"])
def test_each_benchmark_can_be_loaded(name):
    """What it imports and what it makes when it is loaded is there under these names."""
    import_module(f"benchmarks.{name}")


def test_every_batch_of_a_benchmark_has_fields_that_a_batch_has():
    """Also where it is only made once the benchmark runs."""
    fields = {"name", "prompts", "request", "spending", "delivery", "fan_out", "window_dimension"}
    found = set()
    for name in SCRIPTS:
        for node in ast.walk(ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Batch":
                found.update(keyword.arg for keyword in node.keywords)
    assert found <= fields
    assert found
