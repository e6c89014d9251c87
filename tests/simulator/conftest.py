"""One simulator on a socket for all tests of this folder, started over before each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mynth_dagster.clock import ManualClock
from mynth_dagster.simulator import Scenario, SimulatorServer
from tests.simulator.catcher import Catcher, running_catcher

MODEL = "black-forest-labs/flux.2-dev"
AS_TESTED = {"revision": "2026-08", "progress": "manual"}


class Api:
    """A bare client of the simulated API, in the spelling of one revision."""

    def __init__(self, server: SimulatorServer, client: httpx.Client, revision: str) -> None:
        self.server = server
        self.client = client
        self.revision = revision

    def body(self, prompt: str = "a red kite", **fields: Any) -> dict[str, Any]:
        """A valid body of a generate request."""
        return {"prompt": prompt, "model": MODEL, **fields}

    def post(self, prompt: str = "a red kite", **fields: Any) -> httpx.Response:
        """A generate request."""
        return self.client.post("/image/generate", json=self.body(prompt, **fields))

    def create(self, prompt: str = "a red kite", **fields: Any) -> str:
        """The id of a new task."""
        answer = self.post(prompt, **fields)
        assert answer.status_code == 201, answer.text
        return self.open(answer)[self.word("taskId")]

    def finish(self, prompt: str = "a red kite", **fields: Any) -> dict[str, Any]:
        """The full form of a task made and completed."""
        task_id = self.create(prompt, **fields)
        self.server.complete([task_id])
        return self.detail(task_id)

    def detail(self, task_id: str) -> dict[str, Any]:
        """The full form of a task."""
        return self.get(f"/tasks/{task_id}")

    def get(self, path: str, **options: Any) -> Any:
        """The payload of a successful GET, out of its envelope."""
        answer = self.client.get(path, **options)
        assert answer.status_code == 200, answer.text
        return self.open(answer)

    def open(self, answer: httpx.Response) -> Any:
        """A payload out of its envelope, if the revision has one."""
        return answer.json() if self.revision == "2026-04" else answer.json()["data"]

    def word(self, camel: str) -> str:
        """A field's name as the revision spells it."""
        if self.revision != "2026-10":
            return camel
        return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", camel)

    def error(self, answer: httpx.Response) -> tuple[int, str]:
        """Status and lower-case code of an error."""
        payload = answer.json()
        nested = payload.get("error")
        code = (nested or payload)["code"]
        assert code == (code.upper() if self.revision == "2026-08" else code.lower())
        return answer.status_code, code.lower()

    def issues(self, answer: httpx.Response) -> list[list[str | int]]:
        """The paths of what is wrong with a request of 2026-10."""
        assert self.error(answer) == (400, "validation_error")
        return [issue["path"] for issue in answer.json()["error"]["issues"]]

    def balance(self) -> dict[str, str]:
        """What ``GET /balance`` says."""
        return self.get("/balance")


@pytest.fixture(scope="session")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(Scenario(progress="manual"), clock=ManualClock()) as server:
        yield server


@pytest.fixture
def connect(server: SimulatorServer) -> Iterator[Callable[..., Api]]:
    """Starts the simulator over under a scenario and gives a client for it."""
    clients: list[httpx.Client] = []

    def connect(key: str | None = "mak_simulator", *, reset: bool = True, **changes: Any) -> Api:
        if reset:
            server.reset(Scenario.from_dict({**AS_TESTED, **changes}))
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=server.url, headers=headers, verify=False, trust_env=False)
        clients.append(client)
        return Api(server, client, server.scenario.revision)

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def api(connect: Callable[..., Api]) -> Api:
    """A client of revision 2026-08, tasks completed by hand."""
    return connect()


@pytest.fixture
def old_api(connect: Callable[..., Api]) -> Api:
    """A client of revision 2026-04, tasks completed by hand."""
    return connect(revision="2026-04")


@pytest.fixture
def new_api(connect: Callable[..., Api]) -> Api:
    """A client of revision 2026-10, tasks completed by hand."""
    return connect(revision="2026-10")


@pytest.fixture(params=["2026-04", "2026-08"])
def earlier_api(request: pytest.FixtureRequest, connect: Callable[..., Api]) -> Api:
    """A client of each revision that has what 2026-10 gave up."""
    return connect(revision=request.param)


@pytest.fixture(params=["2026-04", "2026-08", "2026-10"])
def any_api(request: pytest.FixtureRequest, connect: Callable[..., Api]) -> Api:
    """A client of each revision in turn."""
    return connect(revision=request.param)


@pytest.fixture(scope="module")
def listening() -> Iterator[Catcher]:
    """One catcher for the webhooks of a module."""
    with running_catcher() as catcher:
        yield catcher


@pytest.fixture
def catcher(listening: Catcher) -> Catcher:
    """Empty, whatever came for the test before."""
    listening.caught.queue.clear()
    listening.answers.queue.clear()
    return listening
