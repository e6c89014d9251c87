"""`mynth-dagster webhook-register`: where a key may, and what a person does where it may not."""

from __future__ import annotations

import inspect
import sqlite3

import pytest

from mynth_dagster.cli import webhook as command
from tests.factories import KEY

URL = "https://hooks.example.com/"


def register(work, *options, url=URL):
    return work.call("webhook-register", url, "--root", str(work.root), *options)


@pytest.fixture
def allowed(shell):
    """Keys may manage webhooks, in each revision."""
    return shell(quirks={"webhook_management": "api_key"})


def test_the_secret_is_printed_once_and_kept_nowhere(allowed):
    """Ready for an environment file; the ledger remembers only the id."""
    result = register(allowed)

    assert result.exit_code == 0
    name, _, secret = result.stdout.strip().partition("=")
    made = allowed.server.app.state.webhooks.list_of("user_simulator")
    assert (name, secret) == ("MYNTH_WEBHOOK_SECRET", made[0].secret)
    assert made[0].spec.url == URL
    kinds = ["generate"]
    if allowed.server.scenario.revision != "2026-04":
        kinds += ["rate", "alt", "review"]
    ends = ("completed", "failed")
    assert set(made[0].spec.events) == {
        f"task.image.{kind}.{end}" for kind in kinds for end in ends
    }
    with sqlite3.connect(allowed.root / "mynth-ledger.db") as connection:
        stored = "\n".join(connection.iterdump())
    connection.close()
    assert made[0].webhook_id in stored
    assert secret not in stored


def test_a_disabled_webhook_is_enabled_again_under_its_id(allowed):
    """Its secret stays, and is not shown."""
    register(allowed)
    store = allowed.server.app.state.webhooks
    made = store.list_of("user_simulator")[0]
    store.disable(made.webhook_id, 0)
    result = register(allowed, "--id", made.webhook_id, url="https://new.example.com/")

    assert (result.exit_code, result.stdout) == (0, "")
    again = store.list_of("user_simulator")[0]
    assert (again.spec.enabled, again.spec.url) == (True, "https://new.example.com/")
    assert again.secret == made.secret


@pytest.mark.parametrize("options", [(), ("--id", "wh_7")])
def test_where_a_key_may_not_the_dashboard_is_named(new_shell, options):
    """With the URL, the events and where the secret goes."""
    work = new_shell(revision="2026-08")
    result = register(work, *options)

    assert result.exit_code == 1
    assert "dashboard" in result.stderr
    assert URL in result.stderr
    assert "secret" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("options", [(), ("--id", "whk_7")])
def test_a_key_that_lacks_the_scope_is_named_the_one(new_shell, options):
    """Revision 2026-10 says 403 with a code of its own; the dashboard is the other way."""
    work = new_shell(api_keys=[{"key": KEY, "scopes": ["generate"]}])
    result = register(work, *options)

    assert result.exit_code == 1
    assert "the key lacks the scope `manage`" in result.stderr
    assert "dashboard" in result.stderr
    assert URL in result.stderr
    assert result.stdout == ""


def test_help_says_what_a_replacement_resets():
    """A registration is replaced whole; what is not sent is at its default again."""
    said = " ".join(inspect.getdoc(command.webhook_register).split())

    assert "api_key_ids" in said
    assert "include_session_tasks" in said


def test_a_wrong_url_is_an_input_error(allowed):
    """Ours or Mynth's word for it."""
    assert register(allowed, url="hooks.example.com").exit_code == 2
    assert register(allowed, url="ftp://hooks.example.com").exit_code == 2
    assert not any(route.startswith("POST /webhook") for route in allowed.server.log()["requests"])


def test_an_answer_that_was_lost_is_not_asked_for_again(new_shell):
    """A repeated creation would register the endpoint twice."""
    work = new_shell(faults=[{"route": "POST /webhooks", "kind": "lost_answer"}])
    result = register(work)

    assert result.exit_code == 1
    assert work.server.log()["requests"]["POST /webhooks"] == 1
