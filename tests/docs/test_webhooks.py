"""The page on webhooks: its example runs, and its figures are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynth_dagster.cli import webhook as command
from mynth_dagster.limits import (
    EVENTS_KEPT_S,
    WEBHOOK_BODY_MAX_BYTES,
    WEBHOOK_GRACE_S,
    WEBHOOK_HEADERS_MAX,
    WEBHOOK_PORT,
    WEBHOOK_TOKEN_MIN_CHARS,
)
from mynth_dagster.webhook import app
from mynth_dagster.wire import signatures
from mynth_dagster.wire.events import FINAL_EVENTS
from mynth_dagster.wire.signatures import SECRET_PREFIX, TOLERANCE_S
from tests.docs.markdown import DOCS, blocks, code_in, read, rows

PAGE = DOCS / "webhooks.md"
DECISION = DOCS / "decisions" / "0016-stored-before-acknowledged.md"


def test_the_receiver_of_the_example_can_be_mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """As printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(command.SECRET, "wbs_example")
    (example,) = blocks(PAGE, "python")
    names: dict[str, object] = {}
    exec(example, names)
    assert names["app"] is not None


def test_every_environment_variable_is_documented():
    """Those that the command reads, and no other."""
    told = {code_in(name)[0] for name, _ in rows(read(PAGE), "environment variable")}
    names = (command.SECRET, command.TOKEN)
    assert told == {name + suffix for name in names for suffix in ("", command.PREVIOUS)}


def test_figures_are_those_of_the_code():
    """Bounds, waits, events and headers."""
    text = read(PAGE)
    assert all(f"`{event}`" in text for event in FINAL_EVENTS)
    assert f"--port {WEBHOOK_PORT}" in text
    assert f"fresh for {TOLERANCE_S} seconds" in text
    assert f"larger than {WEBHOOK_BODY_MAX_BYTES >> 20} MiB" in text
    assert f"more than {WEBHOOK_HEADERS_MAX} headers" in text
    assert f"{WEBHOOK_TOKEN_MIN_CHARS} characters or more" in text
    assert all(f"`{name.decode()}`" in text for name in (app.ID, app.TIMESTAMP, app.SIGNATURE))
    assert app.OLDER_SIGNATURE.decode() in text.lower()
    assert SECRET_PREFIX in text
    assert f"older than {WEBHOOK_GRACE_S:.0f} seconds" in text
    assert EVENTS_KEPT_S == 30 * 86_400
    assert "thirty days" in read(DECISION)


def test_what_the_doctor_says_of_refusals_is_what_the_code_says():
    """Each reason that the page explains is one of the reasons that are given."""
    told = [cells[0] for cells in rows(read(PAGE), "it says")]
    reasons = [cell.removeprefix("refused: ") for cell in told if cell.startswith("refused: ")]
    code = Path(signatures.__file__).read_text("utf-8")

    assert len(reasons) == 3
    assert all(reason in code for reason in reasons)
