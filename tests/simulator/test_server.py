from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from mynth_dagster.clock import ManualClock
from mynth_dagster.simulator import FaultRule, Scenario, SimulatorServer, create_app

SERVE = """
import sys
from mynth_dagster.simulator import Scenario, serve
serve(Scenario(), port=0)
"""


def test_server_starts_and_stops():
    """A server has a port while its context is open, and none after."""
    with SimulatorServer() as server:
        url = server.url
        assert httpx.get(f"{url}/models", verify=False).status_code == 200
        during = n_serving_threads()

    assert during - 1 == n_serving_threads()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models", verify=False)
    gc.collect()


def n_serving_threads():
    return sum(thread.name == "mynth-simulator" for thread in threading.enumerate())


def test_server_starts_and_stops_quickly():
    """Start and stop take well below a second together."""
    started_s = time.monotonic()
    with SimulatorServer():
        pass

    assert time.monotonic() - started_s < 1.5


def test_server_stop_is_idempotent():
    """Stopping twice, or before a start, does nothing; its methods work on a stopped server."""
    server = SimulatorServer()
    server.stop()
    server.start()
    server.stop()
    server.stop()

    assert server.log()["totals"]["accepted"] == 0


def test_server_refuses_a_taken_port():
    """A taken port is an error at start, not a hang."""
    with SimulatorServer() as server:
        second = SimulatorServer(port=server.port)
        with pytest.raises(OSError, match="in use"):
            second.start()


def test_stop_cuts_delayed_answers():
    """An answer that waits for a clock nobody moves does not hold up the stop."""
    faults = (FaultRule(kind="slow", delay_s=1000),)
    server = SimulatorServer(Scenario(faults=faults), clock=ManualClock())
    server.start()
    sleeping = threading.Event()
    sleep = server.app.clock.sleep

    async def noted(delay_s):
        sleeping.set()
        await sleep(delay_s)

    server.app.clock.sleep = noted
    errors = []
    thread = threading.Thread(target=post_expecting_error, args=(server.url, errors))
    thread.start()
    assert sleeping.wait(10)
    server.stop()
    thread.join(10)

    assert [httpx.RemoteProtocolError] == [type(error) for error in errors]


def post_expecting_error(url, errors):
    headers = {"authorization": "Bearer mak_simulator"}
    try:
        httpx.post(f"{url}/image/generate", json={"prompt": "x"}, headers=headers, verify=False)
    except httpx.HTTPError as exc:
        errors.append(exc)


def test_connections_are_counted(connect):
    """Open connections, their peak and their total are in the log."""
    api = connect()
    before = api.server.log()["connections"]
    sockets = [socket.create_connection((api.server.host, api.server.port)) for _ in range(3)]
    for connection in sockets:
        connection.sendall(b"GET /models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    during = api.server.log()["connections"]
    for connection in sockets:
        connection.close()

    assert 3 == during["opened"] - before["opened"] == during["open"] - before["open"]
    assert during["open"] <= during["peak_open"]


def test_response_delay_uses_the_clock():
    """Every answer takes its drawn time of the simulator's clock."""
    clock = ManualClock()
    app = create_app(Scenario.from_dict({"response_delay_s": 2}), clock=clock)
    transport = httpx.ASGITransport(app)

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            options = asyncio.ensure_future(client.get("/models"))
            await until_somebody_sleeps(clock)
            early = options.done()
            clock.advance(2)
            return early, (await options).status_code

    assert asyncio.run(ask()) == (False, 200)


async def until_somebody_sleeps(clock):
    while not clock.n_sleepers:  # noqa: ASYNC110 - the clock has no event for it
        await asyncio.sleep(0)


def test_app_in_process_raises_when_cut():
    """Without a socket to cut, a cut is raised as a reset connection."""
    app = create_app(Scenario(faults=(FaultRule(route="GET /models"),)))
    transport = httpx.ASGITransport(app)

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await client.get("/models")

    with pytest.raises(ConnectionResetError):
        asyncio.run(ask())


def test_advance_needs_a_manual_clock():
    """Real time cannot be advanced."""
    with pytest.raises(TypeError, match="ManualClock"):
        SimulatorServer().advance(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_signalled(number):
    """``serve`` says where it listens in one line, and ends cleanly when asked to."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        line = process.stdout.readline()
        url = line.split(" at ")[1].split(",")[0]
        status = httpx.get(f"{url}/models", verify=False).status_code
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)

    assert status == 200
    assert "mak_simulator" in line
    assert (process.returncode, errors) == (0, "")


def test_simulator_shares_nothing_with_the_client():
    """Loading the simulator loads no client, no payload code, no Dagster."""
    code = (
        "import sys, mynth_dagster.simulator\n"
        "print(*(m for m in sys.modules if m.startswith('mynth_dagster.')), sep='\\n')\n"
        "print(*(m for m in ('dagster', 'httpx', 'aiohttp') if m in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    ).stdout.split()

    own = ("simulator", "limits", "clock", "capabilities", "extras", "errors", "printable")
    shared = tuple(f"mynth_dagster.{name}" for name in own)
    foreign = [name for name in output if not name.startswith(shared)]
    assert foreign == []
