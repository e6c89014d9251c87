"""Waiting for one task, with the errors that the official SDK has for it."""

from __future__ import annotations

from dataclasses import dataclass

from mynth_dagster.client.client import MynthClient
from mynth_dagster.clock import Clock
from mynth_dagster.errors import (
    ApiError,
    NotFoundError,
    PollFetchError,
    PollTimeoutError,
    PollUnauthorizedError,
    RateLimitedError,
    TaskFailedError,
    TaskFetchError,
    UnauthorizedError,
)
from mynth_dagster.limits import POLL_FAILURES_MAX, TASK_DEADLINE_S
from mynth_dagster.models.task import Task, TaskStatus


@dataclass(frozen=True)
class WaitSettings:
    """
    How to wait for a single task; the intervals are the official SDK's.

    `fast_interval_s` holds for the first `fast_phase_s`, `slow_interval_s` after it.
    """

    timeout_s: float = TASK_DEADLINE_S
    fast_phase_s: float = 12.0
    fast_interval_s: float = 2.5
    slow_interval_s: float = 5.0
    failures_max: int = POLL_FAILURES_MAX


async def wait_for_task(
    client: MynthClient,
    task_id: str,
    clock: Clock,
    *,
    token: str | None = None,
    settings: WaitSettings = WaitSettings(),
) -> Task:
    """
    Poll one task until it is finished, and read it.

    A token is used for the status until it is refused; then the key, where there is one.
    With a token alone, only the images of the task are known, and none of its times.

    Raises:
        PollTimeoutError: Still pending after `timeout_s`.
        PollUnauthorizedError: Token and key were refused.
        PollFetchError: Too many failed reads in a row.
        TaskFetchError: Finished, but the details cannot be read.
        TaskFailedError: The task ended `failed`.
    """
    started_s, failures = clock.elapsed_s(), 0
    while True:
        waited_s = clock.elapsed_s() - started_s
        if waited_s >= settings.timeout_s:
            raise PollTimeoutError(task_id, f"still pending after {settings.timeout_s:g} s")
        try:
            status = await client.get_status(task_id, token=token)
            failures = 0
        except (UnauthorizedError, NotFoundError) as error:
            if token is None or client.settings.api_key is None:
                raise PollUnauthorizedError(task_id, str(error)) from error
            token = None
            continue
        except RateLimitedError:
            status = TaskStatus.PENDING
        except ApiError as error:
            status, failures = TaskStatus.PENDING, failures + 1
            if failures >= settings.failures_max:
                raise PollFetchError(task_id, f"{failures} reads failed: {error}") from error
        if status.is_final:
            if token is not None and client.settings.api_key is None:
                return await _read_with_token(client, task_id, token, status)
            return await _read_finished(client, task_id)
        await clock.sleep(_interval_s(waited_s, settings))


async def _read_with_token(
    client: MynthClient, task_id: str, token: str, status: TaskStatus
) -> Task:
    """The key's owner alone may read the whole task; why it failed is not told to a token."""
    if status is TaskStatus.FAILED:
        raise TaskFailedError(task_id)
    try:
        images = await client.get_result(task_id, token=token)
    except UnauthorizedError as error:
        raise PollUnauthorizedError(task_id, str(error)) from error
    except ApiError as error:
        raise TaskFetchError(task_id, str(error)) from error
    return Task(task_id, status, created_at_us=0, updated_at_us=0, images=images)


async def _read_finished(client: MynthClient, task_id: str) -> Task:
    try:
        task = await client.get_task(task_id)
    except UnauthorizedError as error:
        raise PollUnauthorizedError(task_id, str(error)) from error
    except ApiError as error:
        raise TaskFetchError(task_id, str(error)) from error
    if task.status is TaskStatus.FAILED:
        raise TaskFailedError(task_id, [(fault.code, fault.message) for fault in task.faults])
    return task


def _interval_s(waited_s: float, settings: WaitSettings) -> float:
    interval_s = (
        settings.fast_interval_s if waited_s < settings.fast_phase_s else settings.slow_interval_s
    )
    return min(interval_s, settings.timeout_s - waited_s)
