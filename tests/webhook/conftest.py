"""The receiver in this process, on a ledger on disk, with a clock that stands still."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa

from mynth_dagster.clock import US_PER_S, ManualClock
from mynth_dagster.ledger import Ledger
from mynth_dagster.webhook import create_app
from mynth_dagster.wire.signatures import Stamp, sign, sign_standard

SECRET = "wbs_the_secret_in_use"
OLD_SECRET = "wbs_the_secret_before"
NEW_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""Of the newer form: a public one, from the test vector of Standard Webhooks."""

EVENT_ID = "evt_1"
TOKEN = "a-long-token-in-the-url"
DONE = "task.image.generate.completed"


def event_body(task_id: str = "tsk_1", event: str = DONE, **fields: Any) -> bytes:
    """The bytes of an event."""
    return orjson.dumps({"event": event, "task": {"id": task_id}, "request": {}, **fields})


def new_body(event_id: str = EVENT_ID, event: str = DONE, **task: Any) -> bytes:
    """The bytes of an event in the newer form; fields of its task by keyword."""
    kind, _, status = event.removeprefix("task.").rpartition(".")
    at = "2026-11-18T12:26:40.000Z"
    whole = {
        "id": "tsk_1",
        "type": kind,
        "status": status,
        "request": {"prompt": "x"},
        "result": None,
        "errors": None,
        "cost": None,
        "created_at": at,
        "updated_at": at,
        **task,
    }
    return orjson.dumps({"id": event_id, "type": event, "timestamp": at, "data": whole})


def new_headers(
    body: bytes, *, secret: str = NEW_SECRET, at_s: int, event_id: str = EVENT_ID
) -> list[tuple[str, str]]:
    """The headers of a signed delivery in the newer form."""
    stamp = Stamp(event_id, str(at_s))
    return [
        ("webhook-id", event_id),
        ("webhook-timestamp", stamp.timestamp),
        ("webhook-signature", sign_standard(body, secret, stamp)),
    ]


class Post:
    """What Mynth sends to a receiver, and what the ledger has of it."""

    def __init__(self, ledger_url: str, clock: ManualClock, **settings: Any) -> None:
        self.clock = clock
        self.ledger_url = ledger_url
        self.settings: dict[str, Any] = {"secrets": [SECRET], "tokens": [TOKEN], **settings}

    @property
    def now_s(self) -> int:
        return self.clock.now_us() // US_PER_S

    def signed(self, body: bytes, *, secret: str = SECRET, off_s: int = 0) -> dict[str, Any]:
        """A request with a signature made so many seconds from now."""
        header = sign(body, secret, at_s=self.now_s + off_s)
        return {"content": body, "headers": [("X-Mynth-Signature", header)]}

    def standard(self, body: bytes, *, off_s: int = 0, **options: Any) -> dict[str, Any]:
        """The same in the newer form."""
        headers = new_headers(body, at_s=self.now_s + off_s, **options)
        return {"content": body, "headers": headers}

    def send(self, *requests: dict[str, Any], app: Any = None) -> list[httpx.Response]:
        """These requests at once, to a receiver that is opened and closed around them."""

        async def all_of_them() -> list[httpx.Response]:
            receiver = app or create_app(self.ledger_url, clock=self.clock, **self.settings)
            transport = httpx.ASGITransport(receiver, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
                answers = [
                    client.request(r.pop("method", "POST"), r.pop("path", "/"), **r)
                    for r in map(dict, requests)
                ]
                done = await asyncio.gather(*answers)
            if app is None:
                await receiver.close()
            return list(done)

        return asyncio.run(all_of_them())

    def statuses(self, *requests: dict[str, Any]) -> list[int]:
        return [answer.status_code for answer in self.send(*requests)]

    def deliver(self, body: bytes, **options: Any) -> int:
        """A signed delivery; its status."""
        return self.statuses(self.signed(body, **options))[0]

    def rows(
        self, statement: str = "SELECT event_id, is_signed, body FROM webhook_events"
    ) -> list[Any]:
        engine = sa.create_engine(self.ledger_url)
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(sa.text(statement))]
        engine.dispose()
        return found

    def execute(self, statement: str) -> None:
        engine = sa.create_engine(self.ledger_url)
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger to copy: making one takes as long as ten deliveries."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    Ledger.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def post(tmp_path: Path, empty_ledger: Path) -> Callable[..., Post]:
    """Opens a receiver's world; settings by keyword."""

    def open_world(**settings: Any) -> Post:
        path = tmp_path / "ledger.db"
        if not path.exists():
            shutil.copy(empty_ledger, path)
        return Post(f"sqlite:///{path}", ManualClock(), **settings)

    return open_world
