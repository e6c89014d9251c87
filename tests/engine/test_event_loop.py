"""The loop that the engine runs on, and what a session does to the process it runs in."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pyarrow as pa
import pytest

from mynth_dagster.engine.session import COLLECT_AFTER_OBJECTS, lean_memory, run


async def kind_of_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_work_runs_on_uvloop_where_it_is_installed():
    """It is, with the extras for development."""
    assert run(kind_of_loop()).startswith("uvloop")


def test_without_uvloop_the_same_work_runs_on_asyncios_own_loop(monkeypatch):
    """There are platforms that it does not exist for."""
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert run(kind_of_loop()).startswith("asyncio")


@pytest.mark.parametrize("is_installed", [True, False])
def test_an_error_reaches_whoever_runs_the_work(monkeypatch, is_installed):
    """On either loop."""
    if not is_installed:
        monkeypatch.setitem(sys.modules, "uvloop", None)

    async def fail() -> None:
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        run(fail())


@pytest.fixture
def as_found():
    """The process's own thresholds, odd enough to be known again."""
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield (701, 11, 12)
    gc.set_threshold(*before)


def test_garbage_is_searched_for_rarely_and_then_as_before(as_found):
    """The older generations keep their rhythm; an error changes nothing."""

    def fail() -> None:
        with lean_memory():
            assert gc.get_threshold() == (COLLECT_AFTER_OBJECTS, 11, 12)
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert gc.get_threshold() == as_found


def test_arrow_gives_memory_back_meanwhile():
    """Its usual pool keeps what it used; the process has it again afterwards."""
    before = pa.default_memory_pool().backend_name

    with lean_memory():
        assert pa.default_memory_pool().backend_name == "system"

    assert pa.default_memory_pool().backend_name == before


def test_the_last_one_out_restores_whoever_came_first(as_found):
    """Sessions of several threads overlap in any order: the first one in leaves first here."""
    is_in, may_leave = threading.Event(), threading.Event()

    def second() -> None:
        with lean_memory():
            is_in.set()
            assert may_leave.wait(30)

    thread = threading.Thread(target=second)
    with lean_memory():
        thread.start()
        assert is_in.wait(30)
    assert gc.get_threshold()[0] == COLLECT_AFTER_OBJECTS, "somebody is still at work"
    may_leave.set()
    thread.join(30)

    assert gc.get_threshold() == as_found
