"""Money on the command line: a budget, a receipt, and whose money it is."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.engine.bench import NO_LIST
from tests.factories import KEY, MODEL

PRICE = f"{MODEL}=0.01"


def test_a_budget_ends_the_run_with_an_error_and_says_what_was_used(new_shell):
    """Withheld rows are listed, the exit code is not zero, and the next step is told."""
    work = new_shell(prices_usd={MODEL: "0.01"})

    result = work.run(work.prompts(5), "--budget-usd", "0.03", "--price-usd", PRICE)

    assert result.exit_code == 1
    assert "budget_exceeded" in result.stderr
    assert work.server.log()["totals"]["charged"] == "0.03000000"


def test_a_budget_without_a_price_sends_nothing(shell):
    """Where Mynth tells no price, one has to be given."""
    work = shell(revision="2026-04")

    result = work.run(work.prompts(2), "--budget-usd", "5")

    assert (result.exit_code, work.n_posts) == (2, 0)
    assert MODEL in result.stderr
    assert "nothing was charged" in result.stderr


def test_wrong_amounts_are_wrong_input(new_shell):
    """Exit code 2, with the option's name."""
    work = new_shell()

    for arguments in (["--budget-usd", "lots"], ["--price-usd", "0.04"], ["--price-usd", "m=x"]):
        result = work.run(work.prompts(2), *arguments)
        assert (result.exit_code, work.n_posts) == (2, 0)
        assert arguments[0].strip("-").replace("-", "_") in result.stderr.replace("-", "_")


def test_a_receipt_tells_what_mynth_charged(shell):
    """For people as a table, for machines as JSON; the same figures as at Mynth."""
    work = shell(prices_usd={MODEL: "0.01"}, failures=[{"prompt_contains": "prompt 1"}])
    work.run(work.prompts(3), "--price-usd", PRICE)

    shown = work.call("receipt", "--root", str(work.root))
    said = json.loads(work.call("receipt", "--root", str(work.root), "--json").stdout)

    assert shown.exit_code == 0
    assert "kites" in shown.stdout
    kites = said["batches"]["kites"]
    assert kites["charged_usd"] == work.server.log()["totals"]["charged"] == "0.02000000"
    assert kites["refunded_usd"] == "0.01000000"
    assert Decimal(kites["reserved_usd"]) == Decimal("0.03")
    assert (kites["n_charged"], kites["n_unknown"]) == (2, 0)


@pytest.mark.usefixtures("no_pauses")
def test_a_dedicated_key_shows_money_that_nobody_explains(new_shell):
    """Mynth holds more than the ledger's open tasks: the rest is told, with where to look."""
    lost = {"kind": "lost_answer", "prompt_contains": "prompt 1"}
    work = new_shell(progress="manual", prices_usd={MODEL: "0.01"}, faults=[lost, NO_LIST])
    work.run(work.prompts(3), "--deadline", "0.1")

    result = work.call("receipt", "--root", str(work.root), "--dedicated-key")

    assert result.exit_code == 0
    assert "Mynth holds $0.03; open tasks of the ledger explain $0.02" in result.stderr
    assert "$0.01 is not explained" in result.stderr


def test_a_revision_without_a_balance_says_so(shell):
    """It is no error, there is only nothing to compare with."""
    work = shell(revision="2026-04")
    work.run(work.prompts(1))

    result = work.call("receipt", "--root", str(work.root), "--dedicated-key")

    assert "2026-04 does not tell the balance" in result.stderr


def test_a_key_that_may_not_see_the_balance_has_nothing_to_compare(new_shell):
    """It is no error either: the receipt itself is the ledger's own."""
    work = new_shell(api_keys=[{"key": KEY, "scopes": ["generate"]}])
    work.run(work.prompts(1))

    result = work.call("receipt", "--root", str(work.root), "--dedicated-key")

    assert result.exit_code == 0
    assert "not shown to this key" in result.stderr


def test_a_foreign_key_is_refused_until_a_person_takes_it_in(shell):
    """The error names the command, and the command does what it says."""
    keys = [{"key": "mak_simulator"}, {"key": "mak_other", "user_id": "usr_other"}]
    work = shell(api_keys=keys)
    work.run(work.prompts(2))
    root = ["--root", str(work.root)]

    refused = work.run(work.prompts(3), MYNTH_API_KEY="mak_other")
    assert refused.exit_code == 1
    assert "mynth-dagster account adopt" in refused.stderr
    assert work.n_posts == 2

    assert work.call("account", "adopt", *root, MYNTH_API_KEY="mak_other").exit_code == 0
    assert work.run(work.prompts(3), MYNTH_API_KEY="mak_other").exit_code == 0
    assert work.n_posts == 3
    listed = work.call("account", "list", *root).stdout
    assert "mak_" not in listed
    assert listed.count(work.server.url) == 2
