"""The resource and the bridge to the engine."""

from __future__ import annotations

import asyncio
import threading

import dagster as dg
import pytest

from mynth_dagster import MynthResource
from mynth_dagster.engine.stop import CancelToken
from mynth_dagster.errors import ConfigError
from mynth_dagster.plugin.resource import Notices, run_on_engine_thread

CANARY = "mak_canary_7f3a"


def test_key_is_in_no_representation(tmp_path):
    """Neither the resource nor its settings show the key."""
    resource = MynthResource(api_key=CANARY, root=str(tmp_path))

    shown = repr(resource) + str(resource) + repr(resource.engine_settings())
    assert CANARY not in shown


def test_key_from_the_environment_is_not_in_the_snapshot(monkeypatch):
    """An EnvVar leaves only the variable's name in what Dagster stores."""
    monkeypatch.setenv("MYNTH_API_KEY", CANARY)
    resource = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), root="data")

    assert CANARY not in repr(resource)
    assert CANARY not in str(resource.model_dump())
    assert resource.engine_settings().client.api_key == CANARY


@pytest.mark.parametrize(
    ("field", "value", "setting"),
    [
        ("base_url", "mynth.io", "base_url"),
        ("api_revision", "1999-01", "api_revision"),
        ("concurrency", 0, "concurrency"),
        ("root", "s3://bucket/images", "ledger_url"),
    ],
)
def test_wrong_fields_are_named(tmp_path, field, value, setting):
    """A wrong field is refused by name before anything is opened."""
    fields = {"api_key": "mak_x", "root": str(tmp_path), field: value}

    with pytest.raises(ConfigError) as refused:
        MynthResource(**fields).engine_settings()

    assert refused.value.setting == setting


def test_cancel_drains_before_it_is_raised():
    """An interrupt sets the switch, lets the work finish what is in flight, and is raised on."""
    cancelled, finished, notices = threading.Event(), [], Notices()

    class Switch(CancelToken):
        def set(self, reason) -> None:
            super().set(reason)
            cancelled.set()

    stop = Switch()

    async def work() -> None:
        notices.put(_interrupt)
        await asyncio.get_running_loop().run_in_executor(None, cancelled.wait)
        finished.append("recorded")

    def _interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_engine_thread(work, stop=stop, notices=notices)

    assert finished == ["recorded"]
    assert stop.reason is not None
    assert stop.reason.code == "cancelled"


def test_notices_are_delivered_on_the_waiting_thread():
    """What the engine wants logged is called on the thread that waits, in order."""
    seen, notices = [], Notices()

    async def work() -> str:
        for number in range(3):
            notices.put(lambda number=number: seen.append((number, threading.get_ident())))
        return "done"

    assert run_on_engine_thread(work, stop=CancelToken(), notices=notices) == "done"
    assert seen == [(number, threading.get_ident()) for number in range(3)]
