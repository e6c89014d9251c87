"""The list of mutants keeps up with the code; `make mutants` applies them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_applied(mutant):
    """The text it changes stands exactly once in its file, and the change is valid Python."""
    text = (PROJECT / mutant.file).read_text(encoding="utf-8")

    assert text.count(mutant.old) == 1
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert all((PROJECT / test.partition("::")[0]).exists() for test in mutant.tests)
