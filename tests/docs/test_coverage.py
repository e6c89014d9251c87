"""The page of the vendor's sentences: no row is empty, and nothing in it is made up."""

from __future__ import annotations

import re

from tests.docs.markdown import DOCS, ROOT, code_in, read, rows, section

PAGE = DOCS / "coverage.md"
SEEDS = [
    row
    for name in ("Batch generation", "Errors and limits")
    for row in rows(section(PAGE, name), "the page says")
]
LIVE = rows(section(PAGE, "The live API"), "the official clients and pages say")


def test_the_page_has_both_of_the_vendors_pages():
    """Seventeen sentences of the one, thirty-five of the other."""
    assert len(SEEDS) == 17 + 35


def test_each_sentence_is_done_by_a_module_and_proved_by_a_test():
    """Both exist under the names given."""
    for sentence, doing, proof in (*LIVE, *SEEDS):
        assert sentence.strip()
        (module,), (test,) = code_in(doing), code_in(proof)
        assert (ROOT / "mynth_dagster" / module).is_file(), sentence
        path, _, name = test.partition("::")
        text = read(ROOT / path)
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), sentence
