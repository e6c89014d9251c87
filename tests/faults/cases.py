"""
The table of cases in `docs/cases.md`, made from the tests' own sentences.

`python -m tests.faults.cases` writes it; a test compares.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
WEBHOOKS = HERE.parent / "webhook"
PAGE = HERE.parents[1] / "docs" / "cases.md"

HEAD = (
    "# Cases\n\n"
    "What a run has to survive, and does: each line is a test.\n"
    "`make faults` runs them, and among those of webhooks, at the end, the kills at every named "
    "moment; `make test` runs the others of webhooks.\n"
    "The judge is the simulator's own log of accepted requests and charges.\n"
    "After each case the job is run again until nothing is left to wait for; then nothing is "
    "lost, nothing is paid twice, every row is accounted for, the money adds up, a further run "
    "sends nothing and writes the same bytes, and what was done before is unchanged.\n\n"
    "This page is made from the tests by `python -m tests.faults.cases`.\n"
)


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each file's first sentence, with the names and sentences of its tests."""
    for path in [*sorted(HERE.glob("test_*.py")), *sorted(WEBHOOKS.glob("test_*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tests = [
            (node.name, ast.get_docstring(node) or "")
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
        yield ast.get_docstring(tree) or path.stem, tests


def compose() -> str:
    """The page."""
    parts = [HEAD]
    for title, tests in sections():
        name, _, rest = title.partition(": ")
        parts.append(f"## {name.rstrip('.')}\n")
        if rest:
            parts.append(f"{rest[0].upper()}{rest[1:]}\n")
        parts.append("| case | what happens |\n|---|---|")
        for test, sentence in tests:
            case = test.removeprefix("test_").replace("_", " ")
            parts.append(f"| {case} | {' '.join(sentence.split())} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(compose(), encoding="utf-8")
