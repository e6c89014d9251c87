"""`mynth-dagster doctor`: what works, what does not, and that looking changes nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mynth_dagster.clock import US_PER_S, ManualClock, SystemClock
from mynth_dagster.engine import health as health_module
from mynth_dagster.engine.health import Level, file_system_of, webhook_findings
from mynth_dagster.ledger import Ledger
from mynth_dagster.ledger.events import EventEnd, EventOutcome, WebhookEvent
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.receiver import RECEIVER_META, ReceiverReport
from tests.factories import KEY, delete_destinations

NOW_US = SystemClock().now_us()


def look(work, *options, **env):
    """Findings by subject, and the exit code."""
    result = work.call("doctor", "--root", str(work.root), "--json", *options, **env)
    findings = json.loads(result.stdout)["findings"]
    return {entry["subject"]: entry for entry in findings}, result.exit_code


def test_all_is_well_after_a_run(shell):
    """Tables, ledger, API, key and clock, each with a word; nothing paid is sent."""
    work = shell()
    work.run(work.prompts(2))
    found, code = look(work)

    assert code == 0
    assert {entry["level"] for entry in found.values()} == {"ok"}
    assert {"tables", "ledger", "API", "key", "clock", "webhooks"} <= set(found)
    assert "never used" in found["webhooks"]["message"]
    assert work.n_posts == 2


def test_it_speaks_to_people_too(new_shell):
    """A line for each finding, and the next step where one is needed."""
    work = new_shell()
    work.run(work.prompts(1))
    result = work.call("doctor", "--root", str(work.root), MYNTH_API_KEY="mak_wrong")

    assert result.exit_code == 1
    assert "PROBLEM  key: refused (HTTP 401)" in result.stdout
    assert "next: correct MYNTH_API_KEY" in result.stdout
    assert "mak_wrong" not in result.output


@pytest.mark.parametrize(
    ("options", "env", "subject", "level"),
    [
        ((), {"MYNTH_API_KEY": ""}, "key", "problem"),
        (("--base-url", "http://127.0.0.1:9"), {}, "API", "problem"),
        (("--api-revision", "2026-04"), {}, "API", "note"),
        (("--ledger", "sqlite:////no/such/folder/ledger.db"), {}, "ledger", "problem"),
    ],
)
def test_what_is_wrong_is_named_with_a_next_step(new_shell, options, env, subject, level):
    """Each by itself; the other looks are taken all the same."""
    work = new_shell()
    work.run(work.prompts(1))
    found, code = look(work, *options, **env)

    assert found[subject]["level"] == level
    assert found[subject]["next_step"]
    assert code == (1 if level == "problem" else 0)
    assert found["tables"]["level"] == "ok"


def test_without_a_ledger_it_says_so_and_makes_none(new_shell):
    """A typing error in the path leaves no folder behind."""
    work = new_shell()
    result = work.call("doctor", "--root", str(work.root))

    assert result.exit_code == 2
    assert not work.root.exists()


def test_rows_in_doubt_are_noted(new_shell):
    """They are not a fault of the installation."""
    work = new_shell(faults=[{"kind": "lost_answer", "count": 9}], revision="2026-04")
    work.run(work.prompts(1))
    found, code = look(work)

    assert (code, found["in doubt"]["level"]) == (0, "note")
    assert "resolve" in found["in doubt"]["next_step"]


def test_a_clock_that_is_off_is_noted(new_shell):
    """Webhooks would be refused for it."""
    work = new_shell()
    work.run(work.prompts(1))
    work.server.app.clock = ManualClock(NOW_US - 600 * US_PER_S)
    found, _ = look(work)

    assert found["clock"]["level"] == "note"
    assert "ahead of" in found["clock"]["message"]


def test_a_root_that_is_no_folder_or_elsewhere(new_shell):
    """Remote tables are not looked into."""
    work = new_shell()
    work.run(work.prompts(1))
    url = f"sqlite:///{work.root / 'mynth-ledger.db'}"
    said = {}
    for root in ("s3://bucket/tables", str(work.root / "nothing")):
        result = work.call("doctor", "--root", root, "--ledger", url, "--json")
        said[root] = json.loads(result.stdout)["findings"][0]

    assert [entry["level"] for entry in said.values()] == ["ok", "problem"]


LIMITED = {"spending_limit_usd": "25", "spending_limit_period": "week"}


@pytest.mark.parametrize(
    ("key", "scopes", "money"),
    [
        (
            {"scopes": ["generate", "manage"]},
            ("ok", "may generate, manage"),
            ("ok", "available, $0.00 reserved; the key has no spending limit"),
        ),
        (
            {"scopes": ["generate"], **LIMITED},
            ("ok", "may generate"),
            ("ok", "the key may spend $25.00 a week, $24.98 left"),
        ),
        (
            {"scopes": ["manage"]},
            ("problem", "not generate: no row can be sent"),
            ("ok", "available"),
        ),
    ],
)
def test_what_the_key_may_do_and_spend_is_shown(new_shell, key, scopes, money):
    """The balance where the key may see it, else what the key itself may still spend."""
    work = new_shell()
    work.run(work.prompts(2))
    work.server.set_scenario(api_keys=[{"key": KEY, **key}])
    if "spending_limit_usd" in key:
        work.run(work.prompts(4))
    found, code = look(work)

    for subject, (level, said) in (("scopes", scopes), ("balance", money)):
        assert found[subject]["level"] == level
        assert said in found[subject]["message"]
    assert code == (1 if scopes[0] == "problem" else 0)


def test_money_that_nobody_reports_is_shown_as_unknown(new_shell):
    """Neither the balance nor the account is told: that is no fault of the key."""
    work = new_shell()
    work.run(work.prompts(1))
    closed = [
        {"route": r, "kind": "html_error", "status": 403} for r in ("GET /me", "GET /balance")
    ]
    work.server.set_scenario(faults=closed)
    found, code = look(work)

    assert (code, found["key"]["level"], found["balance"]["level"]) == (0, "ok", "note")
    assert found["balance"]["message"].startswith("unknown")


def test_destinations_that_prompts_name_are_looked_for(new_shell):
    """An unknown one would fail every row that names it."""
    work = new_shell(destinations=["mine"])
    work.run(work.prompts([{"prompt": "a", "destination": "mine"}]))
    found, code = look(work)
    assert (code, found["destinations"]["level"]) == (0, "ok")

    delete_destinations(work.server.url)
    found, code = look(work)

    assert (code, found["destinations"]["level"]) == (1, "problem")
    assert "no mine" in found["destinations"]["message"]


class Health:
    """A ledger with some history of webhooks."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")

    def remember(self, key: str, value: str) -> None:
        asyncio.run(self.ledger.set_meta(key, value))

    def event(self, n: int, outcome: EventOutcome | None = None, *, ago_s: float = 60) -> None:
        at_us = NOW_US - round(ago_s * US_PER_S)
        event = WebhookEvent(f"e{n}", True, "x", f"tsk_{n}", "{}", at_us)

        async def keep() -> None:
            await self.ledger.events.receive(event)
            if outcome is not None:
                end = EventEnd(event.event_id, outcome, at_us, "b")
                await self.ledger.events.finish(end)

        asyncio.run(keep())

    def found(self):
        levels = [
            (f.subject, f.level, f.message + (f.next_step or ""))
            for f in webhook_findings(self.ledger, now_us=NOW_US)
        ]
        return {subject: (level, said) for subject, level, said in levels}


@pytest.fixture
def health(tmp_path):
    made = Health(tmp_path)
    yield made
    made.ledger.close()


REPORT = ReceiverReport(NOW_US - 10**9, NOW_US, n_kept=3)


def test_a_receiver_to_which_nothing_ever_came_is_noted(health):
    """It has to be registered."""
    health.remember(RECEIVER_META, REPORT.to_json())

    level, said = health.found()["webhooks"]
    assert level is Level.NOTE
    assert "webhook-register" in said


def test_deliveries_and_refusals_are_shown(health):
    """When the last came, and why others were refused."""
    refused = replace(REPORT, n_refused={"no signature matches": 7}, refused_at_us=NOW_US - 10**8)
    health.remember(RECEIVER_META, refused.to_json())
    health.event(1, EventOutcome.READ)
    found = health.found()

    assert found["webhooks"][0] is Level.OK
    assert "1 tasks were announced" in found["webhooks"][1]
    assert found["refusals"][0] is Level.NOTE
    assert "7 × no signature matches" in found["refusals"][1]
    old = replace(refused, refused_at_us=NOW_US - 10**12)
    health.remember(RECEIVER_META, old.to_json())
    assert "refusals" not in health.found()


def test_events_that_nobody_works_or_owns_are_shown(health):
    """The first need a sensor, the second a person."""
    health.event(1, ago_s=700)
    assert health.found()["events"][0] is Level.NOTE
    health.event(2, EventOutcome.UNMATCHED)
    level, said = health.found()["events"]
    assert level is Level.PROBLEM
    assert "older copy" in said


def test_deliveries_that_have_stopped_are_a_problem(health):
    """With what can be done, and the registration if it is known."""
    health.event(1, EventOutcome.READ, ago_s=3600)
    health.remember("webhooks:unannounced:b", json.dumps({"at_us": NOW_US - 10**9, "n_tasks": 12}))
    health.remember("webhook:registered", "wh_7")
    assert "webhooks of b" not in health.found()  # no partition: no batch of this ledger

    asyncio.run(health.ledger.open_partitions("b", [Slice("", "")], "x"))
    level, said = health.found()["webhooks of b"]
    assert level is Level.PROBLEM
    assert "12 tasks finished since" in said
    assert "--id wh_7" in said


MOUNTED = """\
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/nfs nfs4 rw 0 0
/dev/sdb1 /mnt/nfs/local xfs rw 0 0
me@host: /mnt/my\\040home fuse.sshfs rw 0 0
share /mnt/over 9p rw 0 0
/dev/sdc1 /mnt/over ext4 rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/nfs/ledger.db", "nfs4"),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs2/ledger.db", "ext4"),
        ("/mnt/nfs/local/ledger.db", "xfs"),
        ("/mnt/my home/ledger.db", "fuse.sshfs"),
        ("/mnt/over/ledger.db", "ext4"),
        ("/srv/ledger.db", "ext4"),
    ],
)
def test_a_path_is_on_what_is_mounted_nearest_above_it(path, kind):
    """Whole folders count, and of two at one place the later."""
    assert file_system_of(path, MOUNTED) == kind


@pytest.mark.parametrize(
    ("kind", "is_found"),
    [
        *((kind, True) for kind in ("nfs", "cifs", "fuse.sshfs", "fuse.glusterfs", "virtiofs")),
        *((kind, False) for kind in ("ext4", "overlay", "fuse.mergerfs")),
    ],
)
def test_a_sqlite_ledger_on_a_network_file_system_is_a_problem(
    new_shell, tmp_path, monkeypatch, kind, is_found
):
    """It says what to do; a local disk is not spoken of."""
    work = new_shell()
    work.run(work.prompts(1))
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver {work.root.resolve()} {kind} rw 0 0\n")
    monkeypatch.setattr(health_module, "MOUNTS", mounts)

    found, code = look(work)

    assert code == is_found
    assert ("ledger's disk" in found) == is_found
    assert "Postgres" in found["ledger's disk"]["next_step"] if is_found else True


def test_where_the_system_tells_no_mounts_nothing_is_reported_of_them(new_shell, monkeypatch):
    """As on other systems than Linux."""
    work = new_shell()
    work.run(work.prompts(1))
    monkeypatch.setattr(health_module, "MOUNTS", Path("/no/such/file"))

    assert "ledger's disk" not in look(work)[0]
