"""The receiver as users run it, a process of its own on a port of its own; or a thread."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from mynth_dagster.clock import SystemClock
from mynth_dagster.webhook.app import WebhookApp, WebhookSettings
from mynth_dagster.webhook.server import _configure

SECRET = "wbs_simulator"
NEW_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKEN = "a-long-token-in-the-url"


class Receiver:
    """Started, killed and started again on the same port."""

    def __init__(self, root: Path, ledger_url: str) -> None:
        self.root = root
        self.ledger_url = ledger_url
        self.port = _free_port()
        self.module = "mynth_dagster.cli"
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return once it listens."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", self.module, "webhook"),
                *("--root", str(self.root), "--ledger", self.ledger_url),
                *("--port", str(self.port)),
            ],
            env={
                **os.environ,
                "MYNTH_WEBHOOK_SECRET": NEW_SECRET,
                "MYNTH_WEBHOOK_SECRET_PREVIOUS": SECRET,
                "MYNTH_WEBHOOK_TOKEN": TOKEN,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if self.url not in line:
            _, said = self._process.communicate(timeout=30)
            raise AssertionError(f"the receiver did not start: {line}{said}")

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is closed."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate(timeout=30)
        self._process = None

    def wait(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        assert self._process is not None
        self._process.communicate(timeout=30)
        code = self._process.returncode
        self._process = None
        return code

    def stop(self) -> tuple[int, str]:
        """SIGTERM; exit code and what it said on stderr."""
        assert self._process is not None
        self._process.terminate()
        _, said = self._process.communicate(timeout=30)
        code = self._process.returncode
        self._process = None
        return code, said

    @property
    def is_running(self) -> bool:
        return self._process is not None


@contextmanager
def receiver(root: Path, ledger_url: str) -> Iterator[Receiver]:
    """A receiver that is not started yet, and is gone in the end."""
    made = Receiver(root, ledger_url)
    try:
        yield made
    finally:
        if made.is_running:
            made.kill()


@contextmanager
def receiver_thread(ledger_url: str) -> Iterator[str]:
    """A receiver in this process, where nothing depends on how it starts or ends; its URL."""
    app = WebhookApp(
        WebhookSettings(ledger_url, secrets=[NEW_SECRET, SECRET], tokens=[TOKEN]), SystemClock()
    )
    server = uvicorn.Server(_configure(app))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def serve() -> None:
            await app.start()
            await server.serve([listener])
            await app.close()

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
