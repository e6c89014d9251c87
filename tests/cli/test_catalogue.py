"""`mynth-dagster catalogue`: models and prices, kept for definitions without a network."""

from __future__ import annotations

import json

import pytest

from mynth_dagster.tables.catalogue import read_catalogue


def test_prices_are_kept_and_printed(new_shell):
    """The same figures for people, for machines and in the root; nothing paid is sent."""
    work = new_shell(revision="2026-10")
    told = work.call("catalogue", "--root", str(work.root))
    document = json.loads(work.call("catalogue", "--root", str(work.root), "--json").stdout)

    kept = read_catalogue(str(work.root))
    assert told.exit_code == 0
    assert document["api_revision"] == kept.api_revision == "2026-10"
    prices = {name: price and str(price) for name, price in kept.prices_usd.items()}
    assert document["prices_usd"] == prices
    assert all(f"{name}: {price}" in told.stdout for name, price in prices.items() if price)
    assert work.n_posts == 0


@pytest.mark.parametrize(
    ("revision", "options", "message", "code"),
    [
        ("2026-04", (), "2026-04 has no catalogue", 2),
        ("2026-10", ("--base-url", "http://127.0.0.1:9"), "127.0.0.1:9", 2),
        ("2026-10", ("--api-revision", "2025-01"), "2025-01", 2),
    ],
)
def test_what_cannot_be_read_keeps_nothing(new_shell, revision, options, message, code):
    """A clear word and an exit code."""
    work = new_shell(revision=revision)
    result = work.call("catalogue", "--root", str(work.root), *options)

    assert result.exit_code == code
    assert message in result.output
    assert read_catalogue(str(work.root)) is None
