"""A canary in the cage: the key is planted everywhere it may be, and found nowhere it may not."""

from __future__ import annotations

import traceback

import pytest

from tests.faults.test_network import ASTRAY

CANARY = "mak_canary_7f3a91c2e5b84d06"


def everything_kept(work) -> bytes:
    """All that lies on the disk afterwards: tables, ledger, journal, marks."""
    return b"\0".join(p.read_bytes() for p in sorted(work.folder.rglob("*")) if p.is_file())


@pytest.mark.parametrize("rule", ASTRAY.values(), ids=ASTRAY)
def test_the_key_is_in_no_log_table_ledger_or_error(new_stage, everything_logged, rule):
    """Whatever goes wrong, at DEBUG, and in what is kept."""
    work = new_stage(api_keys=[{"key": CANARY}], faults=[{"every": 3, **rule}])

    report = work.run(9, settings={"api_key": CANARY})

    said = "\n".join(everything_logged.lines) + repr(report) + repr(report.to_json())
    assert CANARY not in said
    assert CANARY.encode() not in everything_kept(work)


@pytest.mark.parametrize(
    "scenario",
    [
        {"api_keys": []},
        {"api_keys": [{"key": CANARY, "revoked": True}]},
        {"api_keys": [{"key": CANARY}], "faults": [{"route": "*", "kind": "html_error"}]},
        {"api_keys": [{"key": CANARY}], "faults": [{"route": "*", "kind": "reset"}]},
    ],
    ids=["unknown key", "dead key", "gateway", "reset"],
)
def test_the_key_is_in_no_exception(new_stage, everything_logged, scenario):
    """Neither in its words nor in any of its causes."""
    work = new_stage(**scenario)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is
        work.run(3, settings={"api_key": CANARY})

    said = "".join(traceback.format_exception(caught.value, limit=None))
    assert CANARY not in said
    assert CANARY not in "\n".join(everything_logged.lines)


def test_a_token_is_in_no_log_and_no_report(stage, everything_logged):
    """Handed out in `tasks` because the batch asked for it, and nowhere else."""
    work = stage(faults=[{"every": 3, "kind": "reset"}])
    report = work.run(9, public_access_tokens=True)

    tokens = {row["public_access_token"] for row in work.table("tasks")} - {None}
    said = "\n".join(everything_logged.lines) + repr(report) + repr(report.to_json())
    assert len(tokens) >= 6
    assert not [token for token in tokens if token in said]
