"""`mynth-dagster task`: wait for one task, with its public access token or the key."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import typer
from rich.console import Console

from mynth_dagster.cli.failing import errors_as_exit_codes, say_json
from mynth_dagster.cli.options import BaseUrl, Revision
from mynth_dagster.client.client import MynthClient, WaitSettings, wait_for_task
from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.session import find_revision
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import TASK_DEADLINE_S
from mynth_dagster.models.task import Task
from mynth_dagster.wire import AUTO_REVISION, profile_of

TOKEN_VARIABLE = "MYNTH_PUBLIC_ACCESS_TOKEN"  # noqa: S105 - a name, no token


def task(
    task_id: Annotated[str, typer.Argument(help="Mynth's id, tsk_….")],
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for it.")] = TASK_DEADLINE_S,
) -> None:
    """
    Wait for one task and print its images as JSON. Spends nothing, and needs no ledger.

    A public access token is read from MYNTH_PUBLIC_ACCESS_TOKEN, the API key from MYNTH_API_KEY;
    where both are given and the token is refused, the key is used.
    """
    with errors_as_exit_codes(Console(stderr=True)):
        token, key = os.environ.get(TOKEN_VARIABLE), os.environ.get("MYNTH_API_KEY")
        if not token and not key:
            reason = "neither it nor MYNTH_API_KEY is set in the environment"
            raise ConfigError(TOKEN_VARIABLE, reason)
        settings = ClientSettings(base_url=base_url, api_key=key or None, concurrency=1)
        found = asyncio.run(_wait(settings, api_revision, task_id, token or None, timeout))
    say_json(_in_json(found))


async def _wait(
    settings: ClientSettings, revision: str, task_id: str, token: str | None, timeout_s: float
) -> Task:
    clock = SystemClock()
    if revision == AUTO_REVISION:
        revision = await find_revision(settings)
    client = MynthClient(settings, profile_of(revision), clock)
    try:
        wait = WaitSettings(timeout_s=timeout_s)
        return await wait_for_task(client, task_id, clock, token=token, settings=wait)
    finally:
        await client.aclose()


def _in_json(found: Task) -> dict[str, Any]:
    return {
        "task_id": found.task_id,
        "status": found.status.value,
        "images": [
            {
                "index": image.index,
                "url": image.url,
                "width": image.width,
                "height": image.height,
                "error": image.fault.code if image.fault else None,
            }
            for image in found.images
        ],
    }
