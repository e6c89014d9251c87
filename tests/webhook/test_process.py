"""
The command `mynth-dagster webhook`: a real process on a socket, killed and started again.

Tests that neither end the process nor count what is kept share one.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from typer.testing import CliRunner

from mynth_dagster.cli.main import app as command
from mynth_dagster.webhook import server as protocol_module
from mynth_dagster.webhook.server import BoundedProtocol
from mynth_dagster.wire.signatures import sign
from tests.webhook.conftest import event_body, new_body, new_headers
from tests.webhook.process import NEW_SECRET, SECRET, TOKEN, Receiver, receiver


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}") as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("receiver")
    with receiver(folder, f"sqlite:///{folder / 'ledger.db'}") as made:
        made.start()
        yield made


def post(url: str, body: bytes, headers=None) -> httpx.Response:
    """Send a body over a socket; in the older form, unless there are headers."""
    headers = headers or {"X-Mynth-Signature": sign(body, SECRET, at_s=int(time.time()))}
    with httpx.Client(verify=False, trust_env=False) as client:
        return client.post(url, content=body, headers=headers, timeout=20)


def kept(made: Receiver) -> list[str]:
    engine = sa.create_engine(made.ledger_url)
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT task_id FROM webhook_events ORDER BY 1")
        ).scalars()
        found = list(rows)
    engine.dispose()
    return found


def test_what_was_acknowledged_survives_a_kill_and_a_replay_changes_nothing(running):
    """SIGKILL right after the acknowledgement; each event of either form meets a new process."""
    older = [event_body(f"tsk_{n}") for n in range(3)]
    newer = {f"evt_{n}": new_body(f"evt_{n}", id=f"tsk_{n}") for n in range(3, 6)}

    def attempt(event_id: str, secret: str = NEW_SECRET) -> int:
        body, at_s = newer[event_id], int(time.time())  # each attempt is signed anew
        headers = dict(new_headers(body, secret=secret, at_s=at_s, event_id=event_id))
        return post(running.url, body, headers).status_code

    assert [post(running.url, body).status_code for body in older] == [200] * 3
    assert [attempt(event_id) for event_id in newer] == [200] * 3
    running.kill()
    running.start()
    assert post(running.url, older[0]).status_code == 200
    assert [attempt(event_id) for event_id in newer] == [200] * 3
    assert attempt("evt_3", "whsec_" + "A" * 32) == 401
    assert post(f"{running.url}/custom/{TOKEN}", older[1]).status_code == 200
    assert post(f"{running.url}/custom/{TOKEN}x", older[1]).status_code == 404

    assert kept(running) == ["tsk_0", "tsk_1", "tsk_1", "tsk_2", "tsk_3", "tsk_4", "tsk_5"]


def test_it_ends_on_a_signal_without_logging_a_secret(running):
    """SIGTERM closes the ledger; refusals were told, secrets never."""
    assert post(f"{running.url}/wrong", b"{}").status_code == 404
    assert httpx.get(f"{running.url}/health", trust_env=False).status_code == 204
    code, said = running.stop()

    assert code == 0
    assert "refused: no such path" in said
    assert SECRET not in said
    assert NEW_SECRET not in said
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: r\r\n" + b"x: y\r\n" * 100 + b"\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nhost: r\r\nx: " + b"y" * 300_000, b"400"),
        (b"POST / HTTP/1.1\r\nhost: r\r\ncontent-length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nhost: r\r\ncontent-length: 2\r\n\r\n{}", b"401"),
        (
            b"POST / HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"401",
        ),
    ],
    ids=["no HTTP", "many headers", "endless header", "huge body", "unsigned", "chunked"],
)
def test_raw_requests_meet_bounds_and_one_text(shared, raw, status):
    """Whatever comes over the socket; the next request is served."""
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as connection:
        connection.sendall(raw)
        answer = connection.recv(4096)
        while b"refused" not in answer and (more := connection.recv(4096)):
            answer += more

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b"refused\n")
    assert post(shared.url, event_body()).status_code == 200


def test_it_does_not_start_without_a_secret(tmp_path):
    """Nor does it leave anything behind."""
    done = CliRunner().invoke(command, ["webhook", "--root", str(tmp_path / "r")])

    assert done.exit_code == 2
    assert "MYNTH_WEBHOOK_SECRET" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_an_error_that_says_so(tmp_path):
    """Exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--root", str(tmp_path), "--port", str(taken.getsockname()[1])]
        environment = {"MYNTH_WEBHOOK_SECRET": NEW_SECRET}
        done = CliRunner().invoke(command, ["webhook", *options], env=environment)

    assert done.exit_code == 2
    assert "in use" in done.stderr


def test_a_head_that_never_ends_is_cut_off_in_time(monkeypatch):
    """A sender who dribbles holds a connection for a bounded time only."""
    monkeypatch.setattr(protocol_module, "WEBHOOK_REQUEST_TIMEOUT_S", 0.05)

    async def app(scope, receive, send):
        raise AssertionError("a request that never ended must not be served")

    async def dribble() -> bytes:
        config = uvicorn.Config(
            app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener := socket.create_server(("127.0.0.1", 0))])
        try:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"POST / HTTP/1.1\r\nhost: ")
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
        finally:
            await server.shutdown([listener])
        return answer

    assert asyncio.run(dribble()) == b""
